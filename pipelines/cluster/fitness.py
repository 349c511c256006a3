"""What a compiled pipeline asks of a cluster, held against what the cluster has."""

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.servers import timeout_s
from pipelines.cluster.answers import Unanswered
from pipelines.cluster.finding import Finding, line_of
from pipelines.cluster.kubernetes_api import Kubernetes, reason

KUBEFLOW = "kubeflow"  # the namespace of Kubeflow Pipelines' own pods
PATCH = "COMPILED_PIPELINE_SPEC_PATCH"  # backend/src/apiserver/common/config.go
OPEN_TO_ALL = ("rancher.io/local-path", "k8s.io/minikube-hostpath")  # make directories that every user may write
OLDEST = (1, 28)  # of Kubernetes: schemas and pod standards that manifests/ is validated against
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


@dataclass(frozen=True)
class Need:
    """What one step of a compiled pipeline asks of a cluster; amounts in processors and bytes."""

    step: str
    image: str
    cpu: float
    memory: float
    accelerator: str
    accelerators: int
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...]
    secrets: Mapping[str, tuple[tuple[str, ...], bool]]  # keys, and whether the step can do without, by name
    configs: Mapping[str, tuple[tuple[str, ...], bool]]
    pull_secrets: tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """The volume that the server makes for a run of a compiled pipeline.

    Attributes:
        size: As a Kubernetes quantity.
        storage_class: Empty for the cluster's default.
        user: That the steps run as; None where the cluster assigns one.
    """

    size: str
    storage_class: str
    user: int | None


def workspace(pipeline: Path) -> Workspace | None:
    """Read which volume a run of a compiled pipeline gets; None where it gets none."""
    import yaml

    _, platforms = yaml.safe_load_all(pipeline.read_text())
    settings = platforms["platforms"]["kubernetes"]
    asked = settings.get("pipelineConfig", {}).get("workspace")
    if not asked:
        return None
    users = {
        int(executor["securityContext"]["runAsUser"])
        for executor in settings["deploymentSpec"]["executors"].values()
        if "runAsUser" in executor.get("securityContext", {})
    }
    claim = asked.get("kubernetes", {}).get("pvcSpecPatch", {})
    return Workspace(asked["size"], claim.get("storageClassName", ""), max(users, default=None))


def needs(pipeline: Path) -> list[Need]:
    """Read what every step of a compiled pipeline asks for, from both documents."""
    import yaml
    from kubernetes.utils.quantity import parse_quantity

    specification, platforms = yaml.safe_load_all(pipeline.read_text())
    placed = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    findings = []
    for label, executor in specification["deploymentSpec"]["executors"].items():
        container, place = executor["container"], placed.get(label, {})
        asked = container.get("resources", {})
        gpu = asked.get("accelerator", {})
        findings.append(
            Need(
                step=label.removeprefix("exec-"),
                image=container["image"],
                cpu=float(parse_quantity(asked.get("resourceCpuRequest", "0"))),
                memory=float(parse_quantity(asked.get("resourceMemoryRequest", "0"))),
                accelerator=gpu.get("resourceType", ""),
                accelerators=int(gpu.get("resourceCount", 0)),
                node_selector=place.get("nodeSelector", {}).get("labels", {}),
                tolerations=tuple(place.get("tolerations", ())),
                secrets=_keys(place.get("secretAsEnv", ()), "secretName", "secretKey"),
                configs=_keys(place.get("configMapAsEnv", ()), "configMapName", "configMapKey"),
                pull_secrets=tuple(secret["secretName"] for secret in place.get("imagePullSecret", ())),
            )
        )
    return findings


def _keys(entries: Iterable[Mapping[str, Any]], name: str, key: str) -> dict[str, tuple[tuple[str, ...], bool]]:
    return {
        entry[name]: (tuple(pair[key] for pair in entry["keyToEnv"]), bool(entry.get("optional"))) for entry in entries
    }


