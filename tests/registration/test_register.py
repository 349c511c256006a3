"""Registration against the SQLite registry and records of a run home of its own."""

import json
import subprocess
import sys

import pytest

from components import registry, tracking
from components.errors import InputError
from components.records import open_records
from components.registration.register import find_champion, register

GATE = "roc_auc+0.01,roc_auc>=0.7"
NAME = "detector"


def entry(paths):
    return register(*paths, model_name=NAME, gate=GATE)


def test_the_first_good_model_becomes_champion_and_the_decision_is_recorded(registry_home, make):
    model, evaluation = make("first")
    assert find_champion(model, NAME) == ""
    outcome = entry((model, evaluation))
    assert (outcome["decision"], outcome["version"]) == ("promoted", "1")
    champion = registry.find(NAME)
    assert (champion.version, champion.aliases) == ("1", ("champion",))
    with open_records() as records:
        (event,) = records.find("promotions", {"type": "event"})
        assert {"decision": "promoted", **event} == outcome
        assert records.find("results")[0]["candidate"]["overall"] == outcome["metrics"]
        assert "scores" not in records.find("results")[0]["candidate"]
        assert records.find("runs")[0]["card"]["digest"] == champion.digest


def test_a_first_model_below_the_floors_is_refused_and_kept_as_challenger(registry_home, make):
    outcome = entry(make("poor", 0.2))
    assert (outcome["decision"], outcome["version"]) == ("refused", "1")
    assert "ROC AUC" in outcome["reasons"][0]
    assert "below its floor of 0.7" in outcome["reasons"][0]
    assert registry.find(NAME) is None
    assert registry.find(NAME, "challenger").version == "1"


def test_better_is_promoted_and_worse_refused(registry_home, make):
    entry(make("first", 1.2))
    second = make("second", 2.5, ("first", 1.2, "1"))
    assert find_champion(second[0], NAME) == "1"
    assert entry(second)["decision"] == "promoted"
    third = entry(make("third", 1.8, ("second", 2.5, "2")))
    assert (third["decision"], third["version"]) == ("refused", "3")
    assert "of the champion, version 2: -0." in third["reasons"][0]
    assert registry.find(NAME).version == "2"


def test_an_unchanged_run_returns_the_recorded_decision_without_mlflow(registry_home, make):
    model, evaluation = make("first")
    first = entry((model, evaluation))
    assert find_champion(model, NAME) == ""
    code = (
        "import sys, json; from components.registration.register import find_champion, register\n"
        f"assert find_champion({str(model)!r}, {NAME!r}) == ''\n"
        f"print(json.dumps(register({str(model)!r}, {str(evaluation)!r}, model_name={NAME!r}, gate={GATE!r})))\n"
        "assert not {'mlflow', 'tensorflow', 'keras', 'kfp'} & set(sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == first
    with open_records() as records:
        assert records.count("promotions", {"type": "event"}) == 1
    assert len(registry.versions(NAME)) == 1


def test_the_champion_itself_is_refused(registry_home, make):
    model, _ = make("first")
    entry(make("first"))
    evaluation = make("first", 2.1)[1]  # the same detector judged anew
    outcome = entry((model, evaluation))
    assert (outcome["decision"], outcome["version"]) == ("refused", "1")
    assert "champion itself, version 1" in outcome["reasons"][0]
    assert registry.find(NAME).version == "1"


def test_an_evaluation_against_an_older_champion_is_refused(registry_home, make):
    entry(make("first", 1.2))
    late = make("late", 3.0)
    outcome = entry(late)
    assert outcome["decision"] == "refused"
    assert outcome["reasons"] == [
        "it was compared with no champion, and now there is champion version 1: evaluate again"
    ]


def test_an_evaluation_of_another_detector_is_one_line(registry_home, make):
    with pytest.raises(InputError, match="another detector"):
        entry((make("first")[0], make("second")[1]))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"candidate": {}}'])
def test_what_is_no_evaluation_is_one_line(registry_home, make, tmp_path, text):
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    with pytest.raises(InputError, match="not an evaluation"):
        entry((make("first")[0], broken))


def test_nothing_is_registered_where_the_records_cannot_be_written(registry_home, make):
    (registry_home / "records.db").write_text("no database at all, but a file that is in the way")
    with pytest.raises(InputError, match="AI_VS_REAL_HOME"):
        entry(make("first"))
    (registry_home / "records.db").unlink()
    assert registry.versions(NAME) == []


def test_a_detector_of_uncommitted_code_is_registered_on_a_cluster_and_not_promoted(registry_home, make, monkeypatch):
    model, evaluation = make("candidate")
    card = json.loads((model / "card.json").read_text())
    card["revision"] = {"commit": "a" * 40, "branch": "main", "dirty": True}
    card["data_version"] = "0123456789ab"
    (model / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    refused = register(model, evaluation, model_name="m", gate=GATE)
    assert refused["decision"] == "refused"
    assert "in no commit" in refused["reasons"][0]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert register(model, evaluation, model_name="m", gate=GATE)["decision"] == "promoted"
    with open_records() as records:
        (run,) = records.find("runs", {"data_version": "0123456789ab", "revision.dirty": True})
        assert run["digest"] == card["digest"]


def test_the_run_and_the_version_say_what_was_measured_and_what_it_is_not_for(registry_home, make, tmp_path):
    page = tmp_path / "page.html"
    outcome = register(*make("first"), model_name=NAME, gate=GATE, decision_page=page)
    client = tracking.connect()
    version = client.get_model_version(NAME, outcome["version"])
    run = client.get_run(version.run_id)
    assert {"test/roc_auc", "test/ece", "test/jpeg-30/roc_auc", "test/worst_slice/ece"} <= set(run.data.metrics)
    assert run.data.metrics["test/roc_auc"] == pytest.approx(outcome["metrics"]["roc_auc"])
    assert "must not be used" in version.description
    assert run.data.tags["mlflow.note.content"] == version.description
    kept = registry_home / "artifacts" / version.run_id / "artifacts" / "pages" / "decision.html"
    assert kept.read_bytes() == page.read_bytes()
