"""Labelled media, good and bad, to a dataset of views."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset import Dataset
from components.errors import InputError
from components.extraction import extract as stage
from components.extraction.extract import extract, listing
from components.media.ffmpeg import ffmpeg_executable


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Pictures and clips of both labels."""
    root = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for folder in ("real/canon", "fake/sdxl"):
        (root / folder).mkdir(parents=True)
        for number in range(5):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            coarse.resize((160, 120)).save(root / folder / f"{number}.jpg", quality=90)
    for label, source in (("real", "testsrc"), ("fake", "testsrc2")):
        (root / label / "clips").mkdir()
        pattern = f"{source}=size=96x64:rate=10:duration=1"
        command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", pattern, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, root / label / "clips" / "a.mp4"], check=True)
    return root


def rows(dataset: Dataset) -> list[dict]:
    """The manifest with the views' sum, in an order that does not depend on the shards."""
    found = dataset.manifest.to_pylist()
    for index, row in enumerate(found):
        row["views"] = dataset.views([index]).tobytes()
    return sorted(found, key=lambda row: (row["path"], row["time_s"] or 0))


def test_every_file_becomes_rows(media, tmp_path):
    card = extract(str(media), tmp_path / "frames", sampling="even:4", view="resize32")
    assert (card["files"], card["rejected"]) == (12, 0)
    dataset = Dataset(tmp_path / "frames")
    assert (dataset.card["view"], dataset.card["sampling"], dataset.card["delivery"]) == ("resize32", "even:4", "as-is")
    assert len(dataset) == 18
    table = dataset.manifest.to_pylist()
    assert {(row["label"], row["source"], row["kind"]) for row in table} == {
        (label, source, kind)
        for label, source, kind in [
            (0, "canon", "picture"),
            (0, "clips", "frame"),
            (1, "sdxl", "picture"),
            (1, "clips", "frame"),
        ]
    }
    clip = [row for row in table if row["path"] == "real/clips/a.mp4"]
    assert [row["time_s"] for row in clip] == [0.2, 0.4, 0.7, 0.9]
    assert {row["group"] for row in clip} == {"real/clips/a.mp4"}
    picture = next(row for row in table if row["kind"] == "picture")
    assert picture["group"] == picture["content_sha256"]
    assert {row["weight"] for row in table} == {1.0}
    assert {row["split"] for row in table} == {""}
    assert dataset.views(range(18)).std() > 30


def test_shards_joined_are_the_whole(media, tmp_path):
    extract(str(media), tmp_path / "whole", view="resize32", delivery="common")
    whole = rows(Dataset(tmp_path / "whole"))
    for count in (2, 5):
        joined = []
        for number, shard in reversed(list(enumerate(listing(str(media), count)))):
            extract(str(media), tmp_path / str(number), view="resize32", delivery="common", shard=shard)
            joined += rows(Dataset(tmp_path / str(number)))
        assert sorted(joined, key=lambda row: (row["path"], row["time_s"] or 0)) == whole


