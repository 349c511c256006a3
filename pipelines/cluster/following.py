"""Waiting for a run on Kubeflow Pipelines: its steps as they go, and why one of them failed."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.errors import InputError
from components.servers import timeout_s
from pipelines.cluster.kubeflow import FINAL, RUN_LABEL, explained, first_sentence
from pipelines.cluster.kubernetes_api import Kubernetes, waits_for

NODE_NAME = "workflows.argoproj.io/node-name"  # annotation of a pod; workflow/common/common.go of Argo Workflows
# Nodes that the compiler makes around the steps; argocompiler/dag.go, container.go.
OWN = re.compile(r"root|executor|iteration(-item|-iterations)?(-driver)?")
ATTEMPT = re.compile(r"(\(\d+(:[^)]*)?\))+$")  # of an attempt (0), of an item (0:0), which has attempts too
# Of the several pods of one step, the state that says most about it comes first.
GRAVITY = ("FAILED", "RUNNING", "PENDING")
WAITED = 3  # looks without a change, after which the pods are asked what they wait for, and again and again


@dataclass(frozen=True)
class Cause:
    """Why a step failed.

    Attributes:
        step: Its name in the pipeline; `root` for what comes before the first step.
        message: What the workflow, its pod and the pod's events say.
        log: The command that prints its log; empty where it never had a pod.
    """

    step: str
    message: str
    log: str = ""


def follow(
    client: Any,
    host: str,
    run_id: str,
    *,
    pods: str = "kubeflow",
    cluster: Callable[[], Kubernetes | None] = lambda: None,
    interval_s: float | None = 10.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Wait for a run to end, and report each change of a step's state.

    Args:
        client: Of Server.connect.
        host: The server's address as it may be printed, for messages.
        run_id: Of the run.
        pods: The namespace of the run's pods.
        cluster: Gives the Kubernetes API, where pods and their events can be read; None where they cannot.
        interval_s: Between two looks, seconds; None to look once.
        say: Takes each line.

    Returns:
        `state` (SUCCEEDED, FAILED, SKIPPED, CANCELED), `final` (whether it is one of these), `error` (empty without
        one), `steps` (state by name), `causes` (a mapping of Cause for each step that failed).

    Raises:
        InputError: The server gave no answer for as long as a server may take, or does not know the run.
    """
    steps: dict[str, str] = {}
    unchanged: dict[str, int] = {}
    waits: dict[str, str] = {}
    silent_since: float | None = None
    while True:
        try:
            with explained(host):
                run = client.runs.run_service_get_run(run_id)
            silent_since = None
        except InputError as error:
            silent_since = silent_since or time.monotonic()
            given_up = time.monotonic() - silent_since > timeout_s()
            if interval_s is None or given_up or getattr(error.__cause__, "status", 500) in (400, 401, 403, 404):
                raise
            time.sleep(interval_s)
            continue
        still = []
        for step, state, message in step_states(run):
            if steps.get(step) != state:
                steps[step], unchanged[step] = state, 0
                say(f"{step}: {state.lower()}{': ' + message if message else ''}")
                continue
            unchanged[step] += 1
            if state in ("RUNNING", "PENDING") and unchanged[step] % WAITED == 0:
                still.append(step)
        # A step counts as running from its driver's end on, whatever its pod does.
        reasons = _waiting(_pods(cluster, pods, run_id)) if still else {}
        for step in still:
            if (reason := reasons.get(step, "")) and waits.get(step) != reason:
                say(f"{step}: waits: {reason}")
            waits[step] = reason
        if run.state in FINAL or interval_s is None:
            failures = causes(client, run_id, pods, cluster) if run.state == "FAILED" else []
            message = first_sentence(run.error.message or "") if run.error else ""
            if failures:
                message = f"{failures[0].step}: {failures[0].message}"
            return {
                "state": run.state,
                "final": run.state in FINAL,
                "error": message,
                "steps": steps,
                "causes": [asdict(cause) for cause in failures],
            }
        time.sleep(interval_s)


def step_states(run: Any) -> list[tuple[str, str, str]]:
    """Return (name, state, error) of a run's steps, in the order in which they started.

    A task is a node of Argo's workflow (backend/src/common/util/workflow.go, NodeStatuses): each attempt at a step is
    one, with its number in brackets after the name, and so are the drivers and the graph itself. Only the steps are
    returned, and a driver where it failed, as the step that it was to start.
    """
    tasks = (run.run_details and run.run_details.task_details) or []
    whole = {task.display_name for task in tasks}
    # The workflow itself is a node too, and the beginning of every other node's id.
    ids = [child.pod_name or "" for task in tasks for child in task.child_tasks or []]
    workflows = {name.rpartition("-")[0] for name in ids}
    states: dict[str, tuple[str, str]] = {}
    for task in sorted(tasks, key=lambda task: str(task.start_time or task.create_time or "")):
        shown = task.display_name or "run"
        name = ATTEMPT.sub("", shown)
        driver = name.endswith("-driver")
        if not task.state or OWN.fullmatch(name) or name in workflows or (name != shown and name in whole):
            continue
        if driver and task.state != "FAILED":
            continue
        name = name.removesuffix("-driver")
        if name in states and _gravity(states[name][0]) < _gravity(task.state):
            continue  # another item of a loop
        message = first_sentence(task.error.message or "") if task.error else ""
        states[name] = (task.state, message)
    return [(name, state, message) for name, (state, message) in states.items()]


