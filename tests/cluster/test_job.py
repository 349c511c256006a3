import json

import pytest
import yaml

from components.errors import InputError
from pipelines.cluster import jobs
from pipelines.commands import job
from pipelines.commands.main import Parser

COMPLETE = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {
    "failed": 5,
    "conditions": [{"type": "Failed", "status": "True", "message": "Job has reached its backoff limit"}],
}


def pod(name, phase, node="", reason="", created="2026-01-01T00:00:00Z"):
    conditions = [{"type": "PodScheduled", "status": "False", "message": reason}] if reason else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"containers": [{"name": "train"}], **({"nodeName": node} if node else {})},
        "status": {"phase": phase, "conditions": conditions},
    }


@pytest.fixture
def command(apiserver, monkeypatch):
    """Run `ai-vs-real job` with some arguments; returns its exit code."""
    monkeypatch.setattr(jobs, "INTERVAL_S", 0.01)
    parser = Parser()
    job.add_parser(parser.add_subparsers())

    def run(*arguments):
        options = parser.parse_args(["job", *map(str, arguments)])
        return options.run(options)

    return run


@pytest.mark.parametrize("name", jobs.NAMES)
def test_a_job_is_applied_as_its_manifests_say(apiserver, command, name):
    assert command(name) == 0
    applied = apiserver.objects["jobs", "ai-vs-real"][f"ai-vs-real-{name}"]
    written = yaml.safe_load((jobs.JOBS / name / "job.yaml").read_text())
    assert applied["spec"] == written["spec"]
    parameters = apiserver.objects["configmaps", "ai-vs-real"][f"ai-vs-real-{name}"]["data"]
    assert parameters == yaml.safe_load((jobs.JOBS / name / "parameters.yaml").read_text())["data"]


def test_parameters_and_gpu_pool_are_what_is_given(apiserver, command, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("accelerators: 2\ngpu_nodes: {pool: a100}\nspot: true\nimage_pull_secrets: [registry]\n")
    assert command("train", "--set", "EPOCHS=3", "--cluster", cluster, "--namespace", "team") == 0
    assert apiserver.objects["configmaps", "team"]["ai-vs-real-train"]["data"]["EPOCHS"] == "3"
    spec = apiserver.objects["jobs", "team"]["ai-vs-real-train"]["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "a100", "cloud.google.com/gke-spot": "true"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu", "cloud.google.com/gke-spot"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert [part["nvidia.com/gpu"] for part in spec["containers"][0]["resources"].values()] == ["2", "2"]


def test_a_cluster_without_gpu_trains_on_processors(apiserver, command, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("accelerators: 0\nsteps: {train: {cpu: '3', cpu_limit: '3'}}\n")
    assert command("train", "--cluster", cluster) == 0
    [container] = apiserver.objects["jobs", "ai-vs-real"]["ai-vs-real-train"]["spec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["resources"]["requests"]["cpu"] == "3"


def test_waiting_follows_from_a_lost_node_to_the_end(apiserver, command, capsys):
    later = "2026-01-01T01:00:00Z"
    apiserver.life = [
        ({"active": 1}, []),
        ({"active": 1}, [pod("a", "Pending", reason="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")]),
        ({"active": 1}, [pod("a", "Running", node="gpu-1")]),
        ({"active": 1}, [pod("a", "Running", node="gpu-1")]),
        ({"active": 1, "failed": 1}, [pod("a", "Failed"), pod("b", "Running", node="gpu-2", created=later)]),
        (COMPLETE, [pod("b", "Succeeded", node="gpu-2", created=later)]),
    ]
    apiserver.logs = {
        "a": ["[train] epoch 1\n[train] ep", "[train] epoch 1\n[train] epoch 2\n[train] epo"],
        "b": ["[train] goes on from epoch 2\n", "[train] goes on from epoch 2\n[train] done\n"],
    }
    assert command("train", "--wait") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "waiting: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "[train] epoch 1",
        "[train] epoch 2",
        "[train] goes on from epoch 2",
        "[train] done",
    ]
    assert printed.err.splitlines()[-1] == "ai-vs-real-train: completed"


def test_a_failed_job_is_a_failed_command(apiserver, command, capsys):
    apiserver.life = [({"active": 1}, []), (FAILED, [pod("a", "Failed")])]
    apiserver.logs = {"a": ["ai-vs-real: no weights\n"]}
    assert command("train") == 0
    assert command("logs", "train") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["ai-vs-real: no weights"]
    assert printed.err.splitlines()[-1] == "ai-vs-real-train: failed: Job has reached its backoff limit"


def test_a_running_job_is_not_replaced_and_a_finished_one_is(apiserver, command):
    assert command("train") == 0
    with pytest.raises(InputError, match="ai-vs-real-train is running in ai-vs-real"):
        command("train", "--set", "EPOCHS=2")
    apiserver.life = [(COMPLETE, [])]
    assert command("train", "--set", "EPOCHS=2") == 0
    assert apiserver.objects["configmaps", "ai-vs-real"]["ai-vs-real-train"]["data"]["EPOCHS"] == "2"


def test_status_tells_what_a_pod_waits_for(apiserver, command, capsys):
    apiserver.life = [({"active": 1, "failed": 1}, [pod("a", "Pending", reason="0/3 nodes are available")])]
    assert command("train") == 0
    with pytest.raises(InputError, match="is running"):
        command("train")
    assert command("status", "--json") == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told == {
        "job": "ai-vs-real-train",
        "state": "running",
        "failed_attempts": 1,
        "reason": "0/3 nodes are available",
        "pod": "a",
        "phase": "Pending",
        "node": "",
    }
    assert command("status") == 0
    assert "ai-vs-real-train  running  1 failed attempts  Pending  a  0/3 nodes" in capsys.readouterr().out


def test_stop_deletes_the_job(apiserver, command):
    assert command("train") == 0
    assert command("stop") == 0
    assert not apiserver.objects["jobs", "ai-vs-real"]
    with pytest.raises(InputError, match="there is no job ai-vs-real-train in ai-vs-real"):
        command("stop")


def test_a_dry_run_prints_what_kubectl_would_apply(apiserver, command, capsys):
    assert command("train", "--set", "SEED=7", "--dry-run") == 0
    parameters, manifest = yaml.safe_load_all(capsys.readouterr().out)
    assert (parameters["data"]["SEED"], manifest["kind"]) == ("7", "Job")
    assert not apiserver.objects["jobs", "ai-vs-real"]


def test_what_cannot_be_done_is_told_in_one_line(apiserver, command, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="--set 'EPOCH=3' names no parameter; give NAME=VALUE of DATASET"):
        command("train", "--set", "EPOCH=3")
    apiserver.forbidden.add("jobs")
    with pytest.raises(InputError, match=r'refused: jobs is forbidden: User "somebody" cannot .* \(403\)'):
        command("train")
    with pytest.raises(InputError, match=r"no cluster to talk to .*give --context"):
        command("status", "--context", "another")
    apiserver.shutdown()
    apiserver.server_close()
    with pytest.raises(InputError, match=r"the cluster's API at .* cannot be reached"):
        command("status")
