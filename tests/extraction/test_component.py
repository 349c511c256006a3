"""The Kubeflow face, run in a small pipeline."""

import builtins

from kfp import dsl, local

from components.dataset import Dataset
from components.extraction.component import extract_frames, list_media


@dsl.component(install_kfp_package=False)
def shapes(frames: dsl.Input[list[dsl.Dataset]]) -> list[str]:
    """Say how many rows each shard has."""
    from components.dataset import Dataset

    return [f"{len(Dataset(artifact.path))} rows at {artifact.path}" for artifact in frames]


@dsl.pipeline
def extraction(media: str) -> list[str]:
    """List, extract in shards, collect."""
    listing = list_media(media=media, shards=3)
    with dsl.ParallelFor(listing.output) as shard:
        task = extract_frames(
            media=media, shard=shard, sampling="even:2", view="resize32", delivery="as-is", tiers="clean"
        )
    return shapes(frames=dsl.Collected(task.outputs["frames"])).output


def test_the_face_extracts_in_shards(tiny_media, tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "print", print)  # put back afterwards: shards that run together can leave kfp's own
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), raise_on_error=True)
    counted = extraction(media=str(tiny_media)).output
    assert [text.partition(" at ")[0] for text in counted] == ["20 rows"] * 3
    paths = [Dataset(text.partition(" at ")[2]).column("path") for text in counted]
    assert sum(len(set(part)) for part in paths) == 60
