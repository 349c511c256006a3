"""One suite that every store must pass: SQLite, and servers of MongoDB's wire protocol."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

from components.errors import InputError
from components.record_schemas import COLLECTIONS, SchemaError, validate
from components.records import DuplicateError, MongoRecords, SqliteRecords, open_records

GIVEN = os.environ.get("MONGODB_URI")  # of a server to hold to the suite as well
SERVERS = ["mongodb", pytest.param("ferretdb", marks=pytest.mark.servers), *(["given"] if GIVEN else [])]


@pytest.fixture(params=["sqlite", *SERVERS])
def address(request, home, monkeypatch):
    """Set one of the stores, empty, and return its kind."""
    if request.param != "sqlite":
        uri = GIVEN if request.param == "given" else request.getfixturevalue(request.param)
        monkeypatch.setenv("MONGODB_URI", with_database(uri, f"test_{uuid.uuid4().hex[:12]}"))
    return request.param


def with_database(uri, name):
    place, _, options = uri.partition("?")
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}" + (f"?{options}" if options else "")


def run(name, **more):
    return {"_id": name, "type": "pipeline", **more}


def file(name, **more):
    return {"_id": f"d/{name}", "dataset": "d", "path": name, "status": "accepted", **more}


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
        "type": "training",
        "at": "2026-01-02T03:04:05.000000+00:00",
        "numbers": {"roc_auc": 0.875, "n": 2**40, "by.source": {"stylegan2.ada": [1, {"$cost": 2.5}]}},
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
    store.put("runs", run("a", old=1, outcome="running"))
    store.put("runs", run("a", outcome="completed"))
    assert store.count("runs") == 1
    found = store.get("runs", "a")
    assert found.pop("at")
    assert found == run("a", outcome="completed")


def test_appending_twice_is_refused_and_changes_nothing(store):
    store.append("promotions", {"_id": "1", "type": "event", "name": "m", "version": "1"})
    with pytest.raises(DuplicateError, match="'1'"):
        store.append("promotions", {"_id": "1", "type": "event", "name": "m", "version": "2"})
    assert store.get("promotions", "1")["version"] == "1"


def test_many_documents_at_once(store):
    store.put("media", file("7", status="rejected"))
    store.put_many("media", (file(str(i)) for i in [*range(2500), 3, 2400]))
    store.put_many("media", [])
    assert store.count("media") == 2500
    assert store.count("media", {"status": "rejected"}) == 0
    assert sorted(names(store.scan("media"))) == sorted(f"d/{i}" for i in range(2500))
    assert names(store.scan("media", {"path": "12"})) == ["d/12"]


def test_newest_first_and_as_many_as_asked(store):
    for day, name in [(3, "c"), (1, "a"), (2, "b"), (3, "d")]:
        store.put("runs", run(name, at=f"2026-01-0{day}T00:00:00.000000+00:00"))
    assert names(store.find("runs")) == ["d", "c", "b", "a"]
    assert names(store.find("runs", limit=2)) == ["d", "c"]
    assert names(store.find("runs", since="2026-01-02T00:00:00.000000+00:00", until="2026-01-03")) == ["b"]
    store.put("runs", run("e"))
    assert names(store.find("runs", limit=1)) == ["e"]


def test_equality_by_kind_of_value(store):
    for field, values in {"number": [0, 1, 1.0, 2.5], "flag": [True, False], "text": ["1", "", "it's", "$x"]}.items():
        store.put_many("runs", [run(f"{field} {value}", **{"in": {field: value}}) for value in values])
    store.put("runs", run("null", **{"in": {"text": None, "number": None}}))

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
    store.put_many("media", [file(f"{a}{b}", source=a, group=b) for a in "xy" for b in "xy"])
    assert names(store.find("media", {"source": "x", "group": "y"})) == ["d/xy"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_json_is_refused(store, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put("runs", run("a", auc=value))
    assert store.count("runs") == 0


def test_unknown_collections_and_missing_names_are_refused(store):
    with pytest.raises(ValueError, match="models"):
        store.put("models", {"_id": "a"})
    with pytest.raises(ValueError, match="_id"):
        store.put("runs", {"type": "pipeline"})


@pytest.mark.parametrize(
    ("collection", "document", "said"),
    [
        ("media", {"_id": "a", "dataset": "d", "path": "p"}, "no status"),
        ("media", file("a", status="lost"), "accepted, rejected"),
        ("media", file("a", width="12"), "int or nothing"),
        ("runs", {"_id": "a"}, "no type"),
        ("runs", run("a", arguments=[1]), "must be dict"),
        ("datasets", {"_id": "a", "format": True, "rows": 1}, "must be int"),
        ("promotions", {"_id": "a", "type": "event"}, "no name"),
    ],
)
def test_what_a_collection_does_not_hold_is_refused_and_nothing_is_kept(store, collection, document, said):
    with pytest.raises(SchemaError, match=said):
        store.put(collection, document)
    with pytest.raises(SchemaError, match=said):
        store.append(collection, document)
    assert store.count(collection) == 0


def test_every_index_is_of_a_stated_field():
    for collection in COLLECTIONS.values():
        assert set(collection.indexes) <= set(collection.fields)
    validate("media", file("a", anything={"else": 1}))


def test_looking_up_a_file_by_its_content_does_not_read_the_others(home):
    with open_records() as store:
        plan = "EXPLAIN QUERY PLAN SELECT body FROM documents WHERE collection = 'media' AND "
        plan += "json_extract(body, '$.\"content_sha256\"') IS ? ORDER BY at DESC, id DESC"
        assert "media by content_sha256" in str(store._file.execute(plan, ["x"]).fetchall())


def test_records_outlive_the_process(address):
    code = (
        "import os; from components.records import *\n"
        "open_records().append('runs', {'_id': 'a', 'type': 'pipeline'}); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with open_records() as store:
        assert store.count("runs") == 1


def test_two_processes_may_write_at_once(address):
    code = (
        "import sys; from components.records import open_records\n"
        "with open_records() as store:\n"
        "    for i in range(40): store.append('runs', {'_id': f'{sys.argv[1]}-{i}', 'type': 'training'})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_records() as store:
        assert store.count("runs") == 80


def test_two_processes_that_do_the_same_step_leave_it_once(address):
    code = (
        "from components.records import open_records\n"
        "with open_records() as store:\n"
        "    for i in range(5): store.put_many('media',"
        " ({'_id': f'd/{n}', 'dataset': 'd', 'path': f'{n}', 'status': 'accepted'} for n in range(200)))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_records() as store:
        assert store.count("media") == 200


def test_mongodb_that_does_not_answer_is_one_line_without_the_password(home, silent_address, monkeypatch):
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "0.5")
    monkeypatch.setenv("MONGODB_URI", f"mongodb://someone:secret@{silent_address}/records")
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_records()
    message = str(caught.value)
    assert time.monotonic() - begun < 10  # a client alone would wait for minutes
    assert "MONGODB_URI" in message
    assert silent_address in message
    assert "secret" not in message
    assert "\n" not in message


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_server_of_something_else_is_one_line_within_the_bound(home, monkeypatch, garbage):
    def answer():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(garbage)

    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("MONGODB_URI", f"mongodb://someone:s3cret@127.0.0.1:{listener.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(InputError, match="MongoDB at") as caught:
            open_records()
        assert time.monotonic() - begun < 10
        listener.shutdown(socket.SHUT_RDWR)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_the_address_may_be_a_mounted_file(home, tmp_path, monkeypatch, mongodb):
    mounted = tmp_path / "uri"
    monkeypatch.setenv("MONGODB_URI_FILE", str(mounted))
    for content, said in ((None, "No such file"), ("", "is empty")):
        if content is not None:
            mounted.write_text(content)
        with pytest.raises(InputError, match=f"MONGODB_URI_FILE.*{said}"):
            open_records()
    mounted.write_text(f"{mongodb}/test_{uuid.uuid4().hex[:12]}\n")
    with open_records() as store:
        assert isinstance(store, MongoRecords)
