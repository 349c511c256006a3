"""A real Kubernetes API: etcd, API server, controllers and scheduler, without a node that runs pods.

`tests/cluster/kubernetes/build` makes the binaries. Nodes are objects that a thread keeps alive as a kubelet would, and
their logs come from a server that speaks the kubelet's part of the protocol.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

SOURCE = Path(__file__).resolve().parent / "cluster" / "kubernetes"
NAMES = ("fsgroup", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
IMAGES = [f"docker.io/library/ai-vs-real-{name}-python:0.1.0" for name in ("media", "training", "registration")]


def binaries() -> Path | None:
    """Return the directory where the build lies; None where it was not made."""
    pinned = next(line for line in (SOURCE / "go.mod").read_text().splitlines() if "k8s.io/kubernetes v" in line)
    version = pinned.split("k8s.io/kubernetes v")[1].split()[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "ai-vs-real" / f"kubernetes-{version}"
    return place if all((place / name).exists() for name in NAMES) else None


def kubectl() -> str | None:
    """Return kubectl: the one on the path, else the one that was built with the API server."""
    built = binaries()
    return shutil.which("kubectl") or (str(built / "kubectl") if built else None)


def eventually(look: Callable[[], object], seconds: float = 60.0) -> object:
    """Return the first true value of a look, or fail."""
    end = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds:g} s: {value!r}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kubernetes:
    """A running control plane.

    Attributes:
        kubeconfig: Of an administrator.
        logs: By pod, one entry a look: what its kubelet sends before the connection ends; the last one stays.
    """

    def __init__(self, place: Path):
        self.place, self.built = place, binaries()
        self.kubeconfig = place / "admin.yaml"
        self.logs: dict[str, list[str]] = {}
        self.alive: set[str] = set()
        self._processes: list[subprocess.Popen] = []

    def start(self) -> None:
        place, etcd, port = self.place, free_port(), free_port()
        url = f"http://127.0.0.1:{etcd}"
        peers = f"http://127.0.0.1:{free_port()}"
        self._run(
            shutil.which("etcd"),
            *("--data-dir", place / "etcd", "--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}", "--unsafe-no-fsync"),
        )
        key = place / "account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (place / "tokens.csv").write_text('admin,admin,admin,"system:masters"\n')
        self.url = f"https://127.0.0.1:{port}"
        self._run(
            self.built / "kube-apiserver",
            *("--etcd-servers", url, "--secure-port", port, "--bind-address", "127.0.0.1"),
            *("--cert-dir", place, "--token-auth-file", place / "tokens.csv", "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key),
            *("--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.0.0.0/24"),
            *("--kubelet-preferred-address-types", "InternalIP"),
        )
        certificate = place / "apiserver.crt"
        eventually(certificate.exists)
        self.kubeconfig.write_text(self.config("admin"))
        eventually(self._ready)
        own = ("--kubeconfig", self.kubeconfig, "--leader-elect=false", "--secure-port", "0")
        self._run(
            self.built / "kube-controller-manager",
            *own,
            *("--service-account-private-key-file", key, "--root-ca-file", certificate),
            *("--node-monitor-period", "1s", "--node-monitor-grace-period", "8s"),
        )
        self._run(self.built / "kube-scheduler", *own)
        self.kubelet = Kubelet(self, place)
        threading.Thread(target=self.kubelet.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def stop(self) -> None:
        self.alive.clear()
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _run(self, *command) -> None:
        log = (self.place / f"{Path(command[0]).name}.log").open("wb")
        self._processes.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log))

    def _ready(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self.place
        with contextlib.suppress(Exception):
            return "default" in [item.metadata.name for item in self.core.list_namespace().items]
        return False

    def config(self, token: str, **context: str) -> str:
        """Return a kubeconfig with a token."""
        authority = base64.b64encode((self.place / "apiserver.crt").read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        entries = {
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"} | context}],
        }
        return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "test", **entries})

    @property
    def client(self):
        from kubernetes import client, config

        settings = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=settings)
        return client.ApiClient(settings)

    @property
    def core(self):
        from kubernetes import client

        return client.CoreV1Api(self.client)

    def run(self, *words, **rest) -> subprocess.CompletedProcess:
        """Run kubectl as the administrator."""
        command = [str(self.built / "kubectl"), "--kubeconfig", str(self.kubeconfig), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **rest)

    def kubectl(self, *words, **rest) -> str:
        """Run kubectl as the administrator; returns what it prints."""
        done = self.run(*words, **rest)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words) -> dict:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, *documents) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))

    def account(self, name: str, namespace: str) -> str:
        """Return a kubeconfig with a service account's own token."""
        return self.config(self.kubectl("-n", namespace, "create", "token", name).strip())

    def add_node(self, name, *, gpu=0, labels=None, taints=(), cpu="4", memory="16Gi", images=()) -> None:
        """Make a node that is ready, and keep it so."""
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": list(taints)}})
        offers = {"cpu": cpu, "memory": memory, "pods": "50", "ephemeral-storage": "100Gi"}
        offers |= {"nvidia.com/gpu": str(gpu)} if gpu else {}
        self.patch_status(
            "node",
            name,
            {
                "capacity": offers,
                "allocatable": offers,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet.server_address[1]}},
                "images": [{"names": [image], "sizeBytes": 1} for image in images],
            },
        )
        self.alive.add(name)
        self._beat_once()
        eventually(lambda: self.ready(name))

    def remove_node(self, name: str) -> None:
        self.alive.discard(name)
        self.kubectl("delete", "node", name)

    def ready(self, name: str) -> bool:
        """Whether pods may be put on a node: its controller has taken away the taint of a new or a silent one."""
        node = self.get("node", name)
        taints = [taint["key"] for taint in node["spec"].get("taints", ())]
        return not any(key.startswith("node.kubernetes.io/") for key in taints)

    def patch_status(self, kind, name, status, namespace="default") -> None:
        patch = json.dumps({"status": status})
        self.kubectl("-n", namespace, "patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def _beat(self) -> None:
        while self._processes[0].poll() is None:
            with contextlib.suppress(Exception):  # the control plane is ending
                self._beat_once()
            time.sleep(1)

    def _beat_once(self) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        for name in list(self.alive):
            condition = {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "",
                "lastHeartbeatTime": now,
            }
            self.core.patch_node_status(name, {"status": {"conditions": [condition]}})


class Kubelet(ThreadingHTTPServer):
    """What the API server asks a node's kubelet for: the logs of its pods (pkg/kubelet/server/server.go)."""

    daemon_threads = True

    def __init__(self, cluster: Kubernetes, place: Path):
        super().__init__(("127.0.0.1", 0), Logs)
        self.cluster, self.looks = cluster, {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / "apiserver.crt", place / "apiserver.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Logs(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Send a log in chunks; one that does not end with a newline breaks off as a lost node does."""
        pod = self.path.split("/")[3]
        looks = self.server.cluster.logs[pod]
        number = self.server.looks.setdefault(pod, 0)
        self.server.looks[pod] += 1
        content = looks[min(number, len(looks) - 1)]
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


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory) -> Iterator[Kubernetes]:
    """One real control plane for every test of a process."""
    if binaries() is None:
        if shutil.which("go") is None:
            pytest.skip("needs Kubernetes' API server, which is built with Go, and there is no Go here")
        pytest.skip("needs Kubernetes' API server; build it once with make kubernetes")
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd, which is etcd-server in Debian")
    made = Kubernetes(tmp_path_factory.mktemp("kubernetes"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
