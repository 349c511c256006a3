"""What each step asks of a cluster: image, processor, memory, GPU, secrets. The only importer of kfp.kubernetes.

All of it is fixed when a pipeline is traced for a cluster, in both documents of its YAML. Nothing here is a pipeline
parameter: the backend reads numbers among them as empty text and then drops the GPU without a word, and changing one
would miss the step's cache. Another cluster is another compile: `ai-vs-real compile --cluster FILE`.
"""

import dataclasses
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml
from kfp import dsl, kubernetes

from components import containers
from components.containers import VERSION
from components.errors import InputError
from components.revision import IMAGES, PIPELINE, RUN

USER = 10001  # of the images; see images/*/Dockerfile
CONFIG = "ai-vs-real-config"  # names that manifests/base declares
MLFLOW_SECRET = "ai-vs-real-mlflow"
MONGODB_SECRET = "ai-vs-real-mongodb"
SPOT = "cloud.google.com/gke-spot"
RUN_LABEL = "metadata.labels['pipeline/runid']"  # Kubeflow labels every pod of a run with the run's id
WAIT_S = 60  # before the second attempt at a step; twice as long before each further one
OWN_DIGEST = "the digest of this pipeline"  # in whose place compilation writes it
QUEUE_S = 86400  # for which attempts may wait for a free node, all together


@dataclass(frozen=True)
class Step:
    """What one step asks for: requests and limits as Kubernetes quantities.

    Attributes:
        hours: After which the pod is stopped.
        retries: Attempts after the first, each a longer wait apart.
        cached: Whether equal inputs may stand in for a run; never for what reads or writes the registry.
        registry: Whether the step talks to MLflow.
        records: Whether the step talks to MongoDB.
    """

    cpu: str = "250m"
    cpu_limit: str = "1"
    memory: str = "512Mi"
    memory_limit: str = "2Gi"
    hours: float = 1.0
    retries: int = 2
    cached: bool = True
    registry: bool = False
    records: bool = False


def _default_steps() -> dict[str, Step]:
    # The sum of what may run at once, two extractions, fits a cluster of two nodes of 4 processors and 16 GiB.
    return {
        "list_media": Step(cached=False),
        "extract_frames": Step(cpu="1", cpu_limit="2", memory="1Gi", memory_limit="4Gi", hours=6, records=True),
        "preprocess": Step(cpu="1", cpu_limit="2", memory="2Gi", memory_limit="8Gi", hours=6, records=True),
        "train": Step(cpu="2", cpu_limit="4", memory="8Gi", memory_limit="12Gi", hours=24, retries=3, registry=True),
        "find_champion": Step(cached=False, registry=True),
        "evaluate": Step(cpu="1", cpu_limit="4", memory="4Gi", memory_limit="8Gi", hours=6, registry=True),
        "register": Step(cached=False, registry=True, records=True),
        "list_shards": Step(cached=False, registry=True),
        "score_shard": Step(
            cpu="2", cpu_limit="4", memory="2Gi", memory_limit="4Gi", hours=12, registry=True, records=True
        ),
        "summarize": Step(memory="1Gi", memory_limit="4Gi"),
    }


