"""Real servers of the protocols that users have, and a registry that is quick to make."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory) -> Path:
    """An MLflow file with its tables and nothing in them: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def silent_address() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@pytest.fixture
def registry_home(home, empty_registry) -> Path:
    """A run home of one's own with an empty registry in it."""
    home.mkdir()
    shutil.copy(empty_registry, home / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory):
    """The URI of a running server of MongoDB's wire protocol."""
    place = tmp_path_factory.mktemp("mongodb")
    port = _free_port()
    files = ["--data-dir", str(place), "--log-file", str(place / "log"), "--pid-file", str(place / "pid")]
    with _server([str(Path(sys.executable).parent / "nx-27017"), "-p", str(port), *files], port, place):
        yield f"mongodb://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def ferretdb(tmp_path_factory):
    """The URI of a running FerretDB, another server of MongoDB's wire protocol: `make ferretdb` builds it."""
    place = tmp_path_factory.mktemp("ferretdb")
    with _server(ferretdb_command(ferretdb_binary(), place, port := _free_port()), port, place):
        yield f"mongodb://127.0.0.1:{port}"


def ferretdb_binary() -> Path:
    """Return the server's program; skip the test where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = next(iter(sorted(cache.glob("ai-vs-real/ferretdb-v1*"))), None)
    if binary is None:
        pytest.skip("needs FerretDB, which make ferretdb builds where Go is installed")
    return binary


def ferretdb_command(binary, place, port):
    """Return the command that serves from a directory."""
    store = ["--handler=sqlite", f"--sqlite-url=file:{place}/", f"--state-dir={place}", "--telemetry=disable"]
    return [str(binary), *store, f"--listen-addr=127.0.0.1:{port}", "--debug-addr=-"]


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """The URI of a running MLflow server that proxies its artifacts, as DagsHub's does."""
    with running_mlflow(sys.executable, tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def running_mlflow(python, place):
    """Return a context manager that runs the MLflow server of an environment, given its Python."""
    port = _free_port()
    options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", f"{place}/artifacts"]
    return _server([python, "-m", "mlflow", "server", *options, *stores], port, place)


class Bucket:
    """A bucket behind the proxy, and what the proxy saw."""

    def __init__(self, place, client):
        self.place, self.client = place, client

    def put(self, name, content):
        self.client.bucket("media").blob(name).upload_from_string(content)

    def behave(self, **how):
        (self.place / "behaviour").write_text(json.dumps(how))

    def log(self):
        lines = (self.place / "log").read_text().splitlines() if (self.place / "log").exists() else []
        (self.place / "log").write_text("")
        return lines


@pytest.fixture(scope="session")
def bucket_emulator(tmp_path_factory):
    """The directory and the address of a bucket's emulator behind a proxy."""
    place = tmp_path_factory.mktemp("bucket")
    port = _free_port()
    command = [str(Path(sys.executable).parent / "gcp-storage-emulator"), "start", f"--port={port}", "--in-memory"]
    with _server([*command, "--default-bucket=media"], port, place):
        proxy = [sys.executable, str(Path(__file__).parent / "media" / "bucket_proxy.py"), str(port), str(place)]
        process = subprocess.Popen(proxy, stdout=subprocess.PIPE, text=True)
        try:
            yield place, f"http://localhost:{process.stdout.readline().strip()}"
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def bucket(bucket_emulator, monkeypatch):
    """An empty bucket `media` of a real emulator, behind a proxy that misbehaves when it is asked to."""
    place, url = bucket_emulator
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "2")
    from google.cloud import storage

    (place / "behaviour").write_text("{}")
    made = Bucket(place, storage.Client(project="test"))
    for blob in list(made.client.list_blobs("media")):
        blob.delete()
    made.log()
    yield made
    made.behave()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _server:  # noqa: N801 (reads as a function)
    """Runs a server from the block's begin, when it answers on its port, to the block's end."""

    def __init__(self, command, port, place):
        self.port = port
        self.uri = f"http://127.0.0.1:{port}"
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.log = (place / "output").open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=place,
            env={
                **os.environ,
                **quiet,
                "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}",
            },  # its own commands first
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, with its workers
        )

    def __enter__(self):
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.1)
        self.__exit__()
        raise AssertionError(Path(self.log.name).read_text())

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            self.process.wait(20)
        self.log.close()

    def send(self, number):
        """Send a signal to the server and its workers."""
        os.killpg(self.process.pid, number)
