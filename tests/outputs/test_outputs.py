"""What is the user's is never overwritten, and what is ours is never half."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components import outputs
from components.errors import InputError
from components.outputs import DATASET, claim, written
from pipelines.commands.main import main


def make(directory: Path, *names: str) -> Path:
    """A directory of small files."""
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["holiday.jpg"], "holds 'holiday.jpg', which is not of a dataset"),
        (["manifest.parquet"], "holds 'manifest.parquet', which is not"),  # without the marker
        (["dataset.json", "thesis.txt"], "holds 'thesis.txt', which is not"),
        ([".hidden"], r"holds '\.hidden', which is not"),
    ],
)
def test_a_directory_of_the_user_is_never_replaced(tmp_path, names, message):
    place = make(tmp_path / "place", *names)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=message) as caught, written(place, DATASET, overwrite=overwrite):
            raise AssertionError("nothing may be begun")
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(place)) == sorted(names)
    assert os.listdir(tmp_path) == ["place"]


def test_ours_is_replaced_only_when_asked(tmp_path):
    place = make(tmp_path / "place", "dataset.json", "shards/00000.npy")
    with pytest.raises(InputError, match="already holds a dataset; replace it with --overwrite"):
        claim(place, DATASET, overwrite=False)
    with written(place, DATASET, overwrite=True) as part:
        make(part, "dataset.json")
    assert os.listdir(place) == ["dataset.json"]
    assert os.listdir(tmp_path) == ["place"]


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_new_an_empty_and_a_linked_directory_are_written(tmp_path, monkeypatch, exchanging):
    if not exchanging:
        monkeypatch.setattr(outputs.sys, "platform", "other")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "old", "dataset.json", "shards/a")
    (tmp_path / "link").symlink_to("old")
    for name in ("new", "empty", "link"):
        with written(tmp_path / name, DATASET) as part:
            make(part, "dataset.json")
        assert os.listdir(tmp_path / name) == ["dataset.json"]
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["empty", "link", "new", "old"]
    with pytest.raises(InputError, match="is a file"):
        claim(tmp_path / "new" / "dataset.json", DATASET, overwrite=True)


@pytest.mark.parametrize(
    ("output", "how"), [("media", "is"), (".", "holds"), ("media/real/out", "lies in"), ("l", "is")]
)
def test_an_output_is_apart_from_every_input(tmp_path, output, how):
    make(tmp_path / "media", "real/a.jpg", "fake/b.jpg")
    (tmp_path / "l").symlink_to("media")
    with pytest.raises(InputError, match=f"{how} the input"):
        claim(tmp_path / output, DATASET, overwrite=True, inputs=["gs://bucket/x", tmp_path / "media"])


def test_extract_into_its_own_media_leaves_them(tiny_media, tmp_path, capsys, monkeypatch):
    """The loss that was found: `extract DIR --output DIR` deleted DIR."""
    media = make(tmp_path / "media", "real/a.jpg", "fake/b.jpg")
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "home"))
    for output in (media, tmp_path):
        assert main(["extract", str(media), "--output", str(output), "--overwrite"]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert sorted(path.name for path in media.rglob("*.jpg")) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("moment", ["_exchanged", "rmtree"])
def test_a_kill_at_the_last_moment_loses_neither(tmp_path, moment):
    place = make(tmp_path / "place", "dataset.json", "shards/old")
    code = (
        "import os, signal, sys\nfrom components import outputs\n"
        "def kill(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"setattr(outputs if {moment!r} == '_exchanged' else outputs.shutil, {moment!r}, kill)\n"
        "with outputs.written(sys.argv[1], outputs.DATASET) as part:\n    (part / 'dataset.json').write_text('new')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=Path(__file__).resolve().parents[2], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    whole = {"dataset.json": "dataset.json"} if moment == "_exchanged" else {"dataset.json": "new"}
    assert (place / "dataset.json").read_text() == whole["dataset.json"]
    texts = {path.read_text() for path in tmp_path.rglob("dataset.json")}
    assert texts == {"dataset.json", "new"}  # each lies whole somewhere


def test_what_a_killed_process_left_is_swept_by_the_next_and_nothing_else(tmp_path):
    place = tmp_path / "place"
    code = (
        "import os, sys, time\nfrom components import outputs\n"
        "with outputs.written(sys.argv[1], outputs.DATASET) as part:\n"
        "    (part / 'dataset.json').write_text('half')\n    print(part.parent, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(place)]
    root = Path(__file__).resolve().parents[2]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        dead, alive = (Path(process.stdout.readline().strip()) for process in started)
        started[0].kill()
        started[0].wait()
        # What a person may have called so, with and without a text of that name in it.
        theirs = make(tmp_path / ".place.thesis.unfinished", "chapter", "unfinished.txt")
        (tmp_path / "linked.unfinished").symlink_to(alive)
        with written(place, DATASET) as part:
            make(part, "dataset.json")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [alive.name, theirs.name, "linked.unfinished", "place"]
        )
        assert (alive / "part" / "dataset.json").read_text() == "half"
        assert not dead.exists()
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()
