import base64
import http.server
import json
import re
import socket
import sys
import threading

import pytest
from servers import _server

from pipelines.cluster import fitness, services
from pipelines.cluster import kubeflow as client_side
from pipelines.cluster.finding import Finding
from pipelines.commands import doctor
from pipelines.commands.main import Parser


@pytest.fixture
def command(monkeypatch, home):
    """Run `ai-vs-real doctor`; returns its exit code."""
    for name in ("KF_PIPELINES_ENDPOINT", client_side.TOKEN, client_side.COOKIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(services, "DISK_BYTES", 2**20)
    parser = Parser()
    doctor.add_parser(parser.add_subparsers())

    def run(*arguments):
        options = parser.parse_args(["doctor", "--weights", "none", *map(str, arguments)])
        return options.run(options)

    return run


def node(name, *, gpu=0, labels=None, taints=(), cpu="4", memory="16Gi", ready=True, images=()):
    offers = {"cpu": cpu, "memory": memory, **({"nvidia.com/gpu": str(gpu)} if gpu else {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": offers,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "images": [{"names": [image], "sizeBytes": 1} for image in images],
        },
    }


GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
IMAGES = [f"docker.io/library/ai-vs-real-{name}-python:0.1.0" for name in ("media", "training", "registration")]


@pytest.fixture
def whole(apiserver):
    """A cluster on which the training pipeline lacks nothing."""
    apiserver.add("nodes", node("small-1", images=IMAGES))
    apiserver.add("nodes", node("gpu-1", gpu=1, taints=[GPU_TAINT]))
    metadata = {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    apiserver.add("storageclasses", {"metadata": metadata, "provisioner": "x"})
    patch = json.dumps({"podSpecPatch": json.dumps({"securityContext": {"fsGroup": 10001}})})
    container = {"name": "ml-pipeline", "env": [{"name": fitness.PATCH, "value": patch}]}
    template = {"metadata": {"labels": {"app": "ml-pipeline"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "ml-pipeline"}}, "template": template}
    apiserver.add("deployments", {"metadata": {"name": "ml-pipeline", "namespace": "kubeflow"}, "spec": spec})
    for plural, name, keys in (
        ("configmaps", "ai-vs-real-config", ["MLFLOW_TRACKING_URI"]),
        ("secrets", "ai-vs-real-mongodb", ["MONGODB_URI"]),
        ("secrets", "ai-vs-real-mlflow", ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]),
    ):
        add_named(apiserver, plural, name, keys)
    add_quota(
        apiserver, {"requests.cpu": "16", "requests.nvidia.com/gpu": "1", "pods": "20"}, {"requests.cpu": "1500m"}
    )
    return apiserver


def add_named(apiserver, plural, name, keys):
    data = {key: base64.b64encode(b"x").decode() if plural == "secrets" else "x" for key in keys}
    apiserver.add(plural, {"metadata": {"name": name, "namespace": "kubeflow"}, "data": data})


def add_quota(apiserver, hard, used):
    metadata = {"name": "ai-vs-real", "namespace": "kubeflow"}
    apiserver.add("resourcequotas", {"metadata": metadata, "status": {"hard": hard, "used": used}})


def looked(capsys, command, *arguments):
    """Return the exit code and the findings by what they are of."""
    code = command("--json", *arguments)
    return code, {item["what"]: item for item in json.loads(capsys.readouterr().out)["findings"]}


def test_nothing_lacks_on_a_whole_cluster(whole, command, capsys):
    code, findings = looked(capsys, command, "--kubernetes")
    assert [item for item in findings.values() if item["ok"] is not True] == []
    assert code == 0
    assert findings["Kubernetes API"]["found"].startswith("v1.33.1-gke.100 at http://127.0.0.1")
    assert findings["GPU node for train"]["found"] == "1 of 2, such as gpu-1"
    assert findings["quota ai-vs-real, requests.cpu"]["found"] == "1500m of 16 used"
    assert findings["config map ai-vs-real-config"]["found"] == "has MLFLOW_TRACKING_URI"
    assert "FFmpeg" in findings


def test_settings_and_weights_that_a_run_would_refuse_are_a_failure(command, capsys, tmp_path):
    code, findings = looked(capsys, command)
    assert findings["settings"]["found"] == "accepted; efficientnetb0 from weights none"
    for arguments, words in ((["--gate", "best"], "gate 'best'"), (["--weights", tmp_path / "a.h5"], "a.h5")):
        code, findings = looked(capsys, command, *arguments)
        assert code == 1
        assert words in findings["settings"]["found"]


def test_lines_say_what_is_found_needed_and_to_be_done(whole, command, capsys):
    del whole.objects["secrets", "kubeflow"]["ai-vs-real-mongodb"]
    assert command("--kubernetes") == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        "FAIL  secret ai-vs-real-mongodb: missing; needs the keys MONGODB_URI in kubeflow; "
        "kubectl -n kubeflow create secret generic ai-vs-real-mongodb --from-literal=MONGODB_URI=..."
    ) in lines
    assert re.fullmatch(r"Of \d+ checks, 1 failed", lines[-1])


@pytest.mark.parametrize(
    ("there", "ok", "found"),
    [
        (dict(gpu=0), None, "none of 2 nodes offers nvidia.com/gpu"),
        (
            dict(gpu=1, taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}]),
            False,
            "has taint team=a:NoSchedule",
        ),
        (dict(gpu=1, cpu="1"), False, "has 1 cpu"),
        (dict(gpu=1, memory="7000Mi"), False, "has 7000Mi memory"),
        (dict(gpu=1, ready=False), False, "is not ready"),
    ],
)
def test_a_gpu_node_that_does_not_fit_is_told_with_its_reason(whole, command, capsys, there, ok, found):
    whole.add("nodes", node("gpu-1", **there))
    code, findings = looked(capsys, command, "--kubernetes")
    assert findings["GPU node for train"]["ok"] is ok
    assert found in findings["GPU node for train"]["found"]
    assert code == (1 if ok is False else 3)


