"""Runs on a cluster without Kubeflow: the jobs of manifests/jobs, through the Kubernetes API."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.errors import InputError
from pipelines.cluster.kubernetes_api import PATIENCE_S, Kubernetes, add_cluster_options, connect, explained

JOBS = Path(__file__).resolve().parents[2] / "manifests" / "jobs"
NAMES = ("prepare", "train", "score")
INTERVAL_S = 3.0


def manifests(name: str, settings: Sequence[str] = (), cluster_file: Path | None = None) -> list[dict[str, Any]]:
    """Return the manifests of a job, its ConfigMap first, as manifests/jobs has them but for what is given.

    Args:
        name: prepare, train or score.
        settings: NAME=VALUE, of the parameters in its ConfigMap.
        cluster_file: A cluster file of `ai-vs-real compile`; its GPU pool, pull secrets and step resources are taken.

    Raises:
        InputError: The manifests are not here, or a parameter is unknown.
    """
    import yaml

    if not (JOBS / name).is_dir():
        raise InputError(f"{JOBS / name} is not there: job needs the project's checkout; use kubectl apply -k from one")
    parameters, job = (yaml.safe_load((JOBS / name / file).read_text()) for file in ("parameters.yaml", "job.yaml"))
    for item in settings:
        key, equals, value = item.partition("=")
        if not equals or key not in parameters["data"]:
            raise InputError(f"--set {item!r} names no parameter; give NAME=VALUE of {', '.join(parameters['data'])}")
        parameters["data"][key] = value
    if cluster_file:
        _fit(job, name, cluster_file)
    return [parameters, job]


def _fit(job: dict[str, Any], name: str, cluster_file: Path) -> None:
    from pipelines.steps import resources

    here = resources.Cluster.read(cluster_file)
    step = here.steps["preprocess" if name == "prepare" else name]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    asked = container["resources"]
    asked["requests"] |= {"cpu": step.cpu, "memory": step.memory}
    asked["limits"] |= {"cpu": step.cpu_limit, "memory": step.memory_limit}
    for part in asked.values():
        part.pop("nvidia.com/gpu", None)
    count = {"train": here.accelerators, "score": here.evaluation_accelerators}.get(name, 0)
    if count:
        for part in asked.values():
            part[here.accelerator] = str(count)
        pod["nodeSelector"] = {**here.gpu_nodes, **({resources.SPOT: "true"} if here.spot else {})}
        pod["tolerations"] = [{"key": here.accelerator, "operator": "Exists", "effect": "NoSchedule"}]
        if here.spot:
            pod["tolerations"].append(
                {"key": resources.SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
            )
    if here.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in here.image_pull_secrets]


def start(cluster: Kubernetes, wanted: Sequence[dict[str, Any]]) -> str:
    """Apply a job's manifests: replace a finished job of that name, refuse while one runs.

    Returns:
        The job's name.

    Raises:
        InputError: A job of that name is running, or the cluster refused.
    """
    from kubernetes.client import ApiException

    parameters, job = wanted
    name, namespace = job["metadata"]["name"], cluster.namespace
    for manifest in wanted:
        manifest["metadata"]["namespace"] = namespace
    with explained(cluster):
        before = find(cluster, name)
        if before is not None and _state(before) == "running":
            raise InputError(
                f"{name} is running in {namespace}; follow it with ai-vs-real job logs, or end it with job stop"
            )
        if before is not None:
            stop(cluster, name)
        try:
            cluster.core.create_namespaced_config_map(namespace, parameters, _request_timeout=PATIENCE_S)
        except ApiException as error:
            if error.status != 409:
                raise
            of = parameters["metadata"]["name"]
            cluster.core.replace_namespaced_config_map(of, namespace, parameters, _request_timeout=PATIENCE_S)
        cluster.batch.create_namespaced_job(namespace, job, _request_timeout=PATIENCE_S)
    return name


def find(cluster: Kubernetes, name: str) -> Any:
    """Return a job by its name, None where there is none."""
    from kubernetes.client import ApiException

    try:
        return cluster.batch.read_namespaced_job(name, cluster.namespace, _request_timeout=PATIENCE_S)
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def stop(cluster: Kubernetes, name: str) -> None:
    """Delete a job and its pods, and wait until they are gone; what it wrote on the volume stays.

    Raises:
        InputError: There is no such job, or the cluster refused.
    """
    with explained(cluster):
        if find(cluster, name) is None:
            raise InputError(f"there is no job {name} in {cluster.namespace}; see ai-vs-real job status")
        cluster.batch.delete_namespaced_job(
            name, cluster.namespace, propagation_policy="Foreground", _request_timeout=PATIENCE_S
        )
        while find(cluster, name) is not None:
            time.sleep(0.2)


def status(cluster: Kubernetes) -> list[dict[str, Any]]:
    """Return every job of ours: name, state, attempts, and its newest pod's node, phase and reason for waiting."""
    with explained(cluster):
        label = "app.kubernetes.io/name=ai-vs-real"
        jobs = cluster.batch.list_namespaced_job(
            cluster.namespace, label_selector=label, _request_timeout=PATIENCE_S
        ).items
        return [_told(cluster, job) for job in jobs]


def _told(cluster: Kubernetes, job: Any) -> dict[str, Any]:
    pod = _newest_pod(cluster, job.metadata.name)
    told = {"job": job.metadata.name, "state": _state(job), "failed_attempts": job.status.failed or 0}
    told["reason"] = next((item.message for item in job.status.conditions or [] if item.status == "True"), None) or ""
    if pod is not None:
        told |= {"pod": pod.metadata.name, "phase": pod.status.phase, "node": pod.spec.node_name or ""}
        told["reason"] = told["reason"] or _waiting(pod)
    return told


