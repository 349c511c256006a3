"""The registry on the SQLite file and on a running MLflow server."""

import hashlib
import json
import subprocess
import sys
import uuid
from dataclasses import replace

import mlflow
import pytest

from components import registry, tracking
from components.errors import InputError

SERVERS = [pytest.param(name, marks=pytest.mark.servers) for name in ("mlflow_server", "mlflow_2")]


@pytest.fixture(params=["sqlite", *SERVERS])
def place(request, registry_home, monkeypatch):
    """Each of the places where runs and versions may be kept."""
    if request.param != "sqlite":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue(request.param))
    return request.param


@pytest.fixture
def name():
    return f"detector-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def detector(tmp_path):
    def write(text):
        directory = tmp_path / text
        directory.mkdir()
        (directory / "model.keras").write_bytes(text.encode())
        digest = hashlib.sha256(text.encode()).hexdigest()
        card = {
            "format": 1,
            "digest": digest,
            "view": "resize64",
            "threshold": 0.5,
        }
        (directory / "card.json").write_text(json.dumps(card))
        return directory

    return write


def test_from_nothing_to_a_champion_and_back(place, name, detector, tmp_path, capsys):
    assert registry.find(name) is None
    assert registry.versions(name) == []
    with tracking.TrackedRun(name="train") as run:
        run.log(params={"epochs": 3}, tags={"commit": "abc"}, metrics={"loss": 0.5}, step=0)
        run.log(metrics={"loss": 0.25}, step=1)
        run.log_file(detector("one") / "card.json", "pages/card.json")
        run.log_dataset("tiny", "0123", "http://someone:secret@host/media", "training", '{"rows": 3}')
    first = registry.add_version(name, tmp_path / "one", run.run_id, {"backbone": "b0"}, "for **tests** alone")
    assert (first.version, first.run_id, first.tags["backbone"]) == ("1", run.run_id, "b0")
    assert registry.find(name) is None
    registry.set_alias(name, "champion", "1")
    second = registry.add_version(name, detector("two"))
    assert second.run_id != run.run_id
    registry.set_alias(name, "challenger", second.version)
    assert [version.version for version in registry.versions(name)] == ["2", "1"]
    found = registry.find(name)
    assert found.digest == first.digest
    assert found == registry.versions(name)[1]
    assert registry.find(name, "challenger").version == "2"
    fetched = registry.fetch(found)
    assert (fetched / "model.keras").read_bytes() == b"one"
    assert registry.fetch(found) == fetched
    assert registry.download(name, "2", tmp_path / "other" / "place") == tmp_path / "other" / "place"
    assert (tmp_path / "other" / "place" / "card.json").read_bytes() == (tmp_path / "two" / "card.json").read_bytes()
    registry.set_alias(name, "champion", "")
    assert registry.find(name) is None
    client = tracking.connect()
    assert [one.value for one in client.get_metric_history(run.run_id, "loss")] == [0.5, 0.25]
    (used,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert (used.dataset.digest, used.dataset.source) == ("0123", "http://***@host/media")
    assert client.get_model_version(name, "1").description == "for **tests** alone"
    assert client.get_run(run.run_id).info.status == client.get_run(second.run_id).info.status == "FINISHED"
    assert capsys.readouterr().out == ""  # left to whoever prints an answer


def test_the_same_detector_is_one_version(place, name, detector):
    first = registry.add_version(name, detector("one"))
    assert registry.add_version(name, first_again := detector("two").parent / "one").version == first.version
    assert first_again.is_dir()
    assert len(registry.versions(name)) == 1


def test_a_version_that_is_not_whole_is_not_seen(place, name):
    client = tracking.connect()
    client.create_registered_model(name)
    with tracking.TrackedRun() as run:
        client.create_model_version(name, f"{client.get_run(run.run_id).info.artifact_uri}/detector", run.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    assert registry.find(name) is None
    assert registry.versions(name) == []
    with pytest.raises(InputError, match="no version '1'"):
        registry.download(name, "1")


def test_a_failure_in_the_middle_leaves_no_version(registry_home, name, detector, monkeypatch):
    place = detector("one")
    (registry_home / "artifacts").write_text("a file where the artifacts' directory should be")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        registry.add_version(name, place)
    assert registry.versions(name) == []
    (registry_home / "artifacts").unlink()
    assert registry.add_version(name, place).version == "1"


def test_files_that_changed_since_are_refused(registry_home, name, detector):
    version = registry.add_version(name, detector("one"))
    next((registry_home / "artifacts").rglob("model.keras")).write_bytes(b"another")
    with pytest.raises(InputError, match="were changed"):
        registry.fetch(version)
    assert not list((registry_home / "detectors").iterdir())


def test_a_server_that_does_not_answer_is_one_line_without_the_password(registry_home, silent_address, monkeypatch):
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{silent_address}")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI") as caught:
        registry.find("detector")
    assert silent_address in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no-such-host.invalid", "carrier-pigeon://x"])
def test_an_address_where_nothing_is_is_one_line(registry_home, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        registry.versions("detector")


def test_a_name_that_the_registry_would_not_take_is_one_line(registry_home):
    with pytest.raises(InputError, match="letters"):
        registry.versions("it's")


def test_a_run_that_is_interrupted_is_killed_and_can_go_on(registry_home):
    with pytest.raises(KeyboardInterrupt), tracking.TrackedRun() as run:
        raise KeyboardInterrupt
    client = tracking.connect()
    assert client.get_run(run.run_id).info.status == "KILLED"
    with tracking.TrackedRun(run.run_id) as again:
        assert again.run_id == run.run_id
        assert client.get_run(run.run_id).info.status == "RUNNING"
    assert client.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("tag", ["/some/dir", "../../etc", "", "0" * 63, "g" * 64])
def test_a_tag_that_is_no_sha256_leads_to_no_directory(registry_home, name, detector, tag):
    version = registry.add_version(name, detector("one"))
    tracking.connect().set_model_version_tag(name, "1", "sha256", tag)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        registry.fetch(registry.versions(name)[0])
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        registry.fetch(replace(version, tags={**version.tags, "sha256": str(detector("two"))}))


def test_files_kept_here_are_checked_too(registry_home, name, detector):
    version = registry.add_version(name, detector("one"))
    kept = registry.fetch(version)
    (kept / "model.keras").write_bytes(b"damaged")
    assert (registry.fetch(version) / "model.keras").read_bytes() == b"one"


def test_what_is_remembered_follows_every_change_of_the_file(registry_home, name, detector):
    registry.add_version(name, detector("one"))
    registry.set_alias(name, "champion", "1")
    assert registry.find(name).version == "1"
    client = mlflow.MlflowClient(tracking.tracking_uri())  # a person, past us
    client.delete_registered_model_alias(name, "champion")
    assert registry.find(name) is None
    client.set_registered_model_alias(name, "champion", "1")
    client.set_model_version_tag(name, "1", "backbone", "b7")
    assert registry.find(name).tags["backbone"] == "b7"
    client.delete_model_version(name, "1")
    assert registry.versions(name) == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"stamp": 1}', '{"stamp": "", "versions": {"detector": []}}'])
def test_a_damaged_memory_is_not_believed(registry_home, detector, damage):
    registry.add_version("detector", detector("one"))
    registry.set_alias("detector", "champion", "1")
    (registry_home / ".mlflow.db.versions.json").write_text(damage)
    assert registry.find("detector").version == "1"


def test_the_run_of_a_killed_process_is_closed_by_the_next(registry_home):
    code = (
        "import os, signal; from components import tracking; run = tracking.TrackedRun(); print(run.run_id, flush=True)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", f"{code}; os.kill(os.getpid(), signal.SIGKILL)"], capture_output=True, text=True
    )
    run_id = killed.stdout.strip()
    client = tracking.connect()
    assert client.get_run(run_id).info.status == "RUNNING"
    with tracking.TrackedRun() as at_work:
        assert client.get_run(run_id).info.status == "KILLED"
        with tracking.TrackedRun():
            assert client.get_run(at_work.run_id).info.status == "RUNNING"


def test_the_run_that_kubeflow_opened_is_joined_and_left_open(registry_home, monkeypatch, name, detector, tmp_path):
    client = tracking.connect()
    experiment = client.create_experiment("of the pipeline", (tmp_path / "elsewhere").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_param(run_id, "seed", "7")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with tracking.TrackedRun(name="train") as run:
        run.log(params={"epochs": 3, "seed": 8})
    version = registry.add_version(name, detector("one"), run.run_id)
    assert version.run_id == run.run_id == run_id
    joined = client.get_run(run_id)
    assert joined.info.status == "RUNNING"
    assert joined.data.params == {"seed": "7", "epochs": "3", "ai-vs-real.seed": "8"}
