"""A disk that is full in the middle of work: one line, nothing half there, and a repeat that completes."""

import pytest

from components.dataset import Dataset
from components.extraction.extract import extract
from components.records import open_records
from pipelines.commands.main import main

pytestmark = pytest.mark.servers  # mounts a file system of its own, and starts the readers' processes


def test_an_ingest_that_no_longer_fits_leaves_nothing_and_is_repeated(small_disk, home, tiny_media, capsys):
    disk = small_disk("300k")
    command = ["extract", str(tiny_media), "--output", str(disk.place / "frames"), "--view", "resize48"]
    assert main(command) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ai-vs-real: ")]
    assert len(said) == 1
    assert "No space left on device; free space there" in said[0]
    assert list(disk.place.iterdir()) == []
    disk.enlarge()
    assert main(command) == 0
    paths = Dataset(disk.place / "frames").column("path").tolist()
    assert len(paths) == len(set(paths)) == 60


def test_records_that_no_longer_fit_are_repeated_without_gaps_and_doubles(
    small_disk, home, tiny_media, tmp_path, capsys, monkeypatch
):
    disk = small_disk("300k")
    extract(str(tiny_media), tmp_path / "frames", view="resize32")
    monkeypatch.setenv("AI_VS_REAL_HOME", str(disk.place))
    with open_records() as records:
        records.put("runs", {"_id": "before", "type": "pipeline", "outcome": "completed"})
    (disk.place / "other").write_bytes(bytes(130_000))  # somebody else's: there is hardly room left
    command = ["preprocess", str(tmp_path / "frames"), "--output", str(tmp_path / "dataset"), "--overwrite"]
    assert main(command) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ai-vs-real: ")]
    assert len(said) == 1
    assert "records.db" in said[0]
    assert "free space there" in said[0]
    with open_records() as records:
        assert records.count("runs") == 1
        assert records.count("media") == 0
    disk.enlarge()
    for _ in range(2):
        assert main(command) == 0
        with open_records() as records:
            assert records.count("runs") == records.count("datasets") == 1
            assert records.count("media", {"status": "accepted"}) == 60
