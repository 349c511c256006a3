"""Workers: what TF_CONFIG may say, how they share samples, and that two of them learn what one process does."""

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from striped import write_dataset, write_weights

from components.errors import InputError
from components.training import workers

ROOT = Path(__file__).resolve().parents[2]


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


TOGETHER = """
import os, shutil, signal, sys
from pathlib import Path
dataset, weights, place = sys.argv[1:]
import keras
import numpy as np
from striped import network
from components.dataset import Dataset
from components.training import phases, train, workers

mine, place = workers.place(), Path(place)
plain = dict(backbone="mobilenetv2", weights=weights, recipe="plain", augment=False, batch_size=8, draws=1)
head = plain | dict(epochs=2, fine_tune_epochs=0, dropout=0.0)
card = train.train(dataset, place / "together", report=place / "together.html", **head)
print("card", len(card.get("devices", [])), flush=True)

def run(name, joined, fine_tune_epochs):
    keras.utils.set_random_seed(0)
    small = network()
    own = dict(epochs=1, fine_tune_epochs=fine_tune_epochs, unfreeze_layers=3, activation_cache=False)
    wanted = train.Settings(**plain, **own)
    work = place / f"{name}-{joined.index}"
    phases.Phases(small, Dataset(dataset), wanted, work, lambda *_: None, workers=joined).run()
    return small.get_weights()

run("small", mine, 1)
if not mine.chief:
    shutil.rmtree(place / "small-1")  # a pod that takes the place of a lost one knows nothing
together = run("small", mine, 2)
if mine.chief:
    alone = run("alone", workers.ALONE, 2)
    keras.utils.set_random_seed(0)
    learnt = max(np.abs(a - b).max() for a, b in zip(alone, network().get_weights()))
    print("away", max(np.abs(a - b).max() for a, b in zip(alone, together)) / learnt, flush=True)
    os.environ.pop("TF_CONFIG")
    train.train(dataset, place / "alone", report=place / "alone.html", **head)
mine.all(True)
if not mine.chief:
    os.kill(os.getpid(), signal.SIGKILL)
run("lost", mine, 1)
"""


def start(place: Path, backbone: Path, index: int, hosts: list[str]) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"AI_VS_REAL_HOME": str(place / f"home-{index}"), "TF_CONFIG": config(index, *hosts)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", TOGETHER, str(place / "dataset"), str(backbone), str(place)]
    out = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=out, stderr=out, text=True)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def weights(detector: Path) -> dict[str, np.ndarray]:
    content = zipfile.ZipFile(detector / "model.keras").read("model.weights.h5")
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return arrays


@pytest.mark.servers
@pytest.mark.timeout(900)
def test_two_workers_learn_what_one_process_does_with_both_their_batches(tmp_path):
    """The head of a detector from end to end, then all of a small network, resumed; and one is lost in the end."""
    write_dataset(tmp_path / "dataset")
    backbone = write_weights(tmp_path / "backbone.weights.h5")
    hosts = [f"localhost:{port}" for port in free_ports(2)]
    pair = [start(tmp_path, backbone, index, hosts) for index in range(2)]
    (said, progress), (other, _) = (process.communicate(timeout=800) for process in pair)
    assert "away" in said, progress[-3000:]
    assert other == "card 0\n"
    assert "card 2" in said
    assert "fine-tune goes on after epoch 1" in progress
    assert float(said.split("away")[1].split()[0]) < 1e-3
    alone, together = weights(tmp_path / "alone"), weights(tmp_path / "together")
    assert alone.keys() == together.keys()
    assert max(np.abs(alone[name] - together[name]).max() for name in alone) < 1e-5
    assert sorted(os.listdir(tmp_path / "alone")) == sorted(os.listdir(tmp_path / "together"))
    assert pair[0].returncode == 1
    assert "RuntimeError: worker 0 of 2 has lost another worker" in progress