def cluster(kubernetes: Kubernetes, wanted: list[Need], volume: Workspace | None) -> Iterator[Finding]:
    """Look at a cluster with the eyes of a compiled pipeline's steps.

    Args:
        kubernetes: The cluster, in the namespace where the steps' pods run.
        wanted: What each step needs.
        volume: What the run keeps its work on; None where it needs none.
    """
    api = _guarded("Kubernetes API", lambda: [_version(kubernetes)])
    yield from api
    if not api[0].ok:
        return
    yield from _guarded("nodes", lambda: list(_nodes(kubernetes, wanted)))
    yield from _guarded("quota", lambda: list(_quotas(kubernetes, wanted)))
    if volume is not None:
        yield from _guarded("storage class", lambda: [_storage_class(kubernetes, volume)])
        yield from _guarded("workspace", lambda: [_workspace(kubernetes, volume)])
    for kind, read, attribute in (
        ("config map", kubernetes.core.read_namespaced_config_map, "configs"),
        ("secret", kubernetes.core.read_namespaced_secret, "secrets"),
    ):
        for name, (keys, optional) in _merged(wanted, attribute).items():
            look = lambda: [_named(kubernetes, kind, read, name, keys, optional)]  # noqa: B023, E731 (called at once)
            yield from _guarded(f"{kind} {name}", look)
    yield from _guarded("images", lambda: list(_images(kubernetes, wanted)))


def _guarded(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    import urllib3
    from kubernetes.client import ApiException

    try:
        return look()
    except ApiException as error:
        ok = None if error.status == 403 else False
        return [
            Finding(what, ok, reason(error), "permission to look", "ask the cluster's administrator for a view role")
        ]
    except (urllib3.exceptions.HTTPError, Unanswered) as error:
        return [Finding(what, False, line_of(error), "an API server that answers", "see kubectl cluster-info")]


def _version(kubernetes: Kubernetes) -> Finding:
    release = kubernetes.version.get_code()
    version = (int(release.major), int(re.sub(r"\D.*", "", release.minor)))
    where = kubernetes.api.configuration.host
    return Finding(
        "Kubernetes API", version >= OLDEST, f"{release.git_version} at {where}", "1.28 or later", "upgrade the cluster"
    )


def _nodes(kubernetes: Kubernetes, wanted: list[Need]) -> Iterator[Finding]:
    nodes = kubernetes.core.list_node().items
    light = [need for need in wanted if not need.accelerators]
    if light:
        # One line for all of them: the node that can take the most demanding of the steps takes each.
        yield _fitting(nodes, max(light, key=lambda need: (need.memory, need.cpu)), "nodes for steps without GPU")
    for need in wanted:
        if need.accelerators:
            yield _fitting(nodes, need, f"GPU node for {need.step}")


def _fitting(nodes: list[Any], need: Need, what: str) -> Finding:
    asked = f"{need.cpu:g} processors and {need.memory / 2**30:.0f} GiB free to ask for"
    if need.accelerators:
        asked += f", {need.accelerators} {need.accelerator}"
    if need.node_selector:
        asked += ", label " + ", ".join(f"{key}={value}" for key, value in need.node_selector.items())
    reasons = {node.metadata.name: _unfit(node, need) for node in nodes}
    fitting = [name for name, against in reasons.items() if not against]
    if fitting:
        return Finding(what, True, f"{len(fitting)} of {len(nodes)}, such as {fitting[0]}", asked)
    with_gpu = [node for node in nodes if not need.accelerators or _allocatable(node, need.accelerator)]
    if not with_gpu:
        fix = "add a GPU node pool with its drivers; one that is scaled to zero shows no node, and may be fine"
        return Finding(what, None, f"none of {len(nodes)} nodes offers {need.accelerator}", asked, fix)
    seen = "; ".join(f"{node.metadata.name}: {', '.join(reasons[node.metadata.name])}" for node in with_gpu[:3])
    return Finding(what, False, seen or "no nodes", asked, "change the pool, or compile with --cluster FILE")


def _unfit(node: Any, need: Need) -> list[str]:
    """Return why a step cannot run on a node; empty where it can."""
    against = []
    for name, amount in (("cpu", need.cpu), ("memory", need.memory), (need.accelerator, need.accelerators)):
        if amount and _allocatable(node, name) < amount:
            there = (node.status.allocatable or {}).get(name, "0")
            against.append(f"has {there} {name}")
    labels = node.metadata.labels or {}
    against += [
        f"is missing the label {key}={value}" for key, value in need.node_selector.items() if labels.get(key) != value
    ]
    for taint in node.spec.taints or []:
        if taint.effect in ("NoSchedule", "NoExecute") and not any(
            _tolerates(item, taint) for item in need.tolerations
        ):
            against.append(f"has taint {taint.key}={taint.value or ''}:{taint.effect}")
    ready = [condition.status for condition in node.status.conditions or [] if condition.type == "Ready"]
    return against + ([] if ready in (["True"], []) else ["is not ready"])


def _allocatable(node: Any, name: str) -> float:
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity((node.status.allocatable or {}).get(name, "0")))


