"""What the compiled pipeline asks of a cluster, value by value, in both documents of its YAML."""

import pytest
import yaml

from components.containers import VERSION
from components.errors import InputError
from pipelines.steps.compiling import COMPILED, compile_manifests, compile_pipelines, digest_of
from pipelines.steps.resources import Cluster, cluster_for

STEPS = ("list-media", "extract-frames", "preprocess", "train", "find-champion", "evaluate", "register")


class Compiled:
    """Both documents of a compiled pipeline, by step."""

    def __init__(self, path):
        self.specification, self.platforms = yaml.load_all(
            path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        self.kubernetes = self.platforms["platforms"]["kubernetes"]

    def asked(self, step):
        return self.specification["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]

    def placed(self, step):
        return self.kubernetes["deploymentSpec"]["executors"][f"exec-{step}"]

    def tasks(self):
        """Every task by name, those of the loop included."""
        tasks = dict(self.specification["root"]["dag"]["tasks"])
        for component in self.specification["components"].values():
            tasks |= component.get("dag", {}).get("tasks", {})
        return tasks


@pytest.fixture(scope="module")
def compiled():
    return Compiled(COMPILED / "training.yaml")


@pytest.fixture(scope="module")
def compile_with(tmp_path_factory):
    """Compile the training pipeline for a cluster described by YAML."""

    def compile_(text):
        directory = tmp_path_factory.mktemp("cluster")
        (directory / "cluster.yaml").write_text(text)
        compile_pipelines(directory, Cluster.read(directory / "cluster.yaml"))
        return Compiled(directory / "training.yaml")

    return compile_


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("list-media", ("250m", "1", "512Mi", "2Gi")),
        ("extract-frames", ("1", "2", "1Gi", "4Gi")),
        ("preprocess", ("1", "2", "2Gi", "8Gi")),
        ("train", ("2", "4", "8Gi", "12Gi")),
        ("find-champion", ("250m", "1", "512Mi", "2Gi")),
        ("evaluate", ("1", "4", "4Gi", "8Gi")),
        ("register", ("250m", "1", "512Mi", "2Gi")),
    ],
)
def test_every_step_asks_for_processors_and_memory(compiled, step, values):
    asked = compiled.asked(step)
    names = ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit")
    assert tuple(asked[name] for name in names) == values


def test_the_gpu_is_for_training_alone(compiled):
    assert [step for step in STEPS if "accelerator" in compiled.asked(step)] == ["train"]
    accelerator = compiled.asked("train")["accelerator"]
    # Text, and no placeholder: the backend reads a number among the parameters as "" and drops the GPU.
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1")
    place = compiled.placed("train")
    assert place["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    memory = {"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}
    assert place["emptyDirMounts"] == [memory]
    assert "nodeSelector" not in place
    for step in set(STEPS) - {"train"}:
        assert not {"tolerations", "nodeSelector", "emptyDirMounts"} & set(compiled.placed(step))