@dataclass(frozen=True)
class Cluster:
    """The cluster that the pipelines are traced for; the defaults fit a small one.

    Attributes:
        registry: HOST/PATH of the images; empty where `images` says it, or the nodes have them already.
        tag: Of the images; empty where `images` says it, else the package's version.
        images: A kustomization whose `images:` name the images, beside the cluster file; kubectl reads the same.
        jobs: A kustomization whose patches every job of manifests/jobs gets, such as another volume, likewise.
        accelerator: The extended resource that a GPU node offers.
        accelerators: GPUs of the training step; 0 trains on processors.
        evaluation_accelerators: GPUs of the evaluation step.
        gpu_nodes: Labels of the node pool with the GPUs. None by default: asking for the resource already selects them.
        spot: Whether GPU steps run on spot nodes, which training survives: it resumes.
        shared_memory: Size of /dev/shm for GPU steps, whose data loaders outgrow the default 64 MB.
        image_pull_secrets: Names of the secrets for a private registry.
        user: User and group that the steps run as; null where the cluster assigns one.
        workspace: Size of the volume on which training keeps what it resumes from; empty for no volume and no resuming.
        workspace_access_modes: Of that volume; Kubeflow Pipelines refuses a run without any.
        workspace_storage_class: Of that volume; empty for the cluster's default class.
        days: After which a run is stopped.
        kept_days: For which the pods of a finished run are kept.
        steps: What each step asks for.
    """

    registry: str = ""
    tag: str = ""
    images: str = ""
    jobs: str = ""
    accelerator: str = "nvidia.com/gpu"
    accelerators: int = 1
    evaluation_accelerators: int = 0
    gpu_nodes: dict[str, str] = field(default_factory=dict)
    spot: bool = False
    shared_memory: str = "2Gi"
    image_pull_secrets: list[str] = field(default_factory=list)
    user: int | None = USER
    workspace: str = "20Gi"
    workspace_access_modes: list[str] = field(default_factory=lambda: ["ReadWriteOnce"])
    workspace_storage_class: str = ""
    days: float = 3.0
    kept_days: float = 7.0
    steps: dict[str, Step] = field(default_factory=_default_steps)

    @classmethod
    def read(cls, path: str | Path) -> "Cluster":
        """Read a cluster file.

        Args:
            path: YAML with any of the attributes, and under `steps` what differs from the defaults; or a Kubernetes
                object of the kind Cluster with the same in its `spec`, which kustomize can read too.

        Raises:
            InputError: The file cannot be read, or names a setting that there is not, or gives it another type.
        """
        place = f"cluster file {path}"
        try:
            given = yaml.safe_load(Path(path).read_text()) or {}
            if isinstance(given, dict) and given.get("kind") == "Cluster":
                given = given.get("spec") or {}
        except (OSError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{place} cannot be read ({reason}); give YAML, as manifests/overlays/gke/cluster.yaml"
            ) from None
        if not isinstance(given, dict) or not isinstance(given.get("steps", {}), dict):
            raise InputError(f"{place} is no mapping of settings; it may set {_names(cls)}")
        steps = _default_steps()
        for name, changes in given.pop("steps", {}).items():
            if name not in steps:
                raise InputError(f"{place} names the step {name!r}; the steps are {', '.join(steps)}")
            steps[name] = _replace(steps[name], changes, f"{place}, step {name}")
        for name in ("images", "jobs"):
            if isinstance(given.get(name), str):
                given[name] = str(Path(path).parent / given[name])
        return _replace(cls(steps=steps), given, place)

    def image(self, name: str) -> str:
        """Return where this cluster gets an image of ours from.

        Args:
            name: Its reference, with or without registry and tag; an image of somebody else stays as it is.

        Raises:
            InputError: The kustomization that names the images cannot be read.
        """
        bare = name.rpartition("/")[2].partition(":")[0]
        if not bare.startswith("ai-vs-real-"):
            return name
        entry = self._entries().get(bare, {})
        place = f"{self.registry.rstrip('/')}/{bare}" if self.registry else entry.get("newName", bare)
        return f"{place}:{self.tag or entry.get('newTag', VERSION)}"

    def _entries(self) -> dict[str, dict[str, str]]:
        entries = kustomization(self.images).get("images", ()) if self.images else ()
        return {entry["name"]: entry for entry in entries}


def kustomization(path: str | Path) -> dict[str, Any]:
    """Read a kustomization.

    Raises:
        InputError: There is none.
    """
    try:
        return dict(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}, which the cluster file names, is no kustomization ({reason})") from None


def _replace(record: Any, changes: dict[str, Any], place: str) -> Any:
    kinds = {item.name: item.type for item in dataclasses.fields(record)}
    for name, value in changes.items():
        if name not in kinds:
            raise InputError(f"{place} sets {name!r}; it may set {_names(record)}")
        declared: Any = kinds[name]
        accepted = {float: (float, int)}.get(declared) or get_origin(declared) or declared
        if not isinstance(value, get_args(declared) if accepted is UnionType else accepted):
            raise InputError(
                f"{place} sets {name} to {value!r}; it takes {kinds[name]}, such as {getattr(record, name)!r}"
            )
    return dataclasses.replace(record, **changes)


def _names(record: Any) -> str:
    return ", ".join(item.name for item in dataclasses.fields(record))


def cluster_for(path: Path | None = None) -> Cluster:
    """Return the cluster that a file describes, with the registry and tag of the environment where they are set.

    Args:
        path: A cluster file; None for the defaults. AI_VS_REAL_REGISTRY and AI_VS_REAL_TAG, which a build sets, win
            over its `registry` and `tag`.
    """
    here = Cluster.read(path) if path else Cluster()
    set_: dict[str, Any] = {"registry": os.environ.get("AI_VS_REAL_REGISTRY"), "tag": os.environ.get("AI_VS_REAL_TAG")}
    return dataclasses.replace(here, **{name: value for name, value in set_.items() if value})


