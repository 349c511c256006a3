"""One suite that both stores must pass: SQLite, and a server of MongoDB's wire protocol."""

import subprocess
import sys
import time
import uuid

import pytest

from components import records
from components.errors import InputError
from components.records import DuplicateError, MongoRecords, SqliteRecords, open_records


@pytest.fixture(params=["sqlite", "mongodb"])
def address(request, home, monkeypatch):
    """Set one of the stores, empty, and return its kind."""
    if request.param == "mongodb":
        uri = request.getfixturevalue("mongodb")
        monkeypatch.setenv("MONGODB_URI", f"{uri}/test_{uuid.uuid4().hex}")
    return request.param


@pytest.fixture
def store(address):
    with open_records() as opened:
        yield opened


def names(documents):
    return [document["_id"] for document in documents]


def test_the_environment_chooses_the_store(address, store):
    assert isinstance(store, SqliteRecords if address == "sqlite" else MongoRecords)


def test_a_document_comes_back_as_it_went_in(store):
    document = {
        "_id": "a",
        "at": "2026-01-02T03:04:05.000000+00:00",
        "numbers": {"roc_auc": 0.875, "n": 2**40, "by.source": {"stylegan2.ada": [1, 2.5, None]}},
        "promoted": False,
        "reasons": ["gute Gründe", "\u2265 0.5"],
        "nothing": None,
        "empty": {},
    }
    store.put("runs", document)
    assert store.get("runs", "a") == document
    assert store.get("runs", "b") is None
    assert store.get("datasets", "a") is None


def test_putting_twice_replaces_and_keeps_one(store):
    store.put("runs", {"_id": "a", "old": 1, "state": "begun"})
    store.put("runs", {"_id": "a", "state": "done"})
    assert store.count("runs") == 1
    found = store.get("runs", "a")
    assert found.pop("at")
    assert found == {"_id": "a", "state": "done"}


def test_appending_twice_is_refused_and_changes_nothing(store):
    store.append("promotions", {"_id": "1", "version": "1"})
    with pytest.raises(DuplicateError, match="'1'"):
        store.append("promotions", {"_id": "1", "version": "2"})
    assert store.get("promotions", "1")["version"] == "1"


def test_many_documents_at_once(store):
    store.put("media", {"_id": "7", "status": "rejected"})
    store.put_many("media", ({"_id": str(i), "status": "accepted"} for i in range(500)))
    store.put_many("media", [])
    assert store.count("media") == 500
    assert store.count("media", {"status": "rejected"}) == 0


def test_newest_first_and_as_many_as_asked(store):
    for day, name in [(3, "c"), (1, "a"), (2, "b"), (3, "d")]:
        store.put("runs", {"_id": name, "at": f"2026-01-0{day}T00:00:00.000000+00:00"})
    assert names(store.find("runs")) == ["d", "c", "b", "a"]
    assert names(store.find("runs", limit=2)) == ["d", "c"]
    store.put("runs", {"_id": "e"})
    assert names(store.find("runs", limit=1)) == ["e"]


def test_equality_by_kind_of_value(store):
    for field, values in {"number": [0, 1, 1.0, 2.5], "flag": [True, False], "text": ["1", "", "it's", "$x"]}.items():
        store.put_many("runs", [{"_id": f"{field} {value}", "in": {field: value}} for value in values])
    store.put("runs", {"_id": "null", "in": {"text": None, "number": None}})

    def found(field, value):
        assert store.count("runs", {field: value}) == len(store.find("runs", {field: value}))
        return set(names(store.find("runs", {field: value})))

    assert found("in.number", 1) == {"number 1", "number 1.0"}
    assert found("in.number", 2.5) == {"number 2.5"}
    assert found("in.flag", True) == {"flag True"}
    assert found("in.flag", False) == {"flag False"}
    assert found("in.text", "1") == {"text 1"}
    assert found("in.text", "it's") == {"text it's"}
    assert found("in.text", "2") == set()


def test_all_conditions_must_hold(store):
    store.put_many("media", [{"_id": f"{a}{b}", "a": a, "b": b} for a in "xy" for b in "xy"])
    assert names(store.find("media", {"a": "x", "b": "y"})) == ["xy"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_json_is_refused(store, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put("runs", {"_id": "a", "auc": value})
    assert store.count("runs") == 0


def test_unknown_collections_and_missing_names_are_refused(store):
    with pytest.raises(ValueError, match="models"):
        store.put("models", {"_id": "a"})
    with pytest.raises(ValueError, match="_id"):
        store.put("runs", {"version": 1})


def test_records_outlive_the_process(address):
    code = "import os; from components.records import *; open_records().append('runs', {'_id': 'a'}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with open_records() as store:
        assert store.count("runs") == 1


def test_two_processes_may_write_at_once(address):
    code = (
        "import sys; from components.records import open_records\n"
        "with open_records() as store:\n"
        "    for i in range(40): store.append('runs', {'_id': f'{sys.argv[1]}-{i}'})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_records() as store:
        assert store.count("runs") == 80


def test_mongodb_that_does_not_answer_is_one_line_without_the_password(home, silent_address, monkeypatch):
    monkeypatch.setattr(records, "PATIENCE_S", 0.5)
    monkeypatch.setenv("MONGODB_URI", f"mongodb://someone:secret@{silent_address}/records")
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_records()
    message = str(caught.value)
    assert time.monotonic() - begun < 30  # far under a client's patience, which is minutes
    assert "MONGODB_URI" in message
    assert silent_address in message
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize("uri", ["http://127.0.0.1:27017", "mongodb://", "mongodb://a:b:c@d"])
def test_an_address_that_is_none_is_one_line(home, monkeypatch, uri):
    monkeypatch.setenv("MONGODB_URI", uri)
    with pytest.raises(InputError, match="MONGODB_URI"):
        open_records()


def test_a_file_that_is_no_database_is_one_line(home):
    home.mkdir()
    (home / "records.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(InputError, match="AI_VS_REAL_HOME"):
        open_records()
