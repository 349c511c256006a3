"""The script of the backup job, against a real server of MongoDB's protocol."""

import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import bson
import pymongo
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "manifests" / "third-party" / "mongodb" / "backup.py"


@pytest.fixture
def database(mongodb):
    """A database of one's own, and a function that runs the script on it."""
    uri = f"{mongodb}/records_{uuid.uuid4().hex}"

    def backup(*arguments):
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        return subprocess.run(
            command, env={**os.environ, "MONGODB_URI": uri}, capture_output=True, text=True, check=False
        )

    with pymongo.MongoClient(uri) as client:
        yield client.get_default_database(), backup


def contents(database):
    return {name: list(database[name].find().sort("_id")) for name in database.list_collection_names()}


def test_what_was_dumped_comes_back(database, tmp_path):
    records, backup = database
    records["runs"].insert_many(
        [{"_id": f"run-{n}", "seconds": n / 7, "at": datetime(2026, 1, 1, tzinfo=UTC)} for n in range(2500)]
    )
    records["promotions"].insert_one({"_id": "p", "numbers": [1, 2.5, None, True], "nested": {"ä": "ö"}})
    before = contents(records)
    done = backup("dump", tmp_path)
    assert done.returncode == 0, done.stderr
    dump = Path(done.stdout.strip())
    assert sorted(file.name for file in dump.iterdir()) == ["promotions.bson", "runs.bson"]
    assert len(bson.decode_all((dump / "runs.bson").read_bytes())) == 2500  # as mongorestore reads it

    for name in before:
        records[name].drop()
    done = backup("restore", dump)
    assert done.stdout.strip() == "{'promotions': 1, 'runs': 2500}", done.stderr
    assert contents(records) == before


def test_what_is_there_is_not_overwritten_unasked(database, tmp_path):
    records, backup = database
    records["runs"].insert_one({"_id": "old"})
    dump = backup("dump", tmp_path).stdout.strip()
    records["runs"].insert_one({"_id": "new"})
    done = backup("restore", dump)
    assert done.returncode == 1
    assert "runs holds documents; give --drop" in done.stderr
    assert {document["_id"] for document in records["runs"].find()} == {"old", "new"}
    assert backup("restore", dump, "--drop").returncode == 0
    assert [document["_id"] for document in records["runs"].find()] == ["old"]


def test_only_the_newest_dumps_are_kept(database, tmp_path):
    records, backup = database
    records["runs"].insert_one({"_id": "one"})
    dumps = []
    for _ in range(3):
        dumps.append(Path(backup("dump", tmp_path, "--keep", 2).stdout.strip()))
        time.sleep(1.1)  # the name is the second
    assert sorted(tmp_path.iterdir()) == dumps[1:]


def test_a_directory_without_a_dump_is_refused(database, tmp_path):
    _, backup = database
    done = backup("restore", tmp_path)
    assert done.returncode == 1
    assert "holds no dump" in done.stderr