_tracing: ContextVar[Cluster] = ContextVar("the cluster that a pipeline is being traced for")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that can be traced for any cluster.

    Attributes:
        function: Its body: the steps, and what passes between them.
        name: Of the pipeline on a server.
        description: Of the pipeline on a server.
        resumes: Whether one of its steps keeps on a volume what a second attempt goes on from.
    """

    function: Callable[..., Any]
    name: str
    description: str
    resumes: bool

    def on(self, cluster: Cluster) -> Any:
        """Return the pipeline, traced for a cluster, as kfp compiles it."""
        before = _tracing.set(cluster)
        try:
            return dsl.pipeline(
                name=self.name,
                description=self.description,
                pipeline_config=_pipeline_config(cluster, self.resumes),
            )(self.function)
        finally:
            _tracing.reset(before)


def pipeline(name: str, description: str, *, resumes: bool = False) -> Callable[[Callable[..., Any]], Pipeline]:
    """Return a decorator that makes a function a Pipeline."""
    return lambda function: Pipeline(function, name, description, resumes)


def _pipeline_config(cluster: Cluster, resumes: bool) -> dsl.PipelineConfig:
    kept = round(cluster.kept_days * 86400)
    workspace = None
    if resumes and cluster.workspace:
        claim: dict[str, Any] = {"accessModes": cluster.workspace_access_modes}
        if cluster.workspace_storage_class:
            claim["storageClassName"] = cluster.workspace_storage_class
        workspace = dsl.WorkspaceConfig(cluster.workspace, dsl.KubernetesWorkspaceConfig(pvcSpecPatch=claim))
    return dsl.PipelineConfig(
        workspace=workspace,
        active_deadline_seconds=round(cluster.days * 86400),
        # Each of them: an administrator's default for one outcome wins over what is said for both.
        ttl_seconds_after_finished=kept,
        ttl_seconds_after_success=kept,
        ttl_seconds_after_failure=kept,
    )


def workspace() -> str:
    """Return the path that outlives a step's pod, as the server fills it in; empty where the cluster has no volume."""
    return dsl.WORKSPACE_PATH_PLACEHOLDER if _tracing.get().workspace else ""


def place(task: dsl.PipelineTask, step: str) -> dsl.PipelineTask:
    """Say what a task asks of the cluster, by the name of its step in `Cluster.steps`; returns the task.

    kfp.local ignores all of it but caching and retries.
    """
    here = _tracing.get()
    ask = here.steps[step]
    task.set_container_image(here.image(task.container_spec.image))
    task.set_cpu_request(ask.cpu).set_cpu_limit(ask.cpu_limit)
    task.set_memory_request(ask.memory).set_memory_limit(ask.memory_limit)
    task.set_caching_options(ask.cached)
    task.set_retry(
        ask.retries, backoff_duration=f"{WAIT_S}s", backoff_factor=2.0, backoff_max_duration=f"{_patience_s(ask)}s"
    )
    kubernetes.set_timeout(task, round(ask.hours * 3600))
    if here.user is not None:
        kubernetes.set_security_context(task, run_as_user=here.user, run_as_group=here.user, run_as_non_root=True)
    if here.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, here.image_pull_secrets)
    _set_environment(task, ask)
    if step == "train":  # whose card says what made the detector
        task.set_env_variable(PIPELINE, OWN_DIGEST)
        task.set_env_variable(IMAGES, ",".join(here.image(name) for name in containers.IMAGES))
        kubernetes.use_field_path_as_env(task, RUN, RUN_LABEL)
    gpus = {"train": here.accelerators, "evaluate": here.evaluation_accelerators}
    return on_gpu(task, gpus[step], here) if gpus.get(step) else task


def _patience_s(ask: Step) -> int:
    # Argo counts it from the first attempt's start and stops the last one at its end (workflow/controller/operator.go,
    # processNodeRetries), so it holds every attempt at full length, the waits between them and those for a node.
    waits = WAIT_S * (2**ask.retries - 1)
    return round(ask.hours * 3600 * (ask.retries + 1)) + waits + QUEUE_S


def on_gpu(task: dsl.PipelineTask, count: int, here: Cluster) -> dsl.PipelineTask:
    """Put a task on the GPU node pool of a cluster with some GPUs; returns the task."""
    task.set_accelerator_type(here.accelerator).set_accelerator_limit(count)
    kubernetes.add_toleration(task, key=here.accelerator, operator="Exists", effect="NoSchedule")
    for label, value in here.gpu_nodes.items():
        kubernetes.add_node_selector(task, label, value)
    if here.spot:
        kubernetes.add_node_selector(task, SPOT, "true")
        kubernetes.add_toleration(task, key=SPOT, operator="Equal", value="true", effect="NoSchedule")
    return kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=here.shared_memory)


def _set_environment(task: dsl.PipelineTask, ask: Step) -> None:
    # Addresses are not optional: without one a pod would keep its registry in a file that dies with it.
    if ask.registry:
        kubernetes.use_config_map_as_env(task, CONFIG, {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"})
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, {name: name for name in names}, optional=True)
    if ask.records:
        kubernetes.use_secret_as_env(task, MONGODB_SECRET, {"MONGODB_URI": "MONGODB_URI"})
