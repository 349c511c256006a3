"""Registry and records stay in step, whatever kills a process between the two, on SQLite and on MongoDB's protocol."""

import hashlib
import json
import os
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import killer
import pytest

from components import registry, tracking
from components.errors import InputError
from components.records import COLLECTIONS, DuplicateError, open_records
from components.registration.history import History
from components.registration.register import register

NAME = "detector"


@pytest.fixture(params=["sqlite", "mongodb"])
def store(request, registry_home, monkeypatch):
    if request.param == "mongodb":
        monkeypatch.setenv("MONGODB_URI", f"{request.getfixturevalue('mongodb')}/test_{uuid.uuid4().hex}")
    return request.param


@pytest.fixture
def history(registry_home):
    with open_records() as records:
        yield History(records, NAME)


@pytest.fixture
def add(tmp_path):
    """Return a function that registers a detector by a name of its own."""

    def register(name):
        model = tmp_path / name
        model.mkdir()
        (model / "model.keras").write_bytes(name.encode())
        card = {"format": 1, "digest": hashlib.sha256(name.encode()).hexdigest(), "view": "resize64", "threshold": 0.5}
        (model / "card.json").write_text(json.dumps(card))
        return registry.add_version(NAME, model).version

    return register


def kinds(history):
    return [event["kind"] for event in history.events()]


@pytest.fixture
def rewind(store, registry_home, mongodb, monkeypatch):
    """Keep the state at the first call, and bring it back at every later one."""
    kept = {}

    def restore():
        for name in ("mlflow.db", "records.db"):
            if (registry_home / name).exists():
                source, target = registry_home / f"{name}.kept", registry_home / name
                if not kept:
                    source, target = target, source
                with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
                    one.backup(other)
        if store == "mongodb":
            if not kept:
                with open_records() as records:
                    kept["documents"] = {name: records.find(name) for name in COLLECTIONS}
            monkeypatch.setenv("MONGODB_URI", f"{mongodb}/test_{uuid.uuid4().hex}")
            with open_records() as records:
                for name, documents in kept["documents"].items():
                    records.put_many(name, documents)
        kept["done"] = True
        names = ("AI_VS_REAL_HOME", "MONGODB_URI")
        return {name: os.environ[name] for name in names if name in os.environ}

    return restore


@pytest.mark.parametrize(("what", "writes"), [("register", 7), ("roll back", 3)])
def test_a_process_killed_before_any_write_leaves_registry_and_records_in_step(what, writes, rewind, make):
    gate = "roc_auc+0.01,roc_auc>=0.7"
    killer.enter(*make("first", 1.2), NAME, gate)
    files = make("second", 2.5, ("first", 1.2, "1"))
    if what == "register":
        change, before, after = (killer.enter, *files, NAME, gate), "1", "2"
    else:
        killer.enter(*files, NAME, gate)
        change, before, after = (killer.roll_back, NAME), "2", "1"
    seen = []
    for step in range(writes + 1):
        environment = rewind()
        assert killer.killed(environment, step, *change) is (step < writes)
        with open_records() as records:
            history = History(records, NAME)
            seen.append(history.settle().version)
            events = history.events()
            assert seen[-1] == registry.find(NAME).version == events[-1]["champion_after"]
            assert records.count("promotions", {"type": "confirmation"}) == len(events)
            if what == "register":  # the pipeline runs again
                assert register(*files, model_name=NAME, gate=gate)["decision"] == "promoted"
                assert [version.aliases for version in registry.versions(NAME)] == [("champion",), ()]
                assert len(history.events()) == 2
    # Once the event is written the change happens, whoever finishes it.
    assert seen == ([before] * 4 + [after] * 4 if what == "register" else [before] + [after] * 3)


def test_rolling_back_goes_one_champion_back_each_time(history, add):
    for version in (add("a"), add("b"), add("c")):
        history.promote(version, f"try {version}")
    assert history.roll_back("c flags our own photographs")["champion_after"] == "2"
    assert history.roll_back("so does b")["champion_after"] == "1"
    assert registry.find(NAME).version == "1"
    with pytest.raises(InputError, match="no earlier champion"):
        history.roll_back("and a")
    history.promote("3", "corrected")
    assert history.roll_back("not corrected")["champion_after"] == "1"
    assert history.rolled_back(registry.versions(NAME)[0].digest)["reasons"] == ["not corrected"]
    assert history.rolled_back(registry.versions(NAME)[2].digest) is None
    assert kinds(history) == [*["promoted"] * 3, *["rolled back"] * 2, "promoted", "rolled back"]


