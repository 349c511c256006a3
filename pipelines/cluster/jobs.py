"""Runs on a cluster without Kubeflow: the jobs of manifests/jobs, through the Kubernetes API."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.errors import InputError
from components.servers import timeout_s
from pipelines.cluster.kubernetes_api import Kubernetes, explained, waits_for

JOBS = Path(__file__).resolve().parents[2] / "manifests" / "jobs"
NAMES = ("prepare", "train", "score")
INTERVAL_S = 3.0


def manifests(name: str, settings: Sequence[str] = (), cluster_file: Path | None = None) -> list[dict[str, Any]]:
    """Return the manifests of a job, its ConfigMap first, as `kubectl apply -k` would apply them in the same place.

    Args:
        name: prepare, train or score.
        settings: NAME=VALUE, of the parameters in its ConfigMap.
        cluster_file: A cluster file of `ai-vs-real compile`; the registry of the images, the patches of the jobs, the
            GPU pool, the pull secrets and the resources of the steps are taken from it.

    Raises:
        InputError: The manifests are not here, a parameter is unknown, or the cluster file cannot be read.
    """
    from pipelines.steps.resources import cluster_for, kustomization

    if not (JOBS / name).is_dir():
        raise InputError(f"{JOBS / name} is not there: job needs the project's checkout; use kubectl apply -k from one")
    parameters, job = (yaml.safe_load((JOBS / name / file).read_text()) for file in ("parameters.yaml", "job.yaml"))
    for item in settings:
        key, equals, value = item.partition("=")
        if not equals or key not in parameters["data"]:
            raise InputError(f"--set {item!r} names no parameter; give NAME=VALUE of {', '.join(parameters['data'])}")
        parameters["data"][key] = value
    here = cluster_for(cluster_file)
    [container] = job["spec"]["template"]["spec"]["containers"]
    container["image"] = here.image(container["image"])
    for entry in kustomization(here.jobs).get("patches", ()) if here.jobs else ():
        if entry.get("target", {}).get("kind") == "Job":
            _patch(job, yaml.safe_load(entry["patch"]))
    if cluster_file:
        _fit(job, name, here)
    return [parameters, job]


def _patch(document: Any, operations: Sequence[dict[str, Any]]) -> None:
    # RFC 6902, of which kustomize's patches in manifests/ use `add`, `replace` and `test`.
    for operation in operations:
        *path, last = operation["path"].lstrip("/").replace("~1", "/").split("/")
        place = document
        for key in path:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if operation["op"] == "test":
            continue
        if isinstance(place, list) and (last == "-" or operation["op"] == "add"):
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        else:
            place[int(last) if isinstance(place, list) else last] = operation["value"]


def _fit(job: dict[str, Any], name: str, here: Any) -> None:
    from pipelines.steps.resources import SPOT

    step = here.steps[{"prepare": "preprocess", "score": "score_shard"}.get(name, name)]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    asked = container["resources"]
    asked["requests"] |= {"cpu": step.cpu, "memory": step.memory}
    asked["limits"] |= {"cpu": step.cpu_limit, "memory": step.memory_limit}
    for part in asked.values():
        part.pop("nvidia.com/gpu", None)
    pod.pop("tolerations", None)
    count = {"train": here.accelerators, "score": here.evaluation_accelerators}.get(name, 0)
    if count:
        for part in asked.values():
            part[here.accelerator] = str(count)
        pod["nodeSelector"] = {**here.gpu_nodes, **({SPOT: "true"} if here.spot else {})}
        pod["tolerations"] = [{"key": here.accelerator, "operator": "Exists", "effect": "NoSchedule"}]
        if here.spot:
            pod["tolerations"].append({"key": SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
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
            cluster.core.create_namespaced_config_map(namespace, parameters)
        except ApiException as error:
            if error.status != 409:
                raise
            cluster.core.replace_namespaced_config_map(parameters["metadata"]["name"], namespace, parameters)
        cluster.batch.create_namespaced_job(namespace, job)
    return name


def find(cluster: Kubernetes, name: str) -> Any:
    """Return a job by its name, None where there is none."""
    from kubernetes.client import ApiException

    try:
        return cluster.batch.read_namespaced_job(name, cluster.namespace)
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def stop(cluster: Kubernetes, name: str, *, force: bool = False) -> None:
    """Delete a job and its pods, and wait until they are gone; what it wrote on the volume stays.

    Args:
        cluster: Where it runs.
        name: Of the job.
        force: Do not wait for the pods to end: a node that is dead never says that they did. A pod that runs all the
            same, on a node that is only cut off, goes on until the node is back.

    Raises:
        InputError: There is no such job, the cluster refused, or the pods did not end in the time that they are given.
    """
    with explained(cluster):
        job = find(cluster, name)
        if job is None:
            raise InputError(f"there is no job {name} in {cluster.namespace}; see ai-vs-real job status")
        cluster.batch.delete_namespaced_job(name, cluster.namespace, propagation_policy="Foreground")
        if force:
            for pod in _pods(cluster, name):
                _delete_now(cluster, pod.metadata.name)
        given_s = job.spec.template.spec.termination_grace_period_seconds or 30
        end = time.monotonic() + timeout_s() + (0 if force else given_s)
        while find(cluster, name) is not None:
            if time.monotonic() > end:
                left = ", ".join(
                    f"{pod.metadata.name} on {pod.spec.node_name or 'no node'}" for pod in _pods(cluster, name)
                )
                raise InputError(
                    f"{name} is being deleted, but its pods do not end ({left or 'none is left'}): the node may be "
                    "dead; see kubectl get nodes, and use ai-vs-real job stop --force"
                )
            time.sleep(0.2)


def _delete_now(cluster: Kubernetes, pod: str) -> None:
    from kubernetes.client import ApiException

    try:
        cluster.core.delete_namespaced_pod(pod, cluster.namespace, grace_period_seconds=0)
    except ApiException as error:
        if error.status != 404:  # it ended by itself since it was listed
            raise


def status(cluster: Kubernetes) -> list[dict[str, Any]]:
    """Return every job of ours: name, state, attempts, and its newest pod's node, phase and reason for waiting."""
    with explained(cluster):
        label = "app.kubernetes.io/name=ai-vs-real"
        jobs = cluster.batch.list_namespaced_job(cluster.namespace, label_selector=label).items
        return [_described(cluster, job) for job in jobs]