def test_a_given_group_and_split_are_kept(media, tmp_path):
    lines = ["path,label,source,group,split"]
    lines += [f"{media}/real/canon/{n}.jpg,real,eos,person {n // 2},train" for n in range(4)]
    lines += [f"{media}/fake/clips/a.mp4,fake,,prompt,test"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    extract(str(tmp_path / "list.csv"), tmp_path / "frames", view="resize32")
    table = Dataset(tmp_path / "frames").manifest.to_pylist()
    assert {(row["source"], row["group"], row["split"]) for row in table} == {
        ("eos", "person 0", "train"), ("eos", "person 1", "train"), ("clips", "prompt", "test")
    }  # fmt: skip


def test_bad_files_are_counted_named_and_skipped(media, tmp_path):
    root = tmp_path / "media"
    (root / "real").mkdir(parents=True)
    (root / "fake").mkdir()
    good = (media / "real" / "canon" / "0.jpg").read_bytes()
    (root / "real" / "good.jpg").write_bytes(good)
    (root / "real" / "good but called.png").write_bytes(good)
    (root / "fake" / "good.mp4").write_bytes((media / "fake" / "clips" / "a.mp4").read_bytes())
    (root / "real" / "empty.jpg").touch()
    (root / "real" / "half.jpg").write_bytes(good[: len(good) // 2])
    (root / "fake" / "text.jpg").write_text("I am not a picture\n")
    (root / "fake" / "half.mp4").write_bytes((media / "fake" / "clips" / "a.mp4").read_bytes()[:2000])
    os.mkfifo(root / "fake" / "pipe.jpg")  # opening it would wait for ever
    card = extract(str(root), tmp_path / "frames", view="resize32")
    assert (card["files"], card["rejected"]) == (8, 5)
    dataset = Dataset(tmp_path / "frames")
    assert set(dataset.column("path")) == {"real/good.jpg", "real/good but called.png", "fake/good.mp4"}
    rejected = {row["path"]: (row["reason"], row["label"], row["source"]) for row in dataset.rejections.to_pylist()}
    assert rejected == {
        "real/empty.jpg": ("empty", 0, "real"),
        "real/half.jpg": ("truncated", 0, "real"),
        "fake/text.jpg": ("not media", 1, "fake"),
        "fake/half.mp4": ("truncated", 1, "fake"),
        "fake/pipe.jpg": ("not media", 1, "fake"),
    }
    assert all(row["detail"] for row in dataset.rejections.to_pylist())


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path):
    for label in ("real", "fake"):
        (tmp_path / "m" / label).mkdir(parents=True)
        (tmp_path / "m" / label / "a.jpg").write_text("x")
    with pytest.raises(InputError, match=r"none of the 2 files of .* could be read \(fake/a.jpg: not media") as caught:
        extract(str(tmp_path / "m"), tmp_path / "out" / "frames")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("policy", ["sampling", "view", "delivery", "tiers", "shard"])
def test_a_wrong_policy_is_refused_before_any_work(media, tmp_path, policy):
    with pytest.raises(InputError, match=f"{policy} is 'nonsense'"):
        extract(str(media), tmp_path / "frames", **{policy: "nonsense"})
    assert not (tmp_path / "frames").exists()


def test_changed_media_are_not_taken_for_what_was_listed(media, tmp_path):
    with pytest.raises(InputError, match="changed after they were listed"):
        extract(str(media), tmp_path / "frames", shard="0/2@" + "0" * 64)


def test_a_long_clip_is_read_in_pieces_not_ahead(media, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "AHEAD_BYTES", 1)  # one row ahead of each file
    extract(str(media), tmp_path / "pieces", view="resize32")
    monkeypatch.undo()
    extract(str(media), tmp_path / "whole", view="resize32")
    assert rows(Dataset(tmp_path / "pieces")) == rows(Dataset(tmp_path / "whole"))


def test_interrupted_work_leaves_nothing(media, tmp_path):
    """A process that is stopped in the middle leaves no directory, no FFmpeg and no half a dataset."""
    code = (
        "import sys, signal, os\nfrom pathlib import Path\nfrom components.extraction import extract as stage\n"
        "rows = stage._manifest_row\n"
        "def stop(item, about):\n    os.kill(os.getpid(), signal.SIGINT)\n    return rows(item, about)\n"
        "stage._manifest_row = stop\nstage.extract(sys.argv[1], Path(sys.argv[2]), view='resize32')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(media), str(tmp_path / "out" / "frames")],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert os.listdir(tmp_path / "out") == []


def test_the_real_media(shared, tmp_path):
    lines = ["path,label"]
    for folder, label in (("real/ffhq", 0), ("fake/sdxl", 1), ("fake/clips", 1)):
        lines += [f"{file},{label}" for file in sorted((shared / "media" / folder).iterdir())[:4]]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    card = extract(str(tmp_path / "list.csv"), tmp_path / "frames", view="both224x2:texture")
    assert (card["files"], card["rejected"]) == (12, 0)
    dataset = Dataset(tmp_path / "frames")
    assert dataset.view_shape == (3, 224, 224, 3)
    assert len(dataset) == 8 + 4 * 8
    assert set(dataset.column("source")) == {"ffhq", "sdxl", "clips"}


def test_each_file_is_kept_in_every_tier(media, tmp_path):
    extract(str(media), tmp_path / "one", sampling="even:2", view="crops64x2")
    extract(str(media), tmp_path / "clean", sampling="even:2", view="crops64x2", tiers="clean")
    dataset, clean = Dataset(tmp_path / "one"), Dataset(tmp_path / "clean")
    assert dataset.tiers == ["clean", "web", "hard"]
    every = np.arange(len(dataset))
    assert (dataset.views(every) == clean.views(every)).all()
    stored = dataset.stored(every)
    for number, tier in enumerate(dataset.tiers):
        assert (dataset.views(every, tier) == stored[:, 2 * number : 2 * number + 2]).all()
    assert (dataset.views(every, "web") != dataset.views(every)).any(axis=(1, 2, 3, 4)).all()
    deliveries = dataset.manifest.column("deliveries").to_pylist()
    assert all(clean == "" and web and hard for clean, web, hard in deliveries)
    frames = [row for row in dataset.manifest.to_pylist() if row["kind"] == "frame"]
    assert len({(row["path"], *row["deliveries"]) for row in frames}) == len({row["path"] for row in frames})
