"""Versions of datasets with the real DVC, in a real Git repository, on a real remote that wants a password."""

import csv
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from components.dataset import Dataset, DatasetWriter
from components.errors import InputError
from components.versions.difference import difference
from components.versions.repository import DataRepository, dagshub_tracking

pytestmark = pytest.mark.servers
SECRET = "s3cret-of-the-remote"


def write_dataset(directory, files):
    """Write a dataset of one row a file; a file is (path, label, source, group, split, content)."""
    counts = {"files": len(files), "rows": len(files), "splits": {"train": {"files": len(files)}}}
    with DatasetWriter(directory, (1, 8, 8, 3), shard_bytes=192 * 4) as writer:
        writer.card = {"view": "resize8", "certificate": {"holds": True}, "counts": counts, "media": str(directory)}
        for path, label, source, group, split, content in files:
            views = np.random.default_rng(content).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
            row = {"path": path, "label": label, "source": source, "group": group, "split": split, "kind": "picture"}
            writer.append(views, row | {"content_sha256": f"{content:064x}", "pixel_sha256": f"{content:064x}"})
    return directory


FILES = [(f"real/cam/{n}.jpg", 0, "cam", f"g{n}", "train", n) for n in range(8)]
FILES += [(f"fake/gen/{n}.jpg", 1, "gen", f"f{n // 2}", "train", 100 + n) for n in range(8)]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A Git repository with a commit of the user's and a change that the user has staged."""
    root = tmp_path / "repository"
    root.mkdir()
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "somebody@example.org")
    for command in ("init -q", "commit -q --allow-empty -m begin"):
        subprocess.run(["git", "-C", str(root), *command.split()], check=True)
    (root / "theirs.txt").write_text("staged, not committed")
    subprocess.run(["git", "-C", str(root), "add", "theirs.txt"], check=True)
    return root


@contextmanager
def serving(directory, port=0):
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("remote.py")), str(directory), "user", SECRET, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def remote(tmp_path, repository, monkeypatch):
    """A remote that the repository pushes to by default; the password is in the environment alone."""
    monkeypatch.setenv("AI_VS_REAL_DATA_USER", "user")
    monkeypatch.setenv("AI_VS_REAL_DATA_PASSWORD", SECRET)
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "2")
    with serving(tmp_path / "remote") as url:
        DataRepository(repository)._initialise()
        add = [sys.executable, "-m", "dvc", "remote", "add", "--default", "there", url]
        subprocess.run(add, cwd=repository, check=True, capture_output=True)
        yield tmp_path / "remote"


