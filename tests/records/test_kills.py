"""Writers and servers killed at random points: what was acknowledged is there, and nothing is there twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import _free_port, _server, ferretdb_binary, ferretdb_command

from components.errors import InputError
from components.records import open_records

WRITER = """
import sys
from components.records import open_records
part = 0
with open_records() as records:
    while True:
        names = [f"{part}-{n}" for n in range(40)]
        rows = [{"_id": f"d/{name}", "dataset": "d", "path": name, "status": "accepted"} for name in names]
        records.put_many("media", rows)
        print(part, flush=True)
        part += 1
"""


def killed_writer(seconds):
    """Run a writer, kill it after so long, and return how many parts were acknowledged to it."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True)
    first = writer.stdout.readline()
    assert first.strip() == "0"
    time.sleep(seconds)
    writer.kill()
    return 1 + len(writer.stdout.read().split("\n")) - 1


def assert_kept(parts):
    with open_records() as records:
        names = [media["_id"] for media in records.scan("media")]
    assert len(names) == len(set(names))
    assert {f"d/{part}-{n}" for part in range(parts) for n in range(40)} <= set(names)


def file(part, n):
    return {"_id": f"d/{part}-{n}", "dataset": "d", "path": f"{part}-{n}", "status": "accepted"}


def rounds():
    """A few here; AI_VS_REAL_KILLS=50 for the long form."""
    return int(os.environ.get("AI_VS_REAL_KILLS") or 2)


def test_a_killed_writer_loses_nothing_that_was_acknowledged(home):
    rng = random.Random(0)
    for _ in range(rounds()):  # into the same store: what the writer before wrote is met again
        assert_kept(killed_writer(rng.uniform(0, 0.2)))


@pytest.mark.servers
@pytest.mark.parametrize("which", ["nx-27017", "ferretdb"])
def test_a_killed_server_loses_nothing_that_was_acknowledged(home, tmp_path, monkeypatch, which):
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "5")
    port, rng = _free_port(), random.Random(1)
    if which == "ferretdb":
        command = ferretdb_command(ferretdb_binary(), tmp_path, port)
    else:
        files = ["--data-dir", str(tmp_path), "--log-file", str(tmp_path / "log"), "--pid-file", str(tmp_path / "pid")]
        command = [str(Path(sys.executable).parent / "nx-27017"), "-p", str(port), *files]
    monkeypatch.setenv("MONGODB_URI", f"mongodb://127.0.0.1:{port}/killed")
    for _ in range(rounds()):
        acknowledged = []
        with _server(command, port, tmp_path) as server, open_records() as records:
            begun, wait = time.monotonic(), rng.uniform(0.1, 0.6)
            error = None
            for part in range(10**6):
                if time.monotonic() - begun > wait and server.process.poll() is None:
                    os.kill(server.process.pid, signal.SIGKILL)
                try:
                    records.put_many("media", [file(part, n) for n in range(40)])
                except InputError as caught:
                    error = str(caught)
                    break
                acknowledged.append(part)
            assert "MONGODB_URI" in error
            assert "\n" not in error
        (tmp_path / "pid").unlink(missing_ok=True)
        with _server(command, port, tmp_path):
            assert_kept(len(acknowledged))
        (tmp_path / "pid").unlink(missing_ok=True)