def _tolerates(toleration: Mapping[str, str], taint: Any) -> bool:
    if toleration.get("effect") not in (None, taint.effect) or toleration.get("key") not in (None, taint.key):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == (taint.value or "")


def _quotas(kubernetes: Kubernetes, wanted: list[Need]) -> Iterator[Finding]:
    from kubernetes.utils.quantity import parse_quantity

    asked = {"requests.cpu": 0.0, "requests.memory": 0.0, "pods": 1.0}
    for need in wanted:
        asked["requests.cpu"] = max(asked["requests.cpu"], need.cpu)
        asked["requests.memory"] = max(asked["requests.memory"], need.memory)
        if need.accelerators:
            asked[f"requests.{need.accelerator}"] = float(need.accelerators)
    for quota in kubernetes.core.list_namespaced_resource_quota(kubernetes.namespace).items:
        hard, used = quota.status.hard or {}, quota.status.used or {}
        for name in sorted(set(asked) & set(hard)):
            left = float(parse_quantity(hard[name])) - float(parse_quantity(used.get(name, "0")))
            observed = f"{used.get(name, '0')} of {hard[name]} used"
            what = f"quota {quota.metadata.name}, {name}"
            yield Finding(
                what, left >= asked[name], observed, f"{asked[name]:g} left for the largest step", "raise it, or wait"
            )


def _storage_class(kubernetes: Kubernetes, volume: Workspace) -> Finding:
    classes = kubernetes.storage.list_storage_class().items
    names = ", ".join(item.metadata.name for item in classes) or "none at all"
    if volume.storage_class:
        there = any(item.metadata.name == volume.storage_class for item in classes)
        fix = "name another as workspace_storage_class in the cluster file"
        return Finding("storage class", there, f"there is {names}", volume.storage_class, fix)
    default = _default(classes)
    if default:
        return Finding("storage class", True, f"{default.metadata.name} is the default")
    fix = (
        f"annotate one with {DEFAULT_CLASS}=true, or name one as workspace_storage_class in the cluster file: "
        "training keeps what it resumes from on a volume"
    )
    return Finding("storage class", False, f"no default among {names}", "a default", fix)


def _default(classes: list[Any]) -> Any:
    return next((item for item in classes if (item.metadata.annotations or {}).get(DEFAULT_CLASS) == "true"), None)


def _workspace(kubernetes: Kubernetes, volume: Workspace) -> Finding:
    """Look whether the steps can write their volume.

    A new block volume belongs to root. What lets another user write is the pod's fsGroup, which neither kfp nor the
    driver can set (backend/src/v2/driver/k8s.go); an administrator can, for every run, by a patch of the compiled
    workflow (backend/src/v2/compiler/argocompiler/spec_patch.go) that Argo applies to each pod.
    """
    from kubernetes.client import ApiException

    what = "workspace"
    user = volume.user
    if user is None:
        return Finding(what, None, "the cluster assigns the user of the steps, and with it who may write the volume")
    try:
        server = kubernetes.apps.read_namespaced_deployment("ml-pipeline", KUBEFLOW)
    except ApiException as error:
        if error.status != 404:
            raise
        return Finding(what, None, f"no Kubeflow Pipelines in the namespace {KUBEFLOW}", "its deployment ml-pipeline")
    values = [
        variable.value or ""
        for container in server.spec.template.spec.containers
        for variable in container.env or []
        if variable.name == PATCH
    ]
    group = _group(values[-1] if values else "")
    if group is not None:
        return Finding(what, True, f"a volume of {volume.size} for each run, which group {group} may write")
    classes = {item.metadata.name: item for item in kubernetes.storage.list_storage_class().items}
    used = classes.get(volume.storage_class) or _default(list(classes.values()))
    if used is not None and used.provisioner in OPEN_TO_ALL:
        return Finding(what, True, f"a directory of {used.provisioner} for each run, which every user may write")
    patch = json.dumps({"podSpecPatch": json.dumps({"securityContext": {"fsGroup": user}})})
    return Finding(
        what,
        False,
        f"a new volume belongs to root, and the steps run as user {user}: training could not resume",
        f"fsGroup {user} on the pods",
        f"kubectl -n {KUBEFLOW} set env deployment/ml-pipeline {PATCH}='{patch}', "
        "or compile with workspace: '' in the cluster file",
    )


def _group(patch: str) -> int | None:
    import yaml

    with contextlib.suppress(ValueError, TypeError, AttributeError, yaml.YAMLError):
        pod = yaml.safe_load(json.loads(patch or "{}").get("podSpecPatch", "{}"))
        return int(pod["securityContext"]["fsGroup"]) if "fsGroup" in pod.get("securityContext", {}) else None
    return None


