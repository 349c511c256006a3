"""Records of an older version brought forward, and records taken from one store into another."""

import json
import sqlite3
import uuid
from pathlib import Path

import pytest

from components.errors import InputError
from components.record_schemas import COLLECTIONS, SCHEMA
from components.records import open_records
from pipelines.commands.main import main

OLD = Path(__file__).with_name("schema_1.sql")  # a store that the code before schemas wrote, as SQL


@pytest.fixture
def old_store(home):
    home.mkdir()
    with sqlite3.connect(home / "records.db") as file:
        file.executescript(OLD.read_text())
    return home


def test_an_old_store_is_refused_until_it_is_migrated_and_nothing_is_lost(old_store, capsys):
    with pytest.raises(InputError, match="records migrate"):
        open_records()
    assert main(["records", "migrate"]) == 0
    assert "2 documents were rewritten" in capsys.readouterr().out
    assert main(["records", "migrate"]) == 0
    assert "already" in capsys.readouterr().out
    with open_records() as records:
        assert {name: records.count(name) for name in COLLECTIONS} == {
            "runs": 2, "datasets": 1, "media": 2, "verdicts": 0, "results": 1, "promotions": 2,
        }  # fmt: skip
        (run,) = records.find("runs", {"type": "pipeline"})
        assert run["arguments"]["draws"] == 2
        assert {"views", "degrade", "degraded", "cached"}.isdisjoint(run["arguments"])
        assert run["at"] == "2026-10-01T12:00:00.000000+00:00"
        (training,) = records.find("runs", {"revision.commit": "c" * 40})
        assert training["card"]["settings"]["activation_cache"] is True
    kept = sqlite3.connect(old_store / "records-schema-1.db")
    assert kept.execute("SELECT count(*) FROM documents").fetchone() == (8,)


def test_a_store_of_a_newer_version_is_left_alone(home):
    home.mkdir()
    with sqlite3.connect(home / "records.db") as file:
        file.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(InputError, match="or a newer one"):
        open_records()


def test_mongodb_is_migrated_alike_and_goes_on_where_it_was_stopped(home, mongodb, monkeypatch):
    import pymongo

    name = f"test_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("MONGODB_URI", f"{mongodb}/{name}")
    with sqlite3.connect(":memory:") as file:
        file.executescript(OLD.read_text())
        rows = file.execute("SELECT collection, body FROM documents").fetchall()
    with pymongo.MongoClient(mongodb) as client:
        for collection, body in rows:
            client[name][collection].insert_one(json.loads(body))
    with pytest.raises(InputError, match="records migrate"):
        open_records()

    def stopped(collection, document):
        raise KeyboardInterrupt

    with open_records(any_schema=True) as records, pytest.raises(KeyboardInterrupt):
        records.migrate(stopped)
    assert main(["records", "migrate"]) == 0
    with open_records() as records:
        assert records.find("runs", {"type": "pipeline"})[0]["arguments"]["draws"] == 2
        assert records.count("media") == 2


def test_an_export_of_any_schema_is_taken_in_once(old_store, tmp_path, monkeypatch, capsys):
    lines = ['{"ai-vs-real records": 1}']
    with sqlite3.connect(old_store / "records.db") as file:
        for collection, body in file.execute("SELECT collection, body FROM documents"):
            lines.append(json.dumps({"collection": collection, "document": json.loads(body)}))
    (tmp_path / "old.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "other"))
    for _ in range(2):
        assert main(["records", "import", str(tmp_path / "old.jsonl")]) == 0
    assert main(["records", "export", str(tmp_path / "a.jsonl")]) == 0
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "third"))
    assert main(["records", "import", str(tmp_path / "a.jsonl")]) == 0
    assert main(["records", "export", str(tmp_path / "b.jsonl")]) == 0
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 9
    capsys.readouterr()
    for arguments, said in (
        (["runs", "--outcome", "completed"], "promoted version 1"),
        (["runs", "--where", "arguments.epochs=10", "--until", "2026-10-01"], "20261001-120000-abcdef"),
        (["runs", "--since", "2026-10-02", "--outcome", "completed"], "no runs are recorded that match"),
        (["media", "--status", "rejected"], "not media"),
        (["media", "--sha256", "a" * 64], "real/a.jpg"),
        (["results", "--model", "d1"], "roc_auc 0.900"),
        (["promotions", "--kind", "promoted"], "by the gate: it is the first"),
    ):
        assert main(["records", *arguments]) == 0
        assert said in capsys.readouterr().out
    (tmp_path / "b.jsonl").write_text('{"ai-vs-real records": 2}\n{"collection": "models"}\n')
    assert main(["records", "import", str(tmp_path / "b.jsonl")]) == 2
    assert "line 2" in capsys.readouterr().err