def test_every_step_has_a_timeout_and_runs_as_nobody_in_particular(compiled):
    hours = {step: int(compiled.placed(step)["activeDeadlineSeconds"]) / 3600 for step in STEPS}
    assert hours == {
        "list-media": 1,
        "extract-frames": 6,
        "preprocess": 6,
        "train": 24,
        "find-champion": 1,
        "evaluate": 6,
        "register": 1,
    }
    for step in STEPS:
        user = {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert compiled.placed(step)["securityContext"] == user


def test_retries_wait_longer_each_time_and_what_touches_the_registry_is_never_cached(compiled):
    tasks = compiled.tasks()
    for step in STEPS:
        policy = tasks[step]["retryPolicy"]
        assert policy["maxRetryCount"] == (3 if step == "train" else 2)
        assert (policy["backoffDuration"], policy["backoffFactor"]) == ("60s", 2.0)
        # Argo stops the last attempt at its end, counted from the start of the first one.
        whole = int(compiled.placed(step)["activeDeadlineSeconds"]) * (policy["maxRetryCount"] + 1)
        assert int(policy["backoffMaxDuration"].removesuffix("s")) > whole
    cached = {step for step in STEPS if tasks[step]["cachingOptions"].get("enableCache")}
    assert cached == {"extract-frames", "preprocess", "train", "evaluate"}


def test_secrets_and_addresses_come_by_name(compiled):
    def names(step, kind, name, key):
        return {entry[name]: [pair[key] for pair in entry["keyToEnv"]] for entry in compiled.placed(step).get(kind, ())}

    mlflow = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"]
    for step in STEPS:
        registry = step in ("train", "find-champion", "evaluate", "register")
        records = step in ("extract-frames", "preprocess", "register")
        config = {"ai-vs-real-config": ["MLFLOW_TRACKING_URI"]} if registry else {}
        assert names(step, "configMapAsEnv", "configMapName", "configMapKey") == config
        secrets = ({"ai-vs-real-mlflow": mlflow} if registry else {}) | (
            {"ai-vs-real-mongodb": ["MONGODB_URI"]} if records else {}
        )
        assert names(step, "secretAsEnv", "secretName", "secretKey") == secrets
        for entry in compiled.placed(step).get("secretAsEnv", ()):
            assert entry["optional"] is (entry["secretName"] == "ai-vs-real-mlflow")
    text = yaml.safe_dump(compiled.specification) + yaml.safe_dump(compiled.platforms)
    assert "mongodb://" not in text
    assert "password:" not in text.lower()


def test_a_run_has_a_deadline_a_life_and_a_volume_to_resume_from(compiled):
    config = compiled.kubernetes["pipelineConfig"]
    assert config["activeDeadlineSeconds"] == 3 * 86400
    # Each of them: an administrator's default for one outcome wins over what is said for both.
    for outcome in ("Completion", "Success", "Failure"):
        assert config[f"resourceTtlOn{outcome}"] == 7 * 86400
    # The server refuses a run whose volume has no access mode.
    claim = {"accessModes": ["ReadWriteOnce"]}
    assert config["workspace"] == {"size": "20Gi", "kubernetes": {"pvcSpecPatch": claim}}
    inputs = compiled.tasks()["train"]["inputs"]["parameters"]
    assert inputs["work"] == {"runtimeValue": {"constant": "{{$.workspace_path}}"}}


def test_another_cluster_is_another_yaml(compile_with):
    compiled = compile_with(
        "accelerators: 4\n"
        "evaluation_accelerators: 1\n"
        "gpu_nodes: {pool: a100, zone: b}\n"
        "spot: true\n"
        "shared_memory: 8Gi\n"
        "image_pull_secrets: [registry]\n"
        "user: null\n"
        "workspace: 100Gi\n"
        "workspace_access_modes: [ReadWriteMany]\n"
        "workspace_storage_class: filestore\n"
        "days: 1\n"
        "kept_days: 0.5\n"
        "steps:\n"
        "  train: {cpu: '8', cpu_limit: '8', memory: 32Gi, memory_limit: 64Gi, hours: 48, retries: 5}\n"
        "  extract_frames: {cpu: 500m}\n"
    )
    spot = "cloud.google.com/gke-spot"
    for step, count in (("train", "4"), ("evaluate", "1")):
        assert compiled.asked(step)["accelerator"]["resourceCount"] == count
        place = compiled.placed(step)
        assert place["nodeSelector"]["labels"] == {"pool": "a100", "zone": "b", spot: "true"}
        assert place["tolerations"][1] == {"key": spot, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        assert place["emptyDirMounts"][0]["sizeLimit"] == "8Gi"
    for step in STEPS:
        assert [secret["secretName"] for secret in compiled.placed(step)["imagePullSecret"]] == ["registry"]
        assert "securityContext" not in compiled.placed(step)
    asked = compiled.asked("train")
    assert (asked["resourceCpuRequest"], asked["resourceCpuLimit"]) == ("8", "8")
    assert (asked["resourceMemoryRequest"], asked["resourceMemoryLimit"]) == ("32Gi", "64Gi")
    assert compiled.placed("train")["activeDeadlineSeconds"] == str(48 * 3600)
    assert compiled.tasks()["train"]["retryPolicy"]["maxRetryCount"] == 5
    assert compiled.asked("extract-frames")["resourceCpuRequest"] == "500m"
    config = compiled.kubernetes["pipelineConfig"]
    assert (config["activeDeadlineSeconds"], config["resourceTtlOnCompletion"]) == (86400, 43200)
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "filestore"}
    assert config["workspace"] == {"size": "100Gi", "kubernetes": {"pvcSpecPatch": claim}}


def test_a_cluster_may_do_without_a_volume(compile_with):
    compiled = compile_with("workspace: ''\n")
    assert "workspace" not in compiled.kubernetes["pipelineConfig"]
    assert compiled.tasks()["train"]["inputs"]["parameters"]["work"] == {"runtimeValue": {"constant": ""}}


def test_a_training_is_given_the_id_of_its_run_by_its_pod(compiled):
    # SetPodMetadataLabels of kubeflow/pipelines, backend/src/apiserver/template/argo_template.go
    (entry,) = compiled.placed("train")["fieldPathAsEnv"]
    assert entry == {"name": "AI_VS_REAL_PIPELINE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}


def test_a_training_is_given_the_digest_and_the_images_of_its_pipeline(compile_with, tmp_path):
    compiled = compile_with("registry: host/team\ntag: abc\n")
    environment = {
        name: {entry["name"]: entry["value"] for entry in executor["container"].get("env", [])}
        for name, executor in compiled.specification["deploymentSpec"]["executors"].items()
    }
    assert {name for name, variables in environment.items() if variables} == {"exec-train"}
    images = "host/team/ai-vs-real-media-python:abc,host/team/ai-vs-real-training-python:abc"
    assert environment["exec-train"]["AI_VS_REAL_PIPELINE_IMAGES"].startswith(images)
    (manifest,) = (path for path in compile_manifests(tmp_path / "gitops") if "training" in path.name)
    digest = digest_of(tmp_path / "gitops" / "training.yaml")
    for path in (manifest, tmp_path / "gitops" / "training.yaml"):
        assert f"value: {digest}" in path.read_text()
    assert digest == digest_of(COMPILED / "training.yaml")


def test_scoring_asks_for_no_volume():
    assert "workspace" not in Compiled(COMPILED / "scoring.yaml").kubernetes["pipelineConfig"]


def test_images_come_from_where_the_cluster_says(compile_with, monkeypatch, tmp_path):
    def images(compiled):
        executors = compiled.specification["deploymentSpec"]["executors"].values()
        return {executor["container"]["image"] for executor in executors}

    assert images(Compiled(COMPILED / "training.yaml")) == {
        f"ai-vs-real-{name}-python:{VERSION}" for name in ("media", "training", "registration")
    }
    moved = images(compile_with("registry: host:5000/team\ntag: abc\n"))
    assert "host:5000/team/ai-vs-real-training-python:abc" in moved
    entry = {"name": "ai-vs-real-training-python", "newName": "there/ai-vs-real-training-python", "newTag": "7"}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"kind": "Component", "images": [entry]}))
    (tmp_path / "cluster.yaml").write_text("images: images.yaml\n")
    here = cluster_for(tmp_path / "cluster.yaml")
    assert here.image("ai-vs-real-training-python:1") == "there/ai-vs-real-training-python:7"
    assert here.image("postgres:17") == "postgres:17"
    monkeypatch.setenv("AI_VS_REAL_REGISTRY", "elsewhere/")
    monkeypatch.setenv("AI_VS_REAL_TAG", "commit")
    here = cluster_for(tmp_path / "cluster.yaml")
    assert here.image("ai-vs-real-training-python") == "elsewhere/ai-vs-real-training-python:commit"
    with pytest.raises(InputError, match="which the cluster file names, is no kustomization"):
        Cluster(images="nowhere").image("ai-vs-real-media-python")


