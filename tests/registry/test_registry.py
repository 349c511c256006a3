"""The registry on the SQLite file and on a running MLflow server."""

import hashlib
import json
import subprocess
import sys
import time
import uuid

import mlflow
import pytest

from components import registry, tracking
from components.errors import InputError

VERSIONS = {"keras": "3.15.1", "backend": "tensorflow 2.21.0", "python": "3.11.7"}


@pytest.fixture(params=["sqlite", "http"])
def place(request, registry_home, monkeypatch):
    if request.param == "http":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
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
            "view_shape": [1, 64, 64, 3],
            "versions": VERSIONS,
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
    first = registry.add_version(name, tmp_path / "one", run.run_id, {"backbone": "b0"})
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


def test_the_registered_model_states_signature_and_pinned_requirements(registry_home, name, detector):
    registry.add_version(name, detector("one"))
    saved = next((registry_home / "artifacts").rglob("MLmodel"))
    assert (saved.parent / "requirements.txt").read_text().splitlines()[1:] == ["keras==3.15.1", "tensorflow==2.21.0"]
    model = mlflow.models.Model.load(saved)
    assert model.flavors["python_function"]["loader_module"] == "components.detector"
    assert model.signature.inputs.inputs[0].shape == (-1, 1, 64, 64, 3)


def test_a_server_that_does_not_answer_is_one_line_without_the_password(registry_home, silent_address, monkeypatch):
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{silent_address}")
    begun = time.monotonic()
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI") as caught:
        registry.find("detector")
    assert time.monotonic() - begun < 30  # the client alone tries for minutes
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


def test_the_registered_model_loads_where_this_package_is_not(registry_home, name, tmp_path):
    import keras
    import numpy as np

    from components import detector

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(inputs)))
    detector.save(tmp_path / "real", model, {"view_shape": [2, 8, 8, 3], "threshold": 0.5})
    version = registry.add_version(name, tmp_path / "real")
    views = np.random.default_rng(0).integers(0, 256, (5, 2, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "views.npy", views)
    code = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]; sys.meta_path = [f for f in"
        " sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import mlflow.pyfunc, numpy as np\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "import components; assert sys.argv[1] not in components.__file__, components.__file__\n"
        "np.save('scores.npy', model.predict(np.load('views.npy')))"
    )
    root = str(registry.Path(registry.__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-c", code, root, version.source], cwd=tmp_path, check=True)
    expected = detector.Detector(tmp_path / "real").probabilities(views)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, rtol=1e-6)
