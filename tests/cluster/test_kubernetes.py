"""The manifests on a real Kubernetes API: every overlay is applied, makes its pods, and the scheduler places them."""

import socket
import sys
import threading
from pathlib import Path

import pytest
import yaml
from kfp_server_api import V2beta1Run
from kubeflow_server import Kubeflow
from kubernetes_server import GPU_TAINT, binaries, eventually

from pipelines.cluster.following import causes, follow
from pipelines.cluster.kubeflow import Server
from pipelines.cluster.kubernetes_api import connect
from pipelines.commands import submit
from pipelines.commands.main import Parser

pytestmark = pytest.mark.servers
ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "ai-vs-real"
PLACES = ("local", "gke")
JOBS = ("prepare", "train", "score")


def warnings(cluster, namespace=NAMESPACE):
    """Return what the controllers say of objects that make no pod."""
    events = cluster.get("-n", namespace, "events")["items"]
    return [event["message"] for event in events if event["reason"] in ("FailedCreate", "FailedMount")]


@pytest.fixture(autouse=True)
def tidy(cluster):
    yield
    every = ("--all-namespaces", "--all", "--wait=false")
    cluster.kubectl("delete", "jobs", *every)
    cluster.kubectl("delete", "pods", *every, "--grace-period=0", "--force")
    cluster.kubectl("delete", "events", *every)
    eventually(lambda: not cluster.get("-n", NAMESPACE, "jobs")["items"])


def rendered(cluster, target, namespace=NAMESPACE):
    """Return the objects of an overlay, in a namespace of their own where another overlay's are in the cluster."""
    documents = list(yaml.safe_load_all(cluster.kubectl("kustomize", ROOT / "manifests" / "overlays" / target)))
    for document in documents:
        if document["kind"] == "Namespace":
            document["metadata"]["name"] = namespace
        elif "namespace" in document["metadata"]:
            document["metadata"]["namespace"] = namespace
    return yaml.safe_dump_all(documents)


@pytest.fixture(scope="module", params=PLACES)
def place(request, cluster):
    """An overlay, its name and its namespace; the fixture `cluster` has applied the one for a local place."""
    namespace = NAMESPACE if request.param == "local" else f"{NAMESPACE}-{request.param}"
    applied = cluster.run("apply", "--validate=strict", "-f", "-", input=rendered(cluster, request.param, namespace))
    assert applied.returncode == 0, applied.stderr
    assert "would violate" not in applied.stderr
    return request.param, namespace


@pytest.mark.parametrize("name", JOBS)
def test_the_jobs_of_an_overlay_are_taken_without_a_warning(cluster, place, name):
    """By the server, field by field: no unknown one, and no pod that the namespace's standard would refuse."""
    overlay, namespace = place
    job = rendered(cluster, f"{overlay}/jobs/{name}", namespace)
    applied = cluster.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=job)
    assert applied.returncode == 0, applied.stderr
    assert "would violate" not in applied.stderr


def test_whatever_makes_pods_makes_them_under_the_restricted_standard_and_the_quota(cluster, place):
    overlay, namespace = place
    for name in JOBS:
        cluster.kubectl("apply", "-f", "-", input=rendered(cluster, f"{overlay}/jobs/{name}", namespace))
    cluster.kubectl("-n", namespace, "create", "job", "backup", "--from=cronjob/mongodb-backup")
    wanted = {"mlflow", "mlflow-postgresql-0", "mongodb-0", "backup", *(f"ai-vs-real-{name}" for name in JOBS)}

    def missing():
        names = [pod["metadata"]["name"] for pod in cluster.get("-n", namespace, "pods")["items"]]
        return {name for name in wanted if not any(pod.startswith(name) for pod in names)}

    eventually(lambda: not missing())
    assert warnings(cluster, namespace) == []


