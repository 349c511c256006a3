"""A run home that is moved or copied keeps working, and leaves the old place alone."""

import shutil

import pytest

from components import registry, tracking
from components.registration.compare import compare
from components.registration.register import register

NAME = "detector"
GATE = "roc_auc+0.002,roc_auc>=0.6"


def state(directory):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in directory.rglob("*")}


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_home_elsewhere_registers_compares_and_fetches(way, registry_home, make, monkeypatch, tmp_path):
    register(*make("first"), model_name=NAME, gate=GATE)
    with tracking.TrackedRun() as before:
        before.log(metrics={"loss": 1.0})
    elsewhere = tmp_path / "else where" / "home"
    elsewhere.parent.mkdir()
    if way == "moved":
        shutil.move(registry_home, elsewhere)
    else:
        shutil.copytree(registry_home, elsewhere)
    old = state(registry_home)
    monkeypatch.setenv("AI_VS_REAL_HOME", str(elsewhere))

    champion = registry.find(NAME)
    assert champion.version == "1"
    assert (registry.fetch(champion) / "model.keras").read_bytes() == b"first"
    outcome = register(*make("second", 3.0, ("first", 2.0, "1")), model_name=NAME, gate=GATE)
    assert (outcome["version"], outcome["decision"]) == ("2", "promoted")
    assert compare(NAME, "2", "1", gate=GATE)["would_promote"]
    with tracking.TrackedRun(before.run_id) as again:  # a run of the old place goes on at the new one
        again.log_file(tmp_path / "first" / "card.json")
    with tracking.TrackedRun() as run:
        run.log_file(tmp_path / "first" / "card.json")
    place = tracking.connect().get_run(run.run_id).info.artifact_uri
    assert place == f"{(elsewhere / 'artifacts').as_uri()}/{run.run_id}/artifacts"  # for MLflow's own page, too
    for run_id in (before.run_id, run.run_id):
        assert (elsewhere / "artifacts" / run_id / "artifacts" / "card.json").is_file()
    assert state(registry_home) == old
    assert registry_home.exists() == (way == "copied")


def test_artifacts_left_behind_are_reported_at_once(registry_home, make, monkeypatch, tmp_path):
    register(*make("first"), model_name=NAME, gate=GATE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(registry_home / "mlflow.db", elsewhere)
    monkeypatch.setenv("AI_VS_REAL_HOME", str(elsewhere))
    with pytest.raises(registry.InputError, match=r"elsewhere/artifacts/.* holds no files.* move what .* artifacts/"):
        registry.fetch(registry.find(NAME))