def test_what_was_rolled_back_is_not_promoted_by_a_pipeline_that_runs_again(history, make):
    gate = {"model_name": NAME, "gate": "roc_auc+0.01"}
    register(*make("first", 1.2), **gate)
    files = make("second", 2.5, ("first", 1.2, "1"))
    assert register(*files, **gate)["decision"] == "promoted"
    history.roll_back("it flags our own photographs")
    outcome = register(*files, **gate)
    assert (outcome["decision"], outcome["version"]) == ("refused", "2")
    assert "rolled back on 20" in outcome["reasons"][0]
    assert "it flags our own photographs" in outcome["reasons"][0]
    assert registry.find(NAME).version == "1"
    assert register(*files, **gate) == outcome
    history.promote("2", "the photographs were fakes")
    assert register(*files, **gate)["reasons"] == ["it is the champion itself, version 2"]


def test_a_champion_set_in_the_registry_itself_is_noticed_and_reported(history, add):
    first, second = add("a"), add("b")
    history.promote(first, "first")
    registry.set_alias(NAME, "champion", second)
    assert history.settle().version == second
    assert history.settle().version == second
    last = history.events()[-1]
    assert (last["kind"], last["by"], last["champion_before"], last["champion_after"]) == ("found", "outside", "1", "2")
    assert history.roll_back("nobody asked for it")["champion_after"] == first
    registry.set_alias(NAME, "champion", "")
    assert history.settle() is None
    assert history.events()[-1]["reasons"] == [
        "the champion was changed in the registry itself, from champion version 1 to no champion"
    ]


def test_records_that_are_new_take_over_the_registry_as_it_is(history, add):
    registry.set_alias(NAME, "champion", add("a"))
    assert history.settle().version == "1"
    assert kinds(history) == ["found"]


def test_a_version_deleted_between_the_records_and_the_registry_is_reported(history, add, monkeypatch):
    add("a"), add("b")
    history.promote("1", "first")
    history.settle()
    with monkeypatch.context() as patched:
        patched.setattr(registry, "set_alias", interrupt)
        with pytest.raises(KeyboardInterrupt):
            history.append("promoted", "2", champion="2", reasons=["better"], by="the gate")
    tracking.connect().delete_model_version(NAME, "2")
    assert history.settle().version == "1"
    assert kinds(history) == ["promoted", "promoted", "found"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_of_two_simultaneous_decisions_the_second_is_asked_to_look_again(history, add):
    add("a"), add("b")
    history.settle()
    with open_records() as records:
        History(records, NAME).promote("1", "first")
    with pytest.raises(DuplicateError):
        history.append("promoted", "2", champion="2", reasons=["also first"], by="the gate")
    assert registry.find(NAME).version == "1"
    assert history.settle().version == "1"


def test_who_was_champion_at_a_moment(history, add):
    add("a"), add("b")
    assert history.champion_at("2026-01-01") is None
    first, second = history.promote("1", "first"), history.promote("2", "second")
    history.append("refused", "1", champion="2", reasons=["worse"], by="the gate")
    moment = datetime.fromisoformat(first["at"])
    assert history.champion_at("2020-01-01") is None
    assert history.champion_at((moment - timedelta(microseconds=1)).isoformat()) is None
    assert history.champion_at(first["at"])["_id"] == first["_id"]
    assert history.champion_at(datetime.now(UTC).isoformat())["reasons"] == second["reasons"] == ["second"]
    assert history.champion_at(f"{datetime.now(UTC).date()}")["version"] == "2"
    with pytest.raises(InputError, match="2026-01-31"):
        history.champion_at("yesterday")


def test_order_in_time_is_order_of_events_even_where_clocks_differ(history, add, monkeypatch):
    add("a"), add("b")
    future = "2999-01-01T00:00:00.000000+00:00"
    with monkeypatch.context() as patched:
        patched.setattr("components.registration.history.now", lambda: future)
        history.promote("1", "by a machine whose clock is ahead")
    assert history.promote("2", "by one that is right")["at"] > future
    assert [event["version"] for event in history.events()] == ["1", "2"]


@pytest.mark.parametrize(("version", "reason"), [("9", "better"), ("1", ""), ("1", "  "), ("2", "again")])
def test_a_promotion_that_makes_no_sense_is_one_line(history, add, version, reason):
    add("a"), add("b")
    history.promote("2", "first")
    with pytest.raises(InputError) as caught:
        history.promote(version, reason)
    assert "\n" not in str(caught.value)
    assert len(history.events()) == 1
