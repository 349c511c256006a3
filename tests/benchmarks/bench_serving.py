"""The service under 16 clients, against `mlflow models serve` of the same network given ready tensors.

The baseline gets what the service has to make itself: the pixels of the view, so that it decodes nothing.
"""

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import mlflow
import numpy as np
from bench_prediction import VIEW, WEIGHTS, _detector, _plain_views, _write_pictures
from PIL import Image
from running_service import PATIENCE_S, memory_mb, service, until_answered

SECONDS = float(os.environ.get("AI_VS_REAL_BENCH_SECONDS", 60))
CLIENTS = 16
SIZES = ((640, 480), (1024, 768), (1600, 1200), (4000, 3000))  # of the pictures; a phone's are the last


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure the throughput of both, and whether the service's memory stays flat."""
    pictures = _write_pictures(work / "pictures")
    backbone, name = next(iter(WEIGHTS.items()))
    file = media.parent / "weights" / f"{name}_notop.weights.h5" if media else None
    network = _detector(work / backbone, backbone, str(file) if file and file.is_file() else "none", pictures)
    mlflow.tensorflow.save_model(network, work / "registered", pip_requirements=["tensorflow"])
    uploads = [_resized(pictures[number % len(pictures)], size) for number, size in enumerate(SIZES)]
    tensors = json.dumps({"inputs": _plain_views(pictures[0]).tolist()})
    with mlflow_serving(work / "registered", work) as (address, _):
        plain = _asked(lambda client: client.post(f"{address}/invocations", content=tensors, headers=JSON))
    with service(work / backbone, work) as (address, process):

        def ask(client: httpx.Client) -> httpx.Response:
            form = {"file": ("picture.jpg", random.choice(uploads))}
            return client.post(f"{address}/api/verdicts", files=form, data={"delivery_test": "false"})

        ours = _asked(ask, watch=process.pid)
        memory = ours["memory_mb"]
    assert not plain["failed"] + ours["failed"], (plain["failed"], ours["failed"])
    ratio = ours["per_s"] / plain["per_s"]
    yield {
        "name": f"API, {CLIENTS} clients, {SECONDS:g} s, {VIEW}, {backbone}",
        "baseline": f"mlflow models serve, ready tensors: {plain['per_s']:.2f}/s, p99 {plain['p99_s']:.1f} s",
        "ours": f"{ours['per_s']:.2f}/s, p50 {ours['p50_s']:.1f} s, p99 {ours['p99_s']:.1f} s, {ours['busy']} x 429",
        "ratio": round(ratio, 2),
        "goal": ">= 5x",
        "met": ratio >= 5,
    }
    growth = memory[-1] / memory[len(memory) // 3]
    yield {
        "name": "API, memory from a third of the time to its end",
        "baseline": f"{memory[len(memory) // 3]:.0f} MB",
        "ours": f"{memory[-1]:.0f} MB, all processes",
        "ratio": round(growth, 3),
        "goal": "<= 1.1",
        "met": growth <= 1.1,
    }


JSON = {"content-type": "application/json"}


def _resized(path: Path, size: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    Image.open(path).resize(size).save(content, "JPEG", quality=88)
    return content.getvalue()


def _asked(ask: Callable[[httpx.Client], httpx.Response], watch: int = 0) -> dict:
    """Ask from all clients until the time is up; an answer that comes later counts in the time that it took."""
    times: list[float] = []
    failed: list[str] = []
    memory: list[float] = []
    busy = Counter()
    start = time.monotonic()

    def client() -> None:
        with httpx.Client(timeout=PATIENCE_S) as own:
            while time.monotonic() - start < SECONDS:
                began = time.monotonic()
                answer = ask(own)
                if answer.status_code == 200:
                    times.append(time.monotonic() - began)
                elif answer.status_code == 429:
                    busy["429"] += 1
                    time.sleep(int(answer.headers["retry-after"]))
                else:
                    failed.append(f"{answer.status_code} {answer.text[:200]}")

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if watch:
            memory.append(memory_mb(watch))
        time.sleep(1)
    seconds = time.monotonic() - start
    p50, p99 = np.percentile(times, (50, 99))
    return {
        "per_s": len(times) / seconds,
        "p50_s": p50,
        "p99_s": p99,
        "busy": busy["429"],
        "failed": failed,
        "memory_mb": memory,
    }


@contextlib.contextmanager
def mlflow_serving(model: Path, work: Path) -> Iterator[tuple]:
    """Run `mlflow models serve` and yield its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", str(port)]
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (work / "mlflow.log").open("w") as output:
        process = subprocess.Popen(
            [*command, "--env-manager", "local"],
            stdout=output,
            stderr=output,
            env={**os.environ, **tools, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(PATIENCE_S)},
            start_new_session=True,
        )
    try:
        until_answered(f"http://127.0.0.1:{port}/ping", time.monotonic() + PATIENCE_S)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
