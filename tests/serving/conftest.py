import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn

from components.serving.app import create_app
from components.serving.bounds import Bounds
from components.serving.champion import Candidate, Champion, Served

VERDICT = {
    "path": "/secret/place",
    "kind": "picture",
    "verdict": "fake",
    "reason": "",
    "probability": 0.97,
    "error": None,
    "frames": 1,
    "band": {"low": 0.2, "high": 0.8},
    "familiarity": None,
    "deliveries": [],
    "timeline": [],
    "segments": [],
    "provenance": {"c2pa": None, "metadata": []},
    "nearest": [],
    "receipt": {"version": "1"},
    "limits": [],
    "heat_map": None,
    "heat_map_time_s": None,
}


class Examiner:
    """Answers without looking, so that tests of the service around it are quick."""

    def __init__(self, version="1", wait=None):
        self.card, self.version, self.wait = {"digest": "d" * 64}, version, wait
        self.seen = []

    def examine(self, path, explain=False, delivery_test=True):
        content = path.read_bytes()
        self.seen.append(content)
        if self.wait is not None:
            self.wait.wait(30)
        if content == b"broken":
            return SimpleNamespace(to_json=lambda: {**VERDICT, "verdict": None, "error": "it is not a picture"})
        if content == b"defect":
            raise RuntimeError("mongodb://user:secret@host is down")
        return SimpleNamespace(to_json=lambda: {**VERDICT, "receipt": {"version": self.version}})


def champion_with(examiner):
    served = Served(examiner, examiner.version, "d" * 64, ("Not for faces.",), time.time())
    return Champion(lambda: Candidate((examiner.version,), lambda: served), 0.0)


@pytest.fixture
def serve():
    """Run the service on a real socket; returns its address."""
    running = []

    def start(examiner=None, champion=None, **options):
        bounds = options.pop("bounds", Bounds(at_once=2))
        app = create_app(champion or champion_with(examiner or Examiner()), bounds, **options)
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        for _ in range(500):
            if server.started:
                break
            time.sleep(0.01)
        running.append((server, thread))
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if champion is None:
            for _ in range(500):
                if app.state.service.champion.served:
                    break
                time.sleep(0.01)
        return address

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)
