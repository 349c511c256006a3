"""What tests of several rooms need: a run home of their own, and real servers of the protocols that users have."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def run_home(tmp_path, monkeypatch) -> Path:
    """A fresh run home, with no server set."""
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MONGODB_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory):
    """The URI of a running server of MongoDB's wire protocol."""
    place = tmp_path_factory.mktemp("mongodb")
    port = _free_port()
    files = ["--data-dir", str(place), "--log-file", str(place / "log"), "--pid-file", str(place / "pid")]
    with _server([str(Path(sys.executable).parent / "nx-27017"), "-p", str(port), *files], port, place):
        yield f"mongodb://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """The URI of a running MLflow server that proxies its artifacts, as DagsHub's does."""
    place = tmp_path_factory.mktemp("mlflow")
    port = _free_port()
    options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{place}/mlflow.db",
        "--artifacts-destination",
        str(place / "artifacts"),
    ]
    with _server([sys.executable, "-m", "mlflow", "server", *options, *stores], port, place):
        yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _server:  # noqa: N801 (reads as a function)
    """Runs a server from the block's begin, when it answers on its port, to the block's end."""

    def __init__(self, command, port, place):
        self.port = port
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.log = (place / "output").open("wb")
        self.process = subprocess.Popen(
            command, cwd=place, env={**os.environ, **quiet}, stdout=self.log, stderr=subprocess.STDOUT
        )

    def __enter__(self):
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.1)
        self.__exit__()
        raise AssertionError(Path(self.log.name).read_text())

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
