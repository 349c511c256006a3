"""`ai-vs-real job` on a real Kubernetes API, by the operator's own token."""

import json
import threading
import time

import pytest
import yaml
from kubernetes_server import GPU_TAINT, eventually

from components.errors import InputError
from pipelines.cluster import jobs
from pipelines.commands import job
from pipelines.commands.main import Parser

pytestmark = pytest.mark.servers
NAMESPACE = "ai-vs-real"


@pytest.fixture
def command(cluster, context, monkeypatch):
    """Run `ai-vs-real job` with some arguments as the operator; returns its exit code."""
    monkeypatch.setattr(jobs, "INTERVAL_S", 0.1)
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "5")
    context("ai-vs-real-operator")
    parser = Parser()
    job.add_parser(parser.add_subparsers())

    def run(*arguments):
        options = parser.parse_args(["job", *map(str, arguments)])
        return options.run(options)

    yield run
    own = ("-n", NAMESPACE, "-l", "app.kubernetes.io/name=ai-vs-real")
    cluster.kubectl("delete", "jobs,pods", *own, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
    eventually(lambda: not cluster.get("jobs", *own)["items"])


def of(cluster, kind, name="ai-vs-real-train"):
    return cluster.get("-n", NAMESPACE, kind, name)


def pods(cluster, name="ai-vs-real-train"):
    items = cluster.get("-n", NAMESPACE, "pods", "-l", f"batch.kubernetes.io/job-name={name}")["items"]
    return sorted(items, key=lambda item: item["metadata"]["creationTimestamp"])


def as_kubelet(cluster, pod, phase, **state):
    """Report of a pod what its node's kubelet would."""
    status = {"phase": phase, "startTime": "2026-01-01T00:00:00Z"}
    if state:
        container = pod["spec"]["containers"][0]
        ready = {"ready": phase == "Running", "restartCount": 0, "imageID": "", "started": phase == "Running"}
        status["containerStatuses"] = [
            {"name": container["name"], "image": container["image"], **ready, "state": state}
        ]
    cluster.patch_status("pod", pod["metadata"]["name"], status, NAMESPACE)


def run_first_pod(cluster, phase="Running", **state):
    def bound():
        return next((pod for pod in pods(cluster) if pod["spec"].get("nodeName")), None)

    pod = eventually(bound)
    as_kubelet(cluster, pod, phase, **(state or {"running": {"startedAt": "2026-01-01T00:00:00Z"}}))
    return pod["metadata"]["name"]


@pytest.mark.parametrize("name", jobs.NAMES)
def test_a_job_is_applied_as_its_manifests_say_and_its_pod_is_put_where_it_belongs(cluster, command, name):
    assert command(name) == 0
    [pod] = eventually(lambda: [pod for pod in pods(cluster, f"ai-vs-real-{name}") if pod["spec"].get("nodeName")])
    assert pod["spec"]["nodeName"] == ("gpu-1" if name == "train" else "small-1")
    written = yaml.safe_load((jobs.JOBS / name / "parameters.yaml").read_text())["data"]
    assert of(cluster, "configmap", f"ai-vs-real-{name}")["data"] == written


def test_parameters_and_gpu_pool_are_what_is_given(cluster, command, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("accelerators: 1\ngpu_nodes: {pool: a100}\nspot: true\nimage_pull_secrets: [registry]\n")
    assert command("train", "--set", "EPOCHS=3", "--cluster", path) == 0
    assert of(cluster, "configmap")["data"]["EPOCHS"] == "3"
    spec = of(cluster, "job")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "a100", "cloud.google.com/gke-spot": "true"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu", "cloud.google.com/gke-spot"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_a_cluster_without_gpu_trains_on_processors(cluster, command, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("accelerators: 0\nsteps: {train: {cpu: '3', cpu_limit: '3'}}\n")
    assert command("train", "--cluster", path) == 0
    [container] = of(cluster, "job")["spec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    [pod] = eventually(lambda: [pod for pod in pods(cluster) if pod["spec"].get("nodeName")])
    assert pod["spec"]["nodeName"] == "small-1"


def test_waiting_follows_from_a_lost_pod_to_the_end(cluster, command, capsys):
    """The log breaks off in mid-line, is taken up again, and goes on in the pod that takes the lost one's place."""
    outcome = []
    waiting = threading.Thread(target=lambda: outcome.append(command("train", "--wait")))
    waiting.start()
    started = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    first = eventually(lambda: next((pod for pod in pods(cluster) if pod["spec"].get("nodeName")), None))
    name = first["metadata"]["name"]
    cluster.logs[name] = ["[train] epoch 1\n[train] ep", "[train] epoch 1\n[train] epoch 2\n[train] epo"]
    as_kubelet(cluster, first, "Running", **started)
    eventually(lambda: cluster.kubelet.looks.get(name, 0) >= 2)
    lost = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-01-01T00:10:00Z"}}
    as_kubelet(cluster, first, "Failed", **lost)

    def next_pod():
        return next(
            (pod for pod in pods(cluster) if pod["spec"].get("nodeName") and pod["metadata"]["name"] != name), 0
        )

    second = eventually(next_pod)
    cluster.logs[second["metadata"]["name"]] = ["[train] goes on from epoch 2\n[train] done\n"]
    as_kubelet(cluster, second, "Running", **started)
    eventually(lambda: cluster.kubelet.looks.get(second["metadata"]["name"], 0) >= 1)
    as_kubelet(cluster, second, "Succeeded", terminated={"exitCode": 0, "finishedAt": "2026-01-01T00:20:00Z"})
    waiting.join(60)
    assert outcome == [0]
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if not line.startswith("waiting")] == [
        "[train] epoch 1",
        "[train] epoch 2",
        "[train] goes on from epoch 2",
        "[train] done",
    ]
    assert printed.err.splitlines()[-1] == "ai-vs-real-train: completed"


def test_input_to_correct_fails_the_job_at_once_and_the_command_says_so(cluster, command, capsys):
    """Exit code 2 is wrong input: trying again changes nothing, and the job's failure policy knows it."""
    assert command("train") == 0
    ended = {"terminated": {"exitCode": 2, "reason": "Error", "finishedAt": "2026-01-01T00:10:00Z"}}
    cluster.logs[run_first_pod(cluster, "Failed", **ended)] = ["ai-vs-real: no weights\n"]
    assert command("logs", "train") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["ai-vs-real: no weights"]
    assert "exit code 2" in printed.err.splitlines()[-1]
    assert len(pods(cluster)) == 1


def test_a_running_job_is_not_replaced_and_a_finished_one_is(cluster, command):
    assert command("train") == 0
    with pytest.raises(InputError, match="ai-vs-real-train is running in ai-vs-real"):
        command("train", "--set", "EPOCHS=2")
    run_first_pod(cluster, "Succeeded", terminated={"exitCode": 0, "finishedAt": "2026-01-01T00:10:00Z"})
    eventually(lambda: of(cluster, "job")["status"].get("succeeded"))
    eventually(lambda: "complete" in str(of(cluster, "job")["status"]["conditions"]).lower())
    assert command("train", "--set", "EPOCHS=2") == 0
    assert of(cluster, "configmap")["data"]["EPOCHS"] == "2"


def test_status_says_what_a_pod_waits_for(cluster, command, capsys, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("gpu_nodes: {pool: a100}\n")
    assert command("train", "--cluster", path) == 0
    eventually(lambda: pods(cluster) and pods(cluster)[0]["status"].get("conditions"))
    capsys.readouterr()
    assert command("status", "--json") == 0
    [described] = json.loads(capsys.readouterr().out)
    assert (described["state"], described["phase"], described["node"]) == ("running", "Pending", "")
    assert "node(s) didn't match Pod's node affinity/selector" in described["reason"]
    assert command("status") == 0
    assert "ai-vs-real-train  running  0 failed attempts  Pending" in capsys.readouterr().out


def test_status_says_why_a_job_has_no_pod(cluster, command, capsys, tmp_path):
    """A quota refuses the pod: the job looks as if it ran, and only an event says why it does not."""
    path = tmp_path / "cluster.yaml"
    path.write_text("accelerators: 9\n")
    assert command("train", "--cluster", path) == 0

    def reason():
        capsys.readouterr()
        assert command("status", "--json") == 0
        return json.loads(capsys.readouterr().out)[0]["reason"]

    assert "exceeded quota: ai-vs-real, requested: requests.nvidia.com/gpu=9" in eventually(reason)


def test_stop_deletes_the_job(cluster, command):
    with pytest.raises(InputError, match="there is no job ai-vs-real-train in ai-vs-real"):
        command("stop")
    assert command("train", "--set", "SEED=1") == 0
    eventually(lambda: pods(cluster))
    # No kubelet confirms the end of a pod here; one that was never put on a node needs none.
    cluster.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    assert command("stop", "--force") == 0
    assert not cluster.get("-n", NAMESPACE, "jobs")["items"]


def test_stopping_on_a_dead_node_ends_with_the_reason_and_force_ends_it(cluster, command, monkeypatch):
    """A kubelet that is gone never confirms that its pod ended, so that the API keeps it, and the job with it."""
    cluster.add_node("gpu-2", gpu=1, taints=[GPU_TAINT], labels={"pool": "dying"})
    monkeypatch.setenv("AI_VS_REAL_SERVER_TIMEOUT_S", "2")
    manifest = jobs.manifests("train")
    manifest[1]["spec"]["template"]["spec"] |= {"nodeSelector": {"pool": "dying"}, "terminationGracePeriodSeconds": 1}
    from pipelines.cluster.kubernetes_api import connect

    jobs.start(connect(), manifest)
    name = run_first_pod(cluster)
    cluster.alive.discard("gpu-2")
    try:
        eventually(lambda: not cluster.ready("gpu-2"))  # its lease on being alive has run out
        began = time.monotonic()
        with pytest.raises(InputError, match=f"its pods do not end \\({name} on gpu-2\\).*job stop --force"):
            command("stop")
        assert time.monotonic() - began < 20
        assert command("stop", "--force") == 0
        assert not pods(cluster)
    finally:
        cluster.kubectl("delete", "node", "gpu-2")


def test_a_dry_run_prints_what_kubectl_would_apply(cluster, command, capsys):
    assert command("train", "--set", "SEED=7", "--dry-run") == 0
    printed = capsys.readouterr().out
    parameters, _ = yaml.safe_load_all(printed)
    assert parameters["data"]["SEED"] == "7"
    assert not cluster.get("-n", NAMESPACE, "jobs")["items"]
    cluster.kubectl("-n", NAMESPACE, "apply", "--dry-run=server", "--validate=strict", "-f", "-", input=printed)


def test_what_cannot_be_done_is_one_line(cluster, command, context):
    with pytest.raises(InputError, match="--set 'EPOCH=3' names no parameter; give NAME=VALUE of DATASET"):
        command("train", "--set", "EPOCH=3")
    with pytest.raises(InputError, match=r"no cluster to talk to .*another.*give --context"):
        command("status", "--context", "another")
    with pytest.raises(InputError, match=r'refused: .*cannot list resource "jobs".*"default" \(403\)'):
        command("status", "--namespace", "default")
    context("ai-vs-real")  # what the jobs themselves run as: it may do nothing
    with pytest.raises(InputError, match=r'refused: jobs.batch "ai-vs-real-train" is forbidden: .* \(403\)'):
        command("train")


def test_the_operator_may_change_no_config_map_but_its_own(cluster, context):
    from pipelines.cluster.kubernetes_api import connect

    context("ai-vs-real-operator")
    core = connect().core
    from kubernetes.client import ApiException

    for name in ("ai-vs-real-config", "mongodb-users"):
        body = {"metadata": {"name": name}, "data": {"MLFLOW_TRACKING_URI": "http://elsewhere"}}
        with pytest.raises(ApiException, match="forbidden"):
            core.replace_namespaced_config_map(name, NAMESPACE, body)


def test_in_a_pod_a_context_that_is_not_there_is_refused(context, monkeypatch, tmp_path):
    """A pod's own account is not silently taken where another cluster was asked for."""
    from kubernetes.config import incluster_config

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    from pipelines.cluster.kubernetes_api import connect

    with pytest.raises(InputError, match="no cluster to talk to"):
        connect("nope")
