"""Servers of the real shape, each on a free port."""

import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import pytest
import yaml
from kubeflow_server import Kubeflow


class Apiserver(ThreadingHTTPServer):
    """The Kubernetes API over objects in memory; what is created must pass the strict schema of its kind.

    Attributes:
        objects: By plural and namespace ("" for none), then name.
        forbidden: Plurals that the caller may not read.
        life: Of the job that is created, one entry a look: (status of the job, its pods); the last one stays.
        logs: By pod, one entry a look: what is sent before the connection ends; the last one stays.
    """

    daemon_threads = True
    KUBERNETES = "1.33"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Objects)
        self.objects: dict[tuple[str, str], dict[str, dict]] = defaultdict(dict)
        self.forbidden: set[str] = set()
        self.life: list[tuple[dict, list[dict]]] = [({"active": 1}, [])]
        self.logs: dict[str, list[str]] = {}
        self.looks: dict[str, int] = defaultdict(int)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, plural, manifest):
        metadata = manifest["metadata"]
        self.objects[plural, metadata.get("namespace", "")][metadata["name"]] = manifest

    def live(self, name, namespace):
        """Let a job grow older by one look."""
        status, pods = self.life[min(self.looks[name], len(self.life) - 1)]
        self.looks[name] += 1
        self.objects["jobs", namespace][name]["status"] = status
        for pod in pods:
            pod["metadata"] |= {"namespace": namespace, "labels": {"batch.kubernetes.io/job-name": name}}
            self.add("pods", pod)


class Objects(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    PATH = re.compile(r"/(?:api/v1|apis/[^/]+/v1)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(/log)?")

    def do_GET(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer kubernetes":
            return self.refuse(401, "Unauthorized")
        parts = urlsplit(self.path)
        if parts.path == "/version/":
            return self.answer(
                {"major": "1", "minor": "33", "gitVersion": "v1.33.1-gke.100"}
                | dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "-")
            )
        namespace, plural, name, log = self.PATH.fullmatch(parts.path).groups()
        if plural in self.server.forbidden:
            return self.refuse(403, f'{plural} is forbidden: User "somebody" cannot list resource "{plural}"')
        own = self.server.objects[plural, namespace or ""]
        if self.command == "POST" and json.loads(self.body)["metadata"]["name"] in own:
            return self.refuse(409, f"{plural} already exists")
        if self.command in ("POST", "PUT"):
            manifest = json.loads(self.body)
            kubernetes_validate.validate(manifest, Apiserver.KUBERNETES, strict=True)
            self.server.add(plural, manifest)
            return self.answer(manifest)
        if name and name not in own:
            return self.refuse(404, f'{plural} "{name}" not found')
        if self.command == "DELETE":
            return self.answer(own.pop(name))
        if log:
            return self.stream(name)
        if plural == "jobs" and name:
            self.server.live(name, namespace)
        if name:
            return self.answer(own[name])
        labels = dict(
            item.split("=") for item in parse_qs(parts.query).get("labelSelector", [""])[0].split(",") if item
        )
        found = [item for item in own.values() if labels.items() <= item["metadata"].get("labels", {}).items()]
        return self.answer({"items": found, "metadata": {}})

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def answer(self, document, status=200):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status, message):
        self.answer({"kind": "Status", "status": "Failure", "message": message, "code": status}, status)

    def stream(self, pod):
        """Send a log in chunks; one that does not end with a newline breaks off as a lost node does."""
        looks = self.server.logs[pod]
        content = looks[min(self.server.looks[pod], len(looks) - 1)]
        self.server.looks[pod] += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(content.encode()):x}\r\n{content}\r\n".encode() if content else b"")
        if content.endswith("\n"):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *args):
        pass


def serve(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubeflow():
    """A Kubeflow Pipelines server on a free port."""
    yield from serve(Kubeflow())


@pytest.fixture
def apiserver(tmp_path, monkeypatch):
    """A Kubernetes API on a free port, which kubectl's configuration points at."""
    for server in serve(Apiserver()):
        entries = {
            "clusters": [{"name": "test", "cluster": {"server": server.url}}],
            "users": [{"name": "test", "user": {"token": "kubernetes"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "test", **entries}))
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A small compiled pipeline of two documents, with a parameter of every kind."""
    from kfp import compiler, dsl

    from pipelines.steps.resources import Cluster, pipeline, place

    @dsl.component(base_image="tiny-python:1", install_kfp_package=False)
    def train(media: str, epochs: int, rate: float, warm: bool, names: list, labels: dict) -> str:
        return media

    @pipeline("tiny", "One step.", resumes=True)
    def tiny(media: str, epochs: int = 1, rate: float = 0.5, warm: bool = False, names: list = [], labels: dict = {}):  # noqa: B006
        place(train(media=media, epochs=epochs, rate=rate, warm=warm, names=names, labels=labels), "train")

    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    compiler.Compiler().compile(tiny.on(Cluster()), str(path))
    return path