def test_tracing_for_one_cluster_leaves_the_others_as_they_are(compile_with):
    before = (COMPILED / "training.yaml").read_bytes()
    compile_with("accelerators: 4\n")
    assert compile_with("").asked("train")["accelerator"]["resourceCount"] == "1"
    assert (COMPILED / "training.yaml").read_bytes() == before


def test_a_cluster_without_gpu_asks_for_none(compiled, compile_with):
    without = compile_with("accelerators: 0\n")
    assert all("accelerator" not in without.asked(step) for step in STEPS)
    assert "tolerations" not in without.placed("train")
    assert without.specification["components"] == compiled.specification["components"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpus: 1", "sets 'gpus'; it may set registry, tag, images, jobs, accelerator, accelerators"),
        ("accelerators: one", "sets accelerators to 'one'; it takes <class 'int'>, such as 1"),
        ("steps: {trian: {cpu: '1'}}", "names the step 'trian'; the steps are list_media"),
        ("steps: {train: {cores: 1}}", "step train sets 'cores'; it may set cpu"),
        ("steps: {train: {cpu: 1}}", "step train sets cpu to 1; it takes <class 'str'>, such as '2'"),
        ("- a", "is no mapping of settings"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_cluster_file_that_says_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cluster file .*cluster\.yaml") as caught:
        Cluster.read(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
