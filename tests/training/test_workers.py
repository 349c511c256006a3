"""Workers: what TF_CONFIG may say, how they share samples, and that two of them learn what one process does."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from striped import write_dataset

from components.errors import InputError
from components.training import workers

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "backbone": "mobilenetv2",
    "weights": "none",
    "recipe": "plain",
    "epochs": 2,
    "fine_tune_epochs": 0,
    "batch_size": 8,
    "dropout": 0.0,
    "augment": False,
    "training_degradations": 0.0,
}


def config(index: int, *hosts: str) -> str:
    return json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})


def test_a_process_alone_needs_no_configuration(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers.join(7) == workers.ALONE
    monkeypatch.setenv("TF_CONFIG", config(0, "localhost:1"))
    assert workers.join(7) == workers.ALONE


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        config(2, "a:1", "b:1"),
        '{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG"):
        workers.place()


def test_a_batch_that_the_workers_cannot_share_is_refused_before_they_connect(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config(1, "a:1", "b:1", "c:1"))
    with pytest.raises(InputError, match="multiple of 3"):
        workers.join(32)


@pytest.mark.parametrize("samples", [0, 1, 3, 8])
def test_every_sample_is_in_one_part(samples):
    parts = [workers.Workers(3, index).part(np.arange(samples)) for index in range(3)]
    assert np.concatenate(parts).tolist() == list(range(samples))


CODE = """
import json, sys
from components.training import train
dataset, output, settings = sys.argv[1:]
card = train.train(dataset, output, report=output + ".html", **json.loads(settings))
print(card.get("digest", "none"), len(card.get("devices", [])))
"""


class Place:
    def __init__(self, root: Path, **settings):
        self.root, self.settings = root, SETTINGS | settings
        write_dataset(root / "dataset")

    def start(self, output: str, home: str, tf_config: str = "") -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": tf_config}
        environment |= {"AI_VS_REAL_HOME": str(self.root / home), "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-c", CODE, self.root / "dataset", self.root / output, json.dumps(self.settings)]
        out = subprocess.PIPE
        return subprocess.Popen([str(word) for word in command], env=environment, stdout=out, stderr=out, text=True)

    def together(self, output: str) -> list[subprocess.Popen]:
        hosts = [f"localhost:{port}" for port in free_ports(2)]
        return [self.start(output, f"home-{index}", config(index, *hosts)) for index in range(2)]


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, progress = process.communicate(timeout=400)
    return process.returncode, out, progress


def weights(detector: Path) -> dict[str, np.ndarray]:
    content = zipfile.ZipFile(detector / "model.keras").read("model.weights.h5")
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return arrays


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    import keras

    from components.training import model

    keras.utils.set_random_seed(3)
    made = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    noise = np.random.default_rng(3).uniform(-1, 1, (64, 32, 32, 3)).astype("float32")
    model.re_estimate_statistics(made, iter([noise]))  # or a fresh network fades out with depth
    path = tmp_path_factory.mktemp("backbone") / "backbone.weights.h5"
    made.save_weights(path)
    return path


@pytest.mark.servers
@pytest.mark.timeout(900)  # five trainings, each of which imports TensorFlow
def test_two_workers_learn_what_one_process_does_with_both_their_batches(tmp_path, backbone):
    """One is killed meanwhile: the other ends with a line, and both go on from the last epoch of the chief."""
    place = Place(tmp_path, weights=str(backbone), epochs=2, fine_tune_epochs=1, draws=1)
    pair = place.together("detector")
    assert any("head 1/" in line for line in pair[0].stderr)
    pair[1].send_signal(signal.SIGKILL)
    ended(pair[1])
    code, _, progress = ended(pair[0])
    assert code == 1, progress[-2000:]
    assert "RuntimeError: worker 0 of 2 has lost another worker" in progress
    assert not (tmp_path / "detector").exists()
    again = [ended(process) for process in place.together("detector")]
    assert [code for code, _, _ in again] == [0, 0], again
    assert all("head goes on after epoch 1" in progress for _, _, progress in again)
    assert again[0][1].split()[1:] == ["2"]
    assert again[1][1].split() == ["none", "0"]
    assert sorted(path.name for path in tmp_path.iterdir() if "home" not in path.name) == [
        "dataset", "detector", "detector.html",
    ]  # fmt: skip
    code, _, progress = ended(place.start("alone", "home-alone"))
    assert code == 0, progress[-2000:]
    alone, both = weights(tmp_path / "alone"), weights(tmp_path / "detector")
    assert sorted(os.listdir(tmp_path / "alone")) == sorted(os.listdir(tmp_path / "detector"))
    assert alone.keys() == both.keys()
    away = max(np.abs(alone[name] - both[name]).max() for name in alone)
    assert away < 1e-5, away