def _described(cluster: Kubernetes, job: Any) -> dict[str, Any]:
    pod = _newest_pod(cluster, job.metadata.name)
    described = {"job": job.metadata.name, "state": _state(job), "failed_attempts": job.status.failed or 0}
    # A job that is complete says so in its state; what it says of a failure is the reason.
    ended = [item for item in job.status.conditions or [] if item.status == "True" and item.type == "Failed"]
    described["reason"] = next((item.message for item in ended if item.message), "")
    if pod is not None:
        described |= {"pod": pod.metadata.name, "phase": pod.status.phase, "node": pod.spec.node_name or ""}
        described["reason"] = described["reason"] or waits_for(pod)
    elif described["state"] == "running":
        described["reason"] = _refused(cluster, job.metadata.name)
    return described


def _refused(cluster: Kubernetes, name: str) -> str:
    """Return why a job has no pod: a quota or a policy that its pods break, as the job controller says in an event."""
    from kubernetes.client import ApiException

    with contextlib.suppress(ApiException):
        of = f"involvedObject.kind=Job,involvedObject.name={name},type=Warning"
        events = cluster.core.list_namespaced_event(cluster.namespace, field_selector=of).items
        if events:
            return " ".join((events[-1].message or "").split())
    return ""


def _state(job: Any) -> str:
    for condition in job.status.conditions or []:
        if condition.status == "True" and condition.type in ("Complete", "Failed"):
            return {"Complete": "completed", "Failed": "failed"}[condition.type]
    return "running"


def _pods(cluster: Kubernetes, name: str) -> list[Any]:
    label = f"batch.kubernetes.io/job-name={name}"
    return list(cluster.core.list_namespaced_pod(cluster.namespace, label_selector=label).items)


def _newest_pod(cluster: Kubernetes, name: str) -> Any:
    return max(_pods(cluster, name), key=lambda pod: str(pod.metadata.creation_timestamp or ""), default=None)


def follow(cluster: Kubernetes, name: str, say: Callable[[str], None], interval_s: float) -> dict[str, Any]:
    """Pass on what a job's pods print until the job ends, from pod to pod where one takes the place of another.

    Returns:
        The job as `status` describes it.

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
            else:
                reason = waits_for(pod) if pod is not None else _refused(cluster, name)
                if reason and reason != waited:
                    waited = reason
                    say(f"waiting: {reason}")
            if _state(job) != "running":
                return _described(cluster, job)
        time.sleep(interval_s)


def _log(cluster: Kubernetes, pod: str, skip: int) -> Iterator[str]:
    import urllib3
    from kubernetes.client import ApiException

    try:
        response = cluster.core.read_namespaced_pod_log(pod, cluster.namespace, follow=True, _preload_content=False)
    except ApiException as error:
        if error.status in (400, 404, 500, 502, 503):  # a kubelet that is gone, a container that has not begun
            return
        raise
    rest = b""
    number = 0
    # A node that goes away ends the stream in the middle, and one that is silent too long is asked anew; the next look
    # goes on from the last whole line.
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        for chunk in response.stream():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                if number > skip:
                    yield line.decode(errors="replace")
    response.release_conn()
