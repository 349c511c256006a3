"""The service as a process of its own, and what it takes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

PATIENCE_S = 300


def children(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    every = [process]
    for parent in every:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                every += map(int, (task / "children").read_text().split())
    return every


def memory_mb(process: int) -> float:
    """Return the resident memory of a process and all that descend from it, shared pages counted in each."""
    total = 0
    for one in children(process):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def service(detector: Path | None, work: Path, *options: str, **environment: str) -> Iterator[tuple]:
    """Run `ai-vs-real serve` and yield its address and process; without a detector, with the champion."""
    command = [sys.executable, "-m", "pipelines.commands.main", "serve", "--port", "0", *options]
    command += ["--model", str(detector)] if detector else []
    log = work / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (listening := re.search(r"Listening on (\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        until_answered(f"{listening[1]}/health/ready", deadline)
        yield listening[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def until_answered(address: str, deadline: float) -> None:
    """Wait until an address answers with 200; `deadline` is in seconds of the monotonic clock."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, timeout=10).status_code == 200:
                return
        assert time.monotonic() < deadline, f"{address} does not answer"
        time.sleep(0.2)
