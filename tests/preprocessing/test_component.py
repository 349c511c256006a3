"""The face, run in a small pipeline by the local runner."""

import json

import pytest
from kfp import dsl, local

from components.preprocessing.component import preprocess
from components.settings import DEFAULTS, names_of


@pytest.mark.timeout(120)
def test_the_face_joins_shards_and_hands_the_digest_on(data, tmp_path):
    rows = data.media()
    shards = [data.frames(rows[number::2]) for number in range(2)]
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))

    @dsl.component(install_kfp_package=False)
    def frames_of(path: str, frames: dsl.Output[dsl.Dataset]):
        import shutil

        shutil.copytree(path, frames.path)

    @dsl.component(install_kfp_package=False)
    def digest_of(dataset: dsl.Input[dsl.Dataset]) -> str:
        return dataset.metadata["digest"]

    @dsl.pipeline
    def small(paths: list) -> str:
        with dsl.ParallelFor(paths) as path:
            shard = frames_of(path=path)
        settings = {name: DEFAULTS[name] for name in names_of("preprocess")}
        step = preprocess(frames=dsl.Collected(shard.outputs["frames"]), **settings)
        return digest_of(dataset=step.outputs["dataset"]).output

    run = small(paths=[str(shard) for shard in shards])
    card = json.loads(next((tmp_path / "root").rglob("preprocess/dataset/dataset.json")).read_text())
    assert run.output == card["digest"]
    assert card["rows"] == len(rows)