def _gravity(state: str) -> int:
    return GRAVITY.index(state) if state in GRAVITY else len(GRAVITY)


def causes(client: Any, run_id: str, pods: str, cluster: Callable[[], Kubernetes | None] = lambda: None) -> list[Cause]:
    """Return why the steps of a run failed, from its workflow and, where they can be read, its pods and their events.

    The v2beta1 API gives only the state of a task (backend/src/apiserver/server/api_converter.go,
    toApiPipelineTaskDetail); the messages are in the workflow, which the v1beta1 API still hands out.
    """
    nodes = _failed_nodes(client, run_id)
    seen = _pods(cluster, pods, run_id)
    latest: dict[str, Cause] = {}
    for node in nodes:
        step = step_of(node["name"])
        pod = _pod_of(node, seen)
        said = [first_sentence(node.get("message", "")), *(_said_of(cluster, pods, pod) if pod else ())]
        message = "; ".join(dict.fromkeys(filter(None, said)))
        name = pod.metadata.name if pod else _pod_name(node)
        refused = "is forbidden" in message  # by the API server, so that there never was a pod
        log = f"kubectl -n {pods} logs {name} -c main" if name and not refused else ""
        if message:
            latest[step] = Cause(step, message, log)
    return list(latest.values())


def step_of(node_name: str) -> str:
    """Return the step of the pipeline that a workflow's node belongs to, from the path that is the node's name."""
    path = [ATTEMPT.sub("", part) for part in node_name.split(".")]
    steps = [step for part in path[1:] if not OWN.fullmatch(step := part.removesuffix("-driver"))]
    return steps[-1] if steps else "root"


def _failed_nodes(client: Any, run_id: str) -> list[Mapping[str, Any]]:
    api = client.runs.api_client
    try:
        with explained(""):
            answer = api.call_api(
                "/apis/v1beta1/runs/{run_id}",
                "GET",
                {"run_id": run_id},
                header_params={"Accept": "application/json"},
                response_type="object",
                auth_settings=["Bearer"],
                _return_http_data_only=True,
            )
        runtime = answer.get("pipeline_runtime") or {}
        workflow = json.loads(runtime.get("workflow_manifest") or runtime.get("pipeline_manifest") or "{}")
        nodes = list((workflow.get("status", {}).get("nodes") or {}).values())
    except (InputError, ValueError, AttributeError):  # an explanation that is not to be had explains nothing away
        return []
    failed = [node for node in nodes if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error")]
    for node in failed:
        node["workflow"] = workflow.get("metadata", {}).get("name", "")
    return sorted(failed, key=lambda node: str(node.get("finishedAt") or ""))


def _pod_name(node: Mapping[str, Any]) -> str:
    # Workflow, template and the hash at the end of the node's id; workflow/util/pod_name.go of Argo Workflows.
    hash_ = node.get("id", "").rpartition("-")[2]
    template = node.get("templateName", "")
    return f"{node['workflow']}-{template}-{hash_}" if node.get("workflow") and template and hash_ else ""


def _pods(cluster: Callable[[], Kubernetes | None], namespace: str, run_id: str) -> Sequence[Any]:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    from pipelines.cluster.answers import Unanswered

    with contextlib.suppress(ApiException, HTTPError, Unanswered, InputError):
        reached = cluster()
        if reached is not None:
            return reached.core.list_namespaced_pod(namespace, label_selector=f"{RUN_LABEL}={run_id}").items
    return []


def _pod_of(node: Mapping[str, Any], pods: Sequence[Any]) -> Any:
    for pod in pods:
        if (pod.metadata.annotations or {}).get(NODE_NAME) == node["name"]:
            return pod
    return None


def _said_of(cluster: Callable[[], Kubernetes | None], namespace: str, pod: Any) -> list[str]:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    from pipelines.cluster.answers import Unanswered

    said = [waits_for(pod)]
    said += [item.message or "" for item in pod.status.conditions or [] if item.type == "DisruptionTarget"]
    for container in pod.status.container_statuses or []:
        ended = container.state and container.state.terminated
        if ended and ended.exit_code and ended.reason not in (None, "Error", "Completed"):
            said.append(f"{container.name}: {ended.reason}")
    with contextlib.suppress(ApiException, HTTPError, Unanswered, InputError):
        of = f"involvedObject.name={pod.metadata.name},type=Warning"
        events = cluster().core.list_namespaced_event(namespace, field_selector=of).items  # type: ignore[union-attr]
        said += [f"{event.reason}: {' '.join((event.message or '').split())[:200]}" for event in events[-2:]]
    return said


def _waiting(pods: Sequence[Any]) -> dict[str, str]:
    # What each step waits for that has a pod which does.
    found = ((step_of((pod.metadata.annotations or {}).get(NODE_NAME, "")), waits_for(pod)) for pod in pods)
    return {step: reason for step, reason in found if reason}