def _state(job: Any) -> str:
    for condition in job.status.conditions or []:
        if condition.status == "True" and condition.type in ("Complete", "Failed"):
            return {"Complete": "completed", "Failed": "failed"}[condition.type]
    return "running"


def _waiting(pod: Any) -> str:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or ""
    for container in pod.status.container_statuses or []:
        if container.state and container.state.waiting:
            return f"{container.state.waiting.reason}: {container.state.waiting.message or ''}".rstrip(": ")
    return ""


def _newest_pod(cluster: Kubernetes, name: str) -> Any:
    pods = cluster.core.list_namespaced_pod(
        cluster.namespace, label_selector=f"batch.kubernetes.io/job-name={name}", _request_timeout=PATIENCE_S
    ).items
    return max(pods, key=lambda pod: str(pod.metadata.creation_timestamp or ""), default=None)


def follow(cluster: Kubernetes, name: str, say: Callable[[str], None], interval_s: float) -> dict[str, Any]:
    """Pass on what a job's pods print until the job ends, from pod to pod where one takes the place of another.

    Returns:
        The job as `status` tells it.

    Raises:
        InputError: There is no such job, or it was deleted meanwhile, or the cluster refused.
    """
    read: dict[str, int] = {}  # lines by pod: a log that broke off is taken up where it was
    waited = ""
    while True:
        with explained(cluster):
            job = find(cluster, name)
            if job is None:
                raise InputError(f"there is no job {name} in {cluster.namespace}; it was stopped, or never started")
            pod = _newest_pod(cluster, name)
            if pod is not None and pod.status.phase != "Pending":
                for line in _log(cluster, pod.metadata.name, skip=read.get(pod.metadata.name, 0)):
                    read[pod.metadata.name] = read.get(pod.metadata.name, 0) + 1
                    say(line)
            elif pod is not None and (reason := _waiting(pod)) and reason != waited:
                waited = reason
                say(f"waiting: {reason}")
            if _state(job) != "running":
                return _told(cluster, job)
        time.sleep(interval_s)


def _log(cluster: Kubernetes, pod: str, skip: int, following: bool = True) -> Iterator[str]:
    import urllib3

    response = cluster.core.read_namespaced_pod_log(pod, cluster.namespace, follow=following, _preload_content=False)
    rest = b""
    number = 0
    # A node that goes away ends the stream in the middle; the next look goes on from the last whole line.
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        for chunk in response.stream():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                if number > skip:
                    yield line.decode(errors="replace")
    response.release_conn()


def add_parser(commands: Any) -> None:
    """Add the command `job` and its parts."""
    group = commands.add_parser("job", description=__doc__)
    parts = group.add_subparsers(title="parts", metavar="PART", required=True)
    texts = {
        "prepare": "media on the volume to a dataset, on any node",
        "train": "a dataset on the volume to a judged and registered detector, on the GPU pool",
        "score": "the champion's verdict on every file below a directory of the volume",
    }
    for name, text in texts.items():
        command = parts.add_parser(name, help=text, description=text)
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the job")
        command.add_argument(
            "--cluster", type=Path, metavar="FILE", help="GPU pool, pull secrets and resources in this YAML"
        )
        command.add_argument("--wait", action="store_true", help="follow it; the exit code is its outcome")
        command.add_argument("--dry-run", action="store_true", help="print the manifests, and apply nothing")
        command.set_defaults(run=_start, part=name)
        add_cluster_options(command)
    command = parts.add_parser("status", help="every job, its pod and what it waits for")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=_status)
    add_cluster_options(command)
    for name, function, text in (
        ("logs", _logs, "what a job prints, until it ends; the exit code is its outcome"),
        ("stop", _stop, "delete a job; what it wrote on the volume stays, and a new one goes on from there"),
    ):
        command = parts.add_parser(name, help=text, description=text)
        command.add_argument("part", nargs="?", choices=NAMES, default="train", help="(%(default)s)")
        command.set_defaults(run=function)
        add_cluster_options(command)


def _start(options: argparse.Namespace) -> int:
    import yaml

    wanted = manifests(options.part, options.set, options.cluster)
    if options.dry_run:
        print(yaml.safe_dump_all(wanted, sort_keys=False), end="")
        return 0
    cluster = connect(options)
    name = start(cluster, wanted)
    print(f"started {name} in {cluster.namespace}; ai-vs-real job status, logs, stop", file=sys.stderr)
    return _follow(cluster, name) if options.wait else 0


def _follow(cluster: Kubernetes, name: str) -> int:
    told = follow(cluster, name, lambda line: print(line, flush=True), INTERVAL_S)
    print(f"{name}: {told['state']}{': ' + told['reason'] if told['reason'] else ''}", file=sys.stderr)
    return 0 if told["state"] == "completed" else 1


def _status(options: argparse.Namespace) -> int:
    jobs = status(connect(options))
    if options.json:
        print(json.dumps(jobs, indent=1))
    else:
        for job in jobs:
            rest = "  ".join(str(job[key]) for key in ("phase", "pod", "node", "reason") if job.get(key))
            print(f"{job['job']}  {job['state']}  {job['failed_attempts']} failed attempts  {rest}")
        if not jobs:
            print(f"no job in {options.namespace}; start one with ai-vs-real job train")
    return 0


def _logs(options: argparse.Namespace) -> int:
    return _follow(connect(options), f"ai-vs-real-{options.part}")


def _stop(options: argparse.Namespace) -> int:
    stop(connect(options), f"ai-vs-real-{options.part}")
    print(f"stopped ai-vs-real-{options.part}", file=sys.stderr)
    return 0
