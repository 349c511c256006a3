"""Asks a running service thousands of times while its surroundings fail, and says what came of every request.

Usage: python tests/soak.py [--requests 20000] [--clients 16]

A twentieth of the uploads is broken, another twentieth of the clients hangs up before the answer; meanwhile the
registry goes away and comes back, and decoders and serving processes are killed.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from brightness import write_detector
from PIL import Image
from running_service import PATIENCE_S, children, memory_mb, service
from servers import running_mlflow

NAME = "ai-vs-real"
LEVELS = {"real": 40, "fake": 220}
KILLED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.ConnectError)  # by a kill of a process


def soak(place: Path, requests: int, clients: int) -> dict:
    """Run service and registry, break things at even distances, and count.

    Args:
        place: An empty directory.
        requests: How many are made.
        clients: How many ask at the same time.

    Returns:
        `answers` by kind; `wrong`, requests without the right answer, at most twenty; `again`, why requests were made
        once more until they were answered (a connection that a kill cut, 429, 503 with Retry-After); `per_s`;
        `memory_mb` after a tenth and at the end; `held`, files that the service still holds; `events` that happened.
    """
    place.mkdir(parents=True, exist_ok=True)
    detector = write_detector(place / "detector", size=48, export=True)
    with running_mlflow(sys.executable, _made(place / "registry")) as registry:
        from components import registry as registered

        os.environ["MLFLOW_TRACKING_URI"] = registry.uri
        version = registered.add_version(NAME, detector)
        registered.set_alias(NAME, registered.CHAMPION, version.version)
        with service(None, place, "--processes", "2", "--watch", "0.5", "--queue", str(2 * clients)) as (
            address,
            process,
        ):
            result = _asked(address, process.pid, registry, requests, clients)
            return result | {"held": _held(address)}


def _made(place: Path) -> Path:
    place.mkdir()
    return place


def _asked(address: str, process: int, registry, requests: int, clients: int) -> dict:
    answers, again, wrong, events = Counter(), Counter(), [], []
    numbers = itertools.count()
    memory: list[float] = []
    start = time.monotonic()

    def client() -> None:
        with httpx.Client(timeout=120) as own:
            while (number := next(numbers)) < requests:
                kind = (
                    "broken"
                    if number % 20 == 3
                    else "hangs up"
                    if number % 20 == 13
                    else "fake"
                    if number % 2
                    else "real"
                )
                try:
                    answers[_ask(own, address, kind, again)] += 1
                except Exception as error:
                    wrong.append(f"request {number}, {kind}: {type(error).__name__} {error}")

    def served() -> int:
        return min(requests, sum(answers.values()) + len(wrong))

    happenings = [
        (0.2, "the registry stops", lambda: registry.send(signal.SIGSTOP)),
        (0.35, "a decoder is killed", lambda: _kill(process, "components.media.workers")),
        (0.45, "the registry goes on", lambda: registry.send(signal.SIGCONT)),
        (0.55, "a serving process is killed", lambda: _kill(process, "spawn_main")),
        (0.75, "a decoder is killed", lambda: _kill(process, "components.media.workers")),
        (0.85, "a serving process is killed", lambda: _kill(process, "spawn_main")),
    ]
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if happenings and served() >= happenings[0][0] * requests:
            _, words, act = happenings.pop(0)
            act()
            events.append(words)
        if served() >= requests / 10:
            memory.append(memory_mb(process))
        time.sleep(0.1)
    seconds = time.monotonic() - start
    return {
        "answers": dict(answers),
        "wrong": wrong[:20],
        "again": dict(again),
        "per_s": round(requests / seconds, 1),
        "memory_mb": [round(memory[0]), round(memory[-1])] if memory else [],
        "events": events,
    }


def _ask(client: httpx.Client, address: str, kind: str, again: Counter) -> str:
    if kind == "hangs up":
        with contextlib.suppress(httpx.HTTPError):
            client.post(
                f"{address}/api/verdicts", files={"file": _picture("real")}, timeout=httpx.Timeout(5, read=0.005)
            )
        return kind
    content = b"\xff\xd8\xff\xe0 no picture" if kind == "broken" else _picture(kind)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = client.post(f"{address}/api/verdicts", files={"file": content})
        except KILLED:
            if time.monotonic() > deadline:
                raise
            again["connection cut"] += 1
            time.sleep(0.2)
            continue
        if answer.status_code not in (429, 503):  # 503: a process that takes another's place loads the detector
            break
        assert time.monotonic() < deadline, f"{answer.status_code} for {PATIENCE_S} s"
        again[str(answer.status_code)] += 1
        time.sleep(min(2, int(answer.headers["retry-after"])))
    expected = 422 if kind == "broken" else 200
    assert answer.status_code == expected, f"{answer.status_code} {answer.text[:200]}"
    assert kind == "broken" or answer.json()["verdict"] == kind, answer.text[:200]
    return kind


def _picture(kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((60, 80, 3), LEVELS[kind], np.uint8)).save(content, "PNG")
    return content.getvalue()


def _kill(process: int, words: str) -> None:
    for one in children(process)[1:]:
        with contextlib.suppress(OSError):
            if words in Path(f"/proc/{one}/cmdline").read_text():
                os.kill(one, signal.SIGKILL)
                return
    raise AssertionError(f"no process of {words} is there to be killed")


def _held(address: str) -> float:
    for _ in range(200):
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        held = float(next(line for line in lines if line.startswith("ai_vs_real_held_files ")).split()[1])
        if not held:
            return 0.0
        time.sleep(0.1)
    return held


def main() -> int:
    """Soak, print what came of it, and return 1 where a request was left without its answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="(%(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="(%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        os.environ["AI_VS_REAL_HOME"] = f"{place}/home"
        result = soak(Path(place) / "work", options.requests, options.clients)
    print(json.dumps(result, indent=1))
    return 1 if result["wrong"] or result["held"] else 0


if __name__ == "__main__":
    sys.exit(main())