def content_of(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def forget_bytes(repository):
    """What a colleague has: the commits, and no bytes."""
    shutil.rmtree(repository / ".dvc" / "cache")
    for place in (repository / "data").iterdir():
        if place.is_dir():
            shutil.rmtree(place)


def test_a_version_comes_back_bit_for_bit_and_the_users_own_changes_are_left_alone(tmp_path, repository, remote):
    dataset = write_dataset(tmp_path / "dataset", FILES)
    data = DataRepository(repository)
    version = data.snapshot(dataset)
    assert data.snapshot(dataset) == version == Dataset(dataset).version
    assert [(one.version, one.here) for one in data.versions()] == [(version, True)]
    tags = subprocess.check_output(["git", "-C", str(repository), "tag"], text=True).split()
    assert tags == [f"data/{version}"]
    status = subprocess.check_output(["git", "-C", str(repository), "status", "--porcelain"], text=True)
    assert "A  theirs.txt" in status
    sent, place = data.push()
    assert sent == len(content_of(dataset)) + 2  # with the media list and DVC's own list
    assert SECRET not in place
    assert data.push()[0] == 0
    forget_bytes(repository)
    assert [one.here for one in data.versions()] == [False]
    pulled = content_of(data.pull(version[:6], tmp_path / "pulled"))
    rows = list(csv.reader(pulled.pop(Path("media.csv")).decode().splitlines()))
    assert rows[:2] == [["path", "label", "source", "group", "split"], [*rows[1]]]
    assert len(rows) == 1 + len(FILES)
    assert pulled == content_of(dataset)
    kept = b"".join(content_of(repository).values())
    assert SECRET.encode() not in kept


def test_a_push_that_broke_off_says_so_in_a_line_and_goes_on_where_it_was(tmp_path, repository, remote):
    data = DataRepository(repository)
    version = data.snapshot(write_dataset(tmp_path / "dataset", FILES))
    (remote / "behaviour").write_text("cut 3")
    with pytest.raises(InputError, match="repeat the command") as caught:
        data.push()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    first = (remote / "log").read_text().splitlines()
    assert len(first) == 3
    (remote / "behaviour").unlink()
    sent, _ = data.push()
    assert len((remote / "log").read_text().splitlines()) == 3 + sent
    assert len(set((remote / "log").read_text().splitlines())) == 3 + sent  # nothing twice
    forget_bytes(repository)
    assert Dataset(data.pull(version)).version == version


def test_a_wrong_password_a_dead_and_a_silent_remote_are_a_line_each_within_the_bound(
    tmp_path, repository, remote, monkeypatch
):
    data = DataRepository(repository)
    version = data.snapshot(write_dataset(tmp_path / "dataset", FILES))

    def fails(call):
        begun = time.monotonic()
        with pytest.raises(InputError) as caught:
            call()
        assert time.monotonic() - begun < 20
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
        return str(caught.value)

    monkeypatch.setenv("AI_VS_REAL_DATA_PASSWORD", f"{SECRET}-of-old")
    assert "refuses the credentials (HTTP 401)" in fails(data.push)
    monkeypatch.setenv("AI_VS_REAL_DATA_PASSWORD", SECRET)
    (remote / "behaviour").write_text("silent 0")
    assert "does not answer within 2 s" in fails(data.push)
    (remote / "behaviour").write_text("")
    data.push()
    forget_bytes(repository)
    (remote / "behaviour").write_text("garbage")
    fails(lambda: data.pull(version))
    assert not (repository / "data" / version / "dataset.json").exists()
    (remote / "behaviour").write_text("die 0")
    data.snapshot(write_dataset(tmp_path / "another", FILES[1:]))
    assert "repeat the command" in fails(data.push)
    assert "cannot be reached" in fails(data.push)


def test_differences_are_described_in_words_without_fetching_shards(tmp_path, repository, remote):
    data = DataRepository(repository)
    before = data.snapshot(write_dataset(tmp_path / "a", FILES))
    changed = [file for file in FILES if file[0] != "real/cam/0.jpg"]
    changed = [(*file[:4], "test", file[5]) if file[3] == "f1" else file for file in changed]
    changed = [(*file[:5], 999) if file[0] == "real/cam/5.jpg" else file for file in changed]
    changed += [(f"fake/new/{n}.png", 1, "new", f"n{n}", "train", 200 + n) for n in range(3)]
    after = data.snapshot(write_dataset(tmp_path / "b", changed))
    command = [sys.executable, "-m", "pipelines.commands.main", "data", "diff", before, after]
    for _ in range(5):  # it aborted while Python ended, most times, after it had printed all
        done = subprocess.run([*command, "--repository", repository], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    data.push()
    forget_bytes(repository)
    assert difference(data, before, after)["words"] == [
        "Added: 3 files: 3 fake from new.",
        "Removed: 1 file: 1 real from cam.",
        "1 file of the same path with other content.",
        "Moved from train to test: 1 group of 2 files: f1.",
    ]
    assert difference(data, before, before)["words"] == ["Nothing differs in files, labels, sources or splits."]
    assert not (repository / "data" / before).exists()
    with pytest.raises(InputError, match="no data version 'ffffffffffff'"):
        data.pull("f" * 12)


def test_dagshub_takes_data_and_tracking_with_one_token(tmp_path, repository, monkeypatch):
    monkeypatch.setenv("DAGSHUB_USER_TOKEN", SECRET)
    with pytest.raises(InputError, match="USER/REPO"):
        DataRepository(repository, dagshub="user")
    with serving(tmp_path / "hub") as url:
        monkeypatch.setenv("DAGSHUB_CLIENT_HOST", url)
        data = DataRepository(repository, dagshub="user/repository")
        version = data.snapshot(write_dataset(tmp_path / "dataset", FILES))
        assert data.push([version])[0] > 0
        assert "user/repository.dvc" in (tmp_path / "hub" / "log").read_text()
        tracking = dagshub_tracking("user/repository")
        assert tracking["MLFLOW_TRACKING_URI"] == f"{url}/user/repository.mlflow"
        assert (tracking["MLFLOW_TRACKING_USERNAME"], tracking["MLFLOW_TRACKING_PASSWORD"]) == ("user", SECRET)
    assert SECRET.encode() not in b"".join(content_of(repository).values())
    monkeypatch.delenv("DAGSHUB_USER_TOKEN")
    with pytest.raises(InputError, match="DAGSHUB_USER_TOKEN"):
        DataRepository(repository, dagshub="user/repository")


def test_outside_of_a_git_repository_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.path.dirname(tmp_path))
    with pytest.raises(InputError, match="git init"):
        DataRepository(tmp_path)