def _merged(wanted: list[Need], attribute: str) -> dict[str, tuple[tuple[str, ...], bool]]:
    merged: dict[str, tuple[tuple[str, ...], bool]] = {}
    for need in wanted:
        for name, (keys, optional) in getattr(need, attribute).items():
            before, weak = merged.get(name, ((), True))
            merged[name] = (tuple(dict.fromkeys((*before, *keys))), optional and weak)
    return merged


def _named(kubernetes: Kubernetes, kind: str, read: Any, name: str, keys: tuple[str, ...], optional: bool) -> Finding:
    from kubernetes.client import ApiException

    what, needed = f"{kind} {name}", f"the keys {', '.join(keys)} in {kubernetes.namespace}"
    missing = "missing" + (", which is fine where the server asks for none" if optional else "")
    short = {"config map": "configmap", "secret": "secret generic"}[kind]
    fix = f"kubectl -n {kubernetes.namespace} create {short} {name} " + " ".join(
        f"--from-literal={key}=..." for key in keys
    )
    try:
        data = read(name, kubernetes.namespace).data or {}
    except ApiException as error:
        if error.status != 404:
            raise
        return Finding(what, optional, missing, needed, fix)
    absent = [key for key in keys if not data.get(key)]
    observed = f"is missing {', '.join(absent)}" if absent else f"has {', '.join(keys)}"
    return Finding(what, not absent, observed, needed, fix)


def _images(kubernetes: Kubernetes, wanted: list[Need]) -> Iterator[Finding]:
    on_nodes = {
        name
        for node in kubernetes.core.list_node().items
        for image in node.status.images or []
        for name in image.names or []
    }
    for image, pull_secrets in {need.image: need.pull_secrets for need in wanted}.items():
        if {image, f"docker.io/library/{image}"} & on_nodes:
            yield Finding(f"image {image}", True, "is on a node already")
        else:
            yield pullable(image, _credentials(kubernetes, pull_secrets))


def _credentials(kubernetes: Kubernetes, pull_secrets: Iterable[str]) -> dict[str, tuple[str, str]]:
    accounts = {}
    for name in pull_secrets:
        secret = kubernetes.core.read_namespaced_secret(name, kubernetes.namespace)
        registries = json.loads(base64.b64decode(secret.data[".dockerconfigjson"]))["auths"]
        for registry, entry in registries.items():
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            accounts[registry.removeprefix("https://").rstrip("/")] = (user, password)
    return accounts


def pullable(image: str, credentials: Mapping[str, tuple[str, str]]) -> Finding:
    """Ask an image's registry for its manifest, as a node would: without credentials, then with what it asks for."""
    import requests

    what, needed = f"image {image}", "an image that the nodes can pull"
    registry, slash, path = image.partition("/")
    if not slash or not set(registry) & set(".:"):
        fix = "push the images and name their registry in the cluster file, or load them into the nodes"
        return Finding(what, False, "names no registry", needed, fix)
    name, _, tag = path.rpartition(":")
    scheme = "http" if registry.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{registry}/v2/{name}/manifests/{tag}"
    own = credentials.get(registry)
    try:
        session = requests.Session()
        answer = session.head(url, headers={"Accept": MANIFESTS}, timeout=timeout_s())
        if answer.status_code == 401:
            _authorise(session, answer.headers.get("WWW-Authenticate", ""), own)
            answer = session.head(url, headers={"Accept": MANIFESTS}, timeout=timeout_s())
    except (requests.RequestException, ValueError, KeyError) as error:
        return Finding(what, False, line_of(error), needed, "look at the registry's name")
    if answer.status_code == 200:
        return Finding(what, True, "can be pulled")
    if answer.status_code in (401, 403):
        fix = "name a pull secret as image_pull_secrets in the cluster file, unless the nodes' own account may pull"
        return Finding(what, None, f"the registry asks who we are ({answer.status_code})", needed, fix)
    return Finding(what, False, f"the registry answers {answer.status_code}", needed, "build and push it: make images")


def _authorise(session: Any, challenge: str, own: tuple[str, str] | None) -> None:
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic":
        session.auth = own
        return
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = parameters.pop("realm")
    token = session.get(realm, params=parameters, auth=own, timeout=timeout_s()).json()
    session.headers["Authorization"] = f"Bearer {token.get('token') or token['access_token']}"