def test_a_pod_that_breaks_the_standard_is_refused(cluster):
    """The namespace enforces it: the tests above would not pass by accident."""
    container = {"name": "main", "image": "busybox"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose", "namespace": NAMESPACE}}
    applied = cluster.run("apply", "-f", "-", input=yaml.safe_dump({**pod, "spec": {"containers": [container]}}))
    assert applied.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in applied.stderr


def test_the_scheduler_puts_training_on_the_gpu_pool_alone(cluster):
    for name in JOBS:
        cluster.kubectl("apply", "-k", ROOT / "manifests" / "jobs" / name)
    cluster.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/mlflow")

    def placed():
        pods = cluster.get("-n", NAMESPACE, "pods")["items"]
        nodes = {pod["metadata"]["name"].rsplit("-", 1)[0]: pod["spec"].get("nodeName", "") for pod in pods}
        return nodes if all(nodes.get(f"ai-vs-real-{name}") for name in JOBS) else None

    nodes = eventually(placed)
    assert {name for name, node in nodes.items() if node == "gpu-1"} == {"ai-vs-real-train"}
    [pod] = cluster.get("-n", NAMESPACE, "pods", "-l", "batch.kubernetes.io/job-name=ai-vs-real-train")["items"]
    assert pod["spec"]["priority"] == 1000
    assert pod["spec"]["preemptionPolicy"] == "Never"


def test_training_waits_for_a_spot_gpu_node_of_the_gke_pool(cluster):
    cluster.kubectl("apply", "-k", ROOT / "manifests" / "overlays" / "gke" / "jobs" / "train")

    def pod():
        items = cluster.get("-n", NAMESPACE, "pods", "-l", "batch.kubernetes.io/job-name=ai-vs-real-train")["items"]
        return items[0] if items and items[0]["status"].get("conditions") else None

    assert "didn't match Pod's node affinity/selector" in eventually(pod)["status"]["conditions"][0]["message"]
    spot = {"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"}
    labels = {"cloud.google.com/gke-nodepool": "gpu", "cloud.google.com/gke-spot": "true"}
    cluster.add_node("gpu-spot", gpu=1, taints=[GPU_TAINT, spot], labels=labels)
    try:
        eventually(lambda: pod()["spec"].get("nodeName") == "gpu-spot")
    finally:
        cluster.remove_node("gpu-spot")


def test_the_workers_of_a_training_take_a_gpu_node_each(cluster):
    """Pods by number, under names that a service without an address of its own gives out."""
    target = ROOT / "manifests" / "overlays" / "gke" / "jobs" / "train-workers"
    spot = {"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"}
    labels = {"cloud.google.com/gke-nodepool": "gpu", "cloud.google.com/gke-spot": "true"}
    nodes = ["gpu-spot-1", "gpu-spot-2"]
    for name in nodes:
        cluster.add_node(name, gpu=1, taints=[GPU_TAINT, spot], labels=labels)
    applied = cluster.run("apply", "--validate=strict", "-k", target)
    assert applied.returncode == 0, applied.stderr
    assert "would violate" not in applied.stderr

    def placed():
        items = cluster.get("-n", NAMESPACE, "pods", "-l", "ai-vs-real/workers=train")["items"]
        return items if len(items) == 2 and all(pod["spec"].get("nodeName") for pod in items) else None

    try:
        pods = sorted(eventually(placed), key=lambda pod: pod["spec"]["hostname"])
        assert [pod["spec"]["hostname"] for pod in pods] == ["ai-vs-real-train-0", "ai-vs-real-train-1"]
        assert {pod["spec"]["subdomain"] for pod in pods} == {"ai-vs-real-train"}
        assert sorted(pod["spec"]["nodeName"] for pod in pods) == nodes
        assert warnings(cluster) == []
    finally:
        cluster.kubectl("delete", "-k", target, "--wait=false")
        for name in nodes:
            cluster.remove_node(name)


def test_kubeflow_trainer_takes_the_trainjob_and_its_runtime(cluster):
    """By the definitions of Kubeflow Trainer and JobSet, field by field; their controllers are not here."""
    crds = (binaries() or Path()) / "crds"
    if not crds.is_dir():
        pytest.skip("make kubernetes fetches the definitions of Kubeflow Trainer, as a Go module")
    cluster.kubectl("apply", "--server-side", "-f", crds)
    cluster.kubectl("wait", "--for=condition=established", "--timeout=60s", "-f", crds)
    target = ROOT / "manifests" / "overlays" / "trainer"
    applied = cluster.run("apply", "--validate=strict", "-k", target)
    assert applied.returncode == 0, applied.stderr
    try:
        job = cluster.get("-n", NAMESPACE, "trainjob", "ai-vs-real-train")["spec"]
        runtime = cluster.get("-n", NAMESPACE, job["runtimeRef"]["kind"], job["runtimeRef"]["name"])["spec"]
        jobs = runtime["template"]["spec"]
        [node] = jobs["replicatedJobs"]
        count = job["trainer"]["numNodes"]
        node["template"]["spec"] |= {"parallelism": count, "completions": count}
        metadata = {"name": "ai-vs-real-train", "namespace": NAMESPACE}
        made = [{"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": jobs}]
        spec = {**node["template"]["spec"], "completionMode": "Indexed"}  # which JobSet chooses
        made += [{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}]
        for document in made:
            dry = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
            applied = cluster.run(*dry, input=yaml.safe_dump(document))
            assert applied.returncode == 0, applied.stderr
            assert "would violate" not in applied.stderr
    finally:
        cluster.kubectl("delete", "-k", target, "--wait=false")


def test_submit_reaches_kubeflow_through_a_token_kubeconfig(cluster, context, compiled, monkeypatch, capsys):
    """The API server's proxy to a service: the login of a kubeconfig must not lose the service's path."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 1))  # sends nothing; an endpoint may not be a loopback address
        address = probe.getsockname()[0]
    server = Kubeflow(address)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        port = server.server_address[1]
        metadata = {"name": "ml-pipeline", "namespace": "pipelines", "labels": {"app": "ml-pipeline"}}
        container = {"name": "main", "image": "kfp-api-server"}
        spec = {"selector": {"app": "ml-pipeline"}, "ports": [{"name": "http", "port": 8888, "targetPort": port}]}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pipelines"}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "pipelines"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [container], "nodeName": "small-1"},
            },
        )
        running = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        running["conditions"] = [{"type": "Ready", "status": "True"}]
        cluster.patch_status("pod", "ml-pipeline", running, "pipelines")
        eventually(lambda: cluster.get("-n", "pipelines", "endpoints", "ml-pipeline").get("subsets"))
        monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
        path = context()
        config = yaml.safe_load(path.read_text())
        kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        program = {"apiVersion": kind["apiVersion"], "command": sys.executable, "interactiveMode": "Never"}
        program["args"] = ["-c", f"import json; print(json.dumps({kind | {'status': {'token': 'admin'}}}))"]
        parser = Parser()
        submit.add_parser(parser.add_subparsers())
        own = ["--namespace", "pipelines"]
        for user in ({"token": "admin"}, {"exec": program}):  # as an administrator's file has it, and as GKE's does
            config["users"][0]["user"] = user
            path.write_text(yaml.safe_dump(config))
            options = parser.parse_args(["submit", "gs://bucket/media", "--pipeline", str(compiled), "--wait", *own])
            assert options.run(options) == 0
        assert len(server.runs) == 2
    finally:
        server.shutdown()
        server.server_close()
    assert "succeeded" in capsys.readouterr().out


def test_the_cause_of_a_failed_step_names_what_its_pod_waited_for(cluster, kubeflow, context):
    """The workflow knows of a deadline alone; the pod and its events know why it was never placed."""
    context()
    name = "tiny-x(0).root(0).train(0).executor(0)"
    metadata = {"name": "tiny-x-impl-7", "namespace": "default", "labels": {"pipeline/runid": "run-1"}}
    metadata["annotations"] = {"workflows.argoproj.io/node-name": name}
    container = {"name": "main", "image": "tiny", "resources": {"requests": {"cpu": "99"}}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})
    eventually(lambda: cluster.get("pod", "tiny-x-impl-7")["status"].get("conditions"))
    # While the run lasts, the server says no more than that the step is running.
    kubeflow.runs["run-1"] = V2beta1Run(run_id="run-1")
    kubeflow.script = [("RUNNING", {"train": "RUNNING"})] * 5 + [("SUCCEEDED", {"train": "SUCCEEDED"})]
    said: list[str] = []
    client = Server(kubeflow.url).connect()
    api = connect("", "default")
    follow(client, "", "run-1", pods="default", cluster=lambda: api, interval_s=0.01, say=said.append)
    assert [line.partition(":")[0::2] for line in said][::2] == [("train", " running"), ("train", " succeeded")]
    assert said[1].startswith("train: waits: ")
    assert "Insufficient cpu" in said[1]
    node = {"id": "tiny-x-7", "name": name, "type": "Pod", "phase": "Failed", "templateName": "impl"}
    kubeflow.nodes = {"tiny-x-7": node | {"message": "Step exceeded its deadline"}}
    [cause] = causes(Server(kubeflow.url).connect(), "run-1", "default", lambda: connect("", "default"))
    assert cause.step == "train"
    assert cause.message.startswith("Step exceeded its deadline; ")
    assert "Insufficient cpu" in cause.message
    assert cause.log == "kubectl -n default logs tiny-x-impl-7 -c main"