def test_labels_of_the_pool_are_asked_for(whole, command, capsys, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("gpu_nodes: {pool: a100}\nspot: true\n")
    code, findings = looked(capsys, command, "--kubernetes", "--cluster", path)
    assert code == 1
    assert (
        "lacks label cloud.google.com/gke-spot=true, lacks label pool=a100" in findings["GPU node for train"]["found"]
    )


def test_what_is_used_up_or_missing_is_a_failure(whole, command, capsys):
    add_quota(whole, {"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"})
    whole.objects["storageclasses", ""]["standard"]["metadata"].pop("annotations")
    whole.objects["configmaps", "kubeflow"].clear()
    whole.objects["secrets", "kubeflow"].pop("ai-vs-real-mlflow")
    add_named(whole, "secrets", "ai-vs-real-mongodb", ["MONGODB"])
    code, findings = looked(capsys, command, "--kubernetes")
    wrong = {what for what, item in findings.items() if item["ok"] is False}
    assert wrong == {
        "quota ai-vs-real, requests.nvidia.com/gpu",
        "storage class",
        "config map ai-vs-real-config",
        "secret ai-vs-real-mongodb",
    }
    assert findings["secret ai-vs-real-mongodb"]["found"] == "lacks MONGODB_URI"
    assert findings["storage class"]["found"] == "no default among standard"
    assert "which is well" in findings["secret ai-vs-real-mlflow"]["found"]
    assert code == 1


def test_what_may_not_be_looked_at_is_neither_passed_nor_failed(whole, command, capsys):
    whole.forbidden = {"nodes", "resourcequotas"}
    code, findings = looked(capsys, command, "--kubernetes")
    assert [findings[what]["ok"] for what in ("nodes", "quota", "images")] == [None] * 3
    assert "nodes is forbidden" in findings["nodes"]["found"]
    assert code == 3
    assert command("--kubernetes") == 3
    assert re.fullmatch(r"Of \d+ checks, 3 could not be looked at", capsys.readouterr().out.splitlines()[-1])


def test_kubeflow_is_asked_for_its_version(kubeflow, command, capsys):
    kubeflow.token = "letmein"
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert (code, findings["Kubeflow Pipelines"]["ok"]) == (1, False)
    assert "does not let us in" in findings["Kubeflow Pipelines"]["found"]
    kubeflow.token = ""
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert findings["Kubeflow Pipelines"]["found"].endswith("answers, version unknown")
    kubeflow.release = "2.17.0"
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert (code, findings["Kubeflow Pipelines"]["found"][-14:]) == (0, "version 2.17.0")


class Registry(http.server.BaseHTTPRequestHandler):
    """An image registry that gives tokens to one user, and shows public/ to everybody."""

    def do_HEAD(self):
        host = f"http://{self.headers['Host']}"
        public = self.path.startswith("/v2/public/")
        if not public and self.headers.get("Authorization") != "Bearer granted":
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="{host}/token",service="registry",scope="pull"')
        else:
            self.send_response(200 if self.path.endswith("/image/manifests/1") else 404)
        self.end_headers()

    def do_GET(self):
        own = base64.b64encode(b"robot:secret").decode()
        token = "granted" if self.headers.get("Authorization") == f"Basic {own}" else "nobody"
        content = json.dumps({"token": token}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def registry():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_image_is_asked_for_as_a_node_would(registry):
    own = {registry: ("robot", "secret")}
    assert fitness.pullable(f"{registry}/public/image:1", {}).ok is True
    assert fitness.pullable(f"{registry}/public/image:2", {}).found == "the registry answers 404"
    assert fitness.pullable(f"{registry}/private/image:1", own).ok is True
    assert fitness.pullable(f"{registry}/private/image:1", {}).ok is None
    assert fitness.pullable(f"{registry}/private/image:1", {registry: ("robot", "wrong")}).ok is None
    assert fitness.pullable("image:1", {}).found == "names no registry"


def test_pull_secrets_of_the_cluster_are_used(whole, command, capsys, tmp_path, monkeypatch, registry, compiled):
    auth = base64.b64encode(b"robot:secret").decode()
    secret = json.dumps({"auths": {registry: {"auth": auth}}})
    data = {".dockerconfigjson": base64.b64encode(secret.encode()).decode()}
    whole.add("secrets", {"metadata": {"name": "pull", "namespace": "kubeflow"}, "data": data})
    image = f"{registry}/private/image:1"
    pipeline = tmp_path / "tiny.yaml"
    text = compiled.read_text().replace("image: tiny-python:1", f"image: {image}")
    pipeline.write_text(
        text.replace(
            "        exec-train:\n", "        exec-train:\n          imagePullSecret:\n          - secretName: pull\n"
        )
    )
    code, findings = looked(capsys, command, "--kubernetes", "--pipeline", pipeline)
    assert (code, findings[f"image {image}"]["found"]) == (0, "can be pulled")


BUCKETS = """
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), True, default_bucket="media").run()
"""


def test_mongodb_must_let_us_write(mongodb):
    assert services.mongodb(f"{mongodb}/records").found == f"{mongodb}/records answers and can be written"
    finding = services.mongodb("mongodb://user:secret@127.0.0.1:1/records?serverSelectionTimeoutMS=100")
    assert finding.ok is False
    assert "secret" not in str(finding)


def test_mlflow_must_let_us_write(mlflow_server):
    assert services.mlflow(mlflow_server) == Finding("MLflow", True, f"{mlflow_server} answers and can be written")
    finding = services.mlflow("http://127.0.0.1:1")
    assert finding.ok is False
    assert "Connection refused" in finding.found


def test_a_bucket_must_let_us_write(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _server([sys.executable, "-c", BUCKETS, str(port)], port, tmp_path):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        assert services.bucket("gs://media/runs") == Finding("bucket", True, "gs://media/runs can be written")
        assert services.bucket("gs://another").ok is False
