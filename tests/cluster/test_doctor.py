import base64
import http.server
import json
import re
import socket
import sys
import threading
from pathlib import Path

import pytest
import yaml
from kubernetes_server import GPU_TAINT, eventually
from servers import _server

from pipelines.cluster import fitness, services
from pipelines.cluster import kubeflow as client_side
from pipelines.cluster.finding import Finding
from pipelines.commands import doctor
from pipelines.commands.main import Parser

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.fixture(scope="module")
def whole(cluster):
    """A cluster on which the training pipeline is missing nothing, and an account that may look at it."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeflow"}})
    cluster.kubectl("apply", "-k", ROOT / "manifests" / "overlays" / "kubeflow")
    account = {"kind": "ServiceAccount", "name": "doctor", "namespace": "kubeflow"}
    group = "rbac.authorization.k8s.io"
    bindings = [
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": "doctor", **place},
            "roleRef": {"apiGroup": group, "kind": kind, "name": "ai-vs-real-doctor"},
            "subjects": [account],
        }
        for kind, place in (("Role", {"namespace": "kubeflow"}), ("ClusterRole", {}))
    ]
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "doctor", "namespace": "kubeflow"}},
        *bindings,
        secret("ai-vs-real-mongodb", "MONGODB_URI"),
        secret("ai-vs-real-mlflow", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        quota("1"),
        ml_pipeline(PATCH),
    )
    eventually(lambda: cluster.get("-n", "kubeflow", "resourcequota", "team")["status"].get("hard"))
    return cluster


PATCH = json.dumps({"podSpecPatch": json.dumps({"securityContext": {"fsGroup": 10001}})})


def secret(name, *keys):
    metadata = {"name": name, "namespace": "kubeflow"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict.fromkeys(keys, "x")}


def quota(gpus):
    hard = {"requests.cpu": "16", "requests.nvidia.com/gpu": gpus, "pods": "20"}
    metadata = {"name": "team", "namespace": "kubeflow"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def ml_pipeline(patch):
    """Return the deployment of the API server, as manifests/kustomize/base/pipeline of kubeflow/pipelines has it."""
    labels = {"app": "ml-pipeline"}
    container = {"name": "ml-pipeline-api-server", "image": "ghcr.io/kubeflow/kfp-api-server:2.17.0"}
    container["env"] = [{"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": patch}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "ml-pipeline", "namespace": "kubeflow"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def looked(capsys, command, *arguments):
    """Return the exit code and the findings by what they are of."""
    capsys.readouterr()
    code = command("--json", *arguments)
    return code, {item["what"]: item for item in json.loads(capsys.readouterr().out)["findings"]}


@pytest.fixture
def on_cluster(whole, context, command, capsys):
    """Run `ai-vs-real doctor --kubernetes` as the account; returns exit code and findings."""
    context("doctor", "kubeflow")
    return lambda *arguments: looked(capsys, command, "--kubernetes", *arguments)


@pytest.mark.servers
def test_every_check_passes_on_a_whole_cluster(on_cluster, command, capsys):
    code, findings = on_cluster()
    assert [item for item in findings.values() if item["ok"] is not True] == []
    assert code == 0
    assert findings["Kubernetes API"]["observed"].startswith("v1.34.4 at https://127.0.0.1")
    assert findings["GPU node for train"]["observed"] == "1 of 2, such as gpu-1"
    assert findings["quota team, requests.cpu"]["observed"] == "0 of 16 used"
    assert findings["config map ai-vs-real-config"]["observed"] == "has MLFLOW_TRACKING_URI"
    assert findings["workspace"]["observed"] == "a volume of 20Gi for each run, which group 10001 may write"
    assert "FFmpeg" in findings
    assert command("--kubernetes") == 0
    assert re.fullmatch(r"All \d+ checks passed", capsys.readouterr().out.splitlines()[-1])


def test_settings_and_weights_that_a_run_would_refuse_are_a_failure(command, capsys, tmp_path):
    code, findings = looked(capsys, command)
    assert findings["settings"]["observed"] == "accepted; efficientnetb0 from weights none"
    for arguments, words in ((["--gate", "best"], "gate 'best'"), (["--weights", tmp_path / "a.h5"], "a.h5")):
        code, findings = looked(capsys, command, *arguments)
        assert code == 1
        assert words in findings["settings"]["observed"]


@pytest.mark.servers
def test_lines_say_what_is_there_what_is_needed_and_what_to_do(whole, on_cluster, command, capsys):
    whole.kubectl("-n", "kubeflow", "delete", "secret", "ai-vs-real-mongodb")
    try:
        assert command("--kubernetes") == 1
    finally:
        whole.apply(secret("ai-vs-real-mongodb", "MONGODB_URI"))
    lines = capsys.readouterr().out.splitlines()
    assert (
        "FAIL  secret ai-vs-real-mongodb: missing; needs the keys MONGODB_URI in kubeflow; "
        "kubectl -n kubeflow create secret generic ai-vs-real-mongodb --from-literal=MONGODB_URI=..."
    ) in lines
    assert re.fullmatch(r"Of \d+ checks, 1 failed", lines[-1])


@pytest.mark.servers
@pytest.mark.parametrize(
    ("there", "ok", "text"),
    [
        ({"gpu": 0}, None, "none of 2 nodes offers nvidia.com/gpu"),
        ({"gpu": 1, "taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]}, False, "has taint team=a"),
        ({"gpu": 1, "cpu": "1"}, False, "has 1 cpu"),
        ({"gpu": 1, "memory": "7000Mi"}, False, "has 7000Mi memory"),
    ],
)
def test_a_gpu_node_that_does_not_fit_is_named_with_the_reason(whole, on_cluster, there, ok, text):
    whole.remove_node("gpu-1")
    whole.add_node("gpu-1", **there)
    try:
        code, findings = on_cluster()
    finally:
        whole.remove_node("gpu-1")
        whole.add_node("gpu-1", gpu=1, taints=[GPU_TAINT], labels={"pool": "gpu"})
    assert findings["GPU node for train"]["ok"] is ok
    assert text in findings["GPU node for train"]["observed"]
    assert code == (1 if ok is False else 3)


@pytest.mark.servers
def test_what_the_cluster_file_asks_for_is_looked_for(on_cluster, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("gpu_nodes: {pool: a100}\nspot: true\nworkspace_storage_class: fast\n")
    code, findings = on_cluster("--cluster", path)
    assert code == 1
    assert "is missing the label cloud.google.com/gke-spot=true" in findings["GPU node for train"]["observed"]
    assert "is missing the label pool=a100" in findings["GPU node for train"]["observed"]
    assert (findings["storage class"]["ok"], findings["storage class"]["observed"]) == (False, "there is standard")
    path.write_text("workspace: ''\n")
    _, findings = on_cluster("--cluster", path)
    assert not {"storage class", "workspace"} & set(findings)


@pytest.mark.servers
def test_what_is_used_up_or_missing_is_a_failure(whole, on_cluster):
    default = "storageclass.kubernetes.io/is-default-class"
    whole.apply(quota("0"), ml_pipeline("{}"), secret("ai-vs-real-mongodb", "MONGODB"))
    whole.kubectl("annotate", "storageclass", "standard", f"{default}-")
    whole.kubectl("-n", "kubeflow", "delete", "configmap", "ai-vs-real-config")
    whole.kubectl("-n", "kubeflow", "delete", "secret", "ai-vs-real-mlflow", "ai-vs-real-mongodb")
    whole.apply(secret("ai-vs-real-mongodb", "MONGODB"))
    eventually(
        lambda: whole.get("-n", "kubeflow", "resourcequota", "team")["status"]["hard"]["requests.nvidia.com/gpu"] == "0"
    )
    try:
        code, findings = on_cluster()
    finally:
        whole.kubectl("annotate", "storageclass", "standard", f"{default}=true")
        whole.kubectl("apply", "-k", ROOT / "manifests" / "overlays" / "kubeflow")
        whole.kubectl("-n", "kubeflow", "delete", "secret", "ai-vs-real-mongodb")
        whole.apply(
            quota("1"),
            ml_pipeline(PATCH),
            secret("ai-vs-real-mongodb", "MONGODB_URI"),
            secret("ai-vs-real-mlflow", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        )
    assert {what for what, item in findings.items() if item["ok"] is False} == {
        "quota team, requests.nvidia.com/gpu",
        "storage class",
        "workspace",
        "config map ai-vs-real-config",
        "secret ai-vs-real-mongodb",
    }
    assert findings["secret ai-vs-real-mongodb"]["observed"] == "is missing MONGODB_URI"
    assert findings["storage class"]["observed"] == "no default among standard"
    assert "which is fine" in findings["secret ai-vs-real-mlflow"]["observed"]
    assert "set env deployment/ml-pipeline COMPILED_PIPELINE_SPEC_PATCH=" in findings["workspace"]["fix"]
    assert code == 1


@pytest.mark.servers
def test_what_may_not_be_looked_at_is_neither_passed_nor_failed(whole, context, command, capsys):
    context("default", "kubeflow")  # an account that may read nothing
    code, findings = looked(capsys, command, "--kubernetes")
    unknown = {what for what, item in findings.items() if item["ok"] is None}
    assert {"nodes", "quota", "images", "storage class", "workspace"} <= unknown
    assert "nodes is forbidden" in findings["nodes"]["observed"]
    assert code == 3
    assert command("--kubernetes") == 3
    assert re.fullmatch(r"Of \d+ checks, \d+ could not be looked at", capsys.readouterr().out.splitlines()[-1])


def test_kubeflow_is_asked_for_its_version(kubeflow, command, capsys):
    kubeflow.token = "letmein"
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert (code, findings["Kubeflow Pipelines"]["ok"]) == (1, False)
    assert "does not let us in" in findings["Kubeflow Pipelines"]["observed"]
    kubeflow.token = ""
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert findings["Kubeflow Pipelines"]["observed"].endswith("answers, version unknown")
    kubeflow.release = "2.17.0"
    code, findings = looked(capsys, command, "--host", kubeflow.url)
    assert (code, findings["Kubeflow Pipelines"]["observed"][-14:]) == (0, "version 2.17.0")


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
    assert fitness.pullable(f"{registry}/public/image:2", {}).observed == "the registry answers 404"
    assert fitness.pullable(f"{registry}/private/image:1", own).ok is True
    assert fitness.pullable(f"{registry}/private/image:1", {}).ok is None
    assert fitness.pullable(f"{registry}/private/image:1", {registry: ("robot", "wrong")}).ok is None
    assert fitness.pullable("image:1", {}).observed == "names no registry"


@pytest.mark.servers
def test_pull_secrets_of_the_cluster_are_used(whole, command, context, capsys, tmp_path, registry, compiled):
    context()
    auth = base64.b64encode(b"robot:secret").decode()
    metadata = {"name": "pull", "namespace": "kubeflow"}
    data = {".dockerconfigjson": json.dumps({"auths": {registry: {"auth": auth}}})}
    kind = "kubernetes.io/dockerconfigjson"
    whole.apply({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "stringData": data})
    image = f"{registry}/private/image:1"
    specification, platforms = yaml.safe_load_all(compiled.read_text())
    specification["deploymentSpec"]["executors"]["exec-train"]["container"]["image"] = image
    executor = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    executor["imagePullSecret"] = [{"secretName": "pull"}]
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump_all([specification, platforms]))
    code, findings = looked(capsys, command, "--kubernetes", "--pipeline", pipeline)
    assert (code, findings[f"image {image}"]["observed"]) == (0, "can be pulled")


BUCKETS = """
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), True, default_bucket="media").run()
"""


@pytest.mark.servers
def test_mongodb_must_let_us_write(mongodb):
    assert services.mongodb(f"{mongodb}/records").observed == f"{mongodb}/records answers and can be written"
    finding = services.mongodb("mongodb://user:secret@127.0.0.1:1/records?serverSelectionTimeoutMS=100")
    assert finding.ok is False
    assert "secret" not in str(finding)


@pytest.mark.servers
def test_mlflow_must_let_us_write(mlflow_server):
    assert services.mlflow(mlflow_server) == Finding("MLflow", True, f"{mlflow_server} answers and can be written")
    finding = services.mlflow("http://127.0.0.1:1")
    assert finding.ok is False
    assert "Connection refused" in finding.observed


@pytest.mark.servers
def test_a_bucket_must_let_us_write(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _server([sys.executable, "-c", BUCKETS, str(port)], port, tmp_path):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        assert services.bucket("gs://media/runs") == Finding("bucket", True, "gs://media/runs can be written")
        assert services.bucket("gs://another").ok is False
