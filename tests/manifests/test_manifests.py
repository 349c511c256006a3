"""Every kustomization renders, passes the strict schemas of several Kubernetes versions and a policy for every pod."""

import json
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_server import kubectl

from components.containers import VERSION

ROOT = Path(__file__).resolve().parents[2] / "manifests"
VERSIONS = ("1.30", "1.36")
TARGETS = sorted(
    str(path.parent.relative_to(ROOT))
    for path in ROOT.rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization" and path.parent.name not in ("config", "doctor")
)
RENDERED: dict[str, list[dict]] = {}
KUBECTL = kubectl()
pytestmark = pytest.mark.skipif(
    KUBECTL is None, reason="needs kubectl to render kustomizations, on the path or by make kubernetes"
)


def rendered(target):
    """Return the objects of a kustomization, as kubectl renders them."""
    if target not in RENDERED:
        command = [KUBECTL, "kustomize", str(ROOT / target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        RENDERED[target] = list(yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return RENDERED[target]


def pods(target):
    """Yield every pod template of a kustomization with the name of what makes it and its kind."""
    for thing in rendered(target):
        spec = thing.get("spec", {})
        if thing["kind"] == "InferenceService":
            yield f"{thing['kind']}/{thing['metadata']['name']}", {"spec": spec["predictor"]}
        if thing["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if thing["kind"] == "TrainingRuntime":
            [spec] = [job["template"]["spec"] for job in spec["template"]["spec"]["replicatedJobs"]]
        if "template" in spec:
            yield f"{thing['kind']}/{thing['metadata']['name']}", spec["template"]


def kinds(target):
    found = {}
    for thing in rendered(target):
        found.setdefault(thing["kind"], set()).add(thing["metadata"]["name"])
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_everything_passes_the_strict_schema(target, version):
    for thing in rendered(target):
        # Their schemas come with KServe and with Kubeflow Trainer; the latter's is tried on a real API server.
        if not {"serving.kserve.io", "trainer.kubeflow.org"} & {thing["apiVersion"].partition("/")[0]}:
            kubernetes_validate.validate(thing, version, strict=True)


def test_a_field_with_a_typo_is_not_passed():
    [job] = [thing for thing in rendered("jobs/train") if thing["kind"] == "Job"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**job, "spec": {**job["spec"], "backofLimit": 4}}, VERSIONS[0], strict=True)


@pytest.mark.parametrize("target", TARGETS)
def test_every_pod_passes_the_restricted_standard(target):
    for name, template in pods(target):
        pod = template["spec"]
        own = pod["securityContext"]
        assert own["runAsNonRoot"] is True, name
        assert own["runAsUser"] > 0, name
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        allowed = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "secret", "projected", "downwardAPI"}
        for volume in pod.get("volumes", ()):
            assert set(volume) - {"name"} <= allowed, name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert not {"privileged", "procMount"} & set(context), name
            assert all("hostPort" not in port for port in container.get("ports", ())), name


def containers(pod):
    return [*pod["containers"], *pod.get("initContainers", ())]


@pytest.mark.parametrize("target", TARGETS)
def test_every_container_has_an_immutable_image_requests_and_limits(target):
    for name, template in pods(target):
        for container in containers(template["spec"]):
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert re.match(r"\d+\.\d+", tag), f"{name}: {container['image']}"
            if "ai-vs-real" in container["image"]:
                assert tag == VERSION, f"{name}: {container['image']} is not of this version"
            for part in ("requests", "limits"):
                assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][part]), name


@pytest.mark.parametrize("target", TARGETS)
def test_services_have_probes_and_jobs_have_ends(target):
    for thing in rendered(target):
        name = f"{thing['kind']}/{thing['metadata']['name']}"
        if thing["kind"] in ("Deployment", "StatefulSet"):
            for container in thing["spec"]["template"]["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
        if thing["kind"] in ("Job", "CronJob"):
            spec = thing["spec"] if thing["kind"] == "Job" else thing["spec"]["jobTemplate"]["spec"]
            assert {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"} <= set(spec), name
            assert spec["template"]["spec"]["restartPolicy"] == "Never", name


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_has_its_value_here(target):
    assert "Secret" not in kinds(target)
    for name, template in pods(target):
        assert template["spec"]["automountServiceAccountToken"] is False, name
        for container in containers(template["spec"]):
            for variable in container.get("env", ()):
                if re.search("PASSWORD|TOKEN|MONGODB_URI", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "overlays/kubeflow"])
def test_everything_lies_in_our_namespace(target):
    without = {"Namespace", "PriorityClass", "ClusterRole"}
    for thing in rendered(target):
        if thing["kind"] not in without:
            assert thing["metadata"]["namespace"] == "ai-vs-real", thing["metadata"]["name"]


def test_the_kinds_are_those_that_are_expected():
    base = kinds("base")
    assert set(base) == {
        *("ClusterRole", "ConfigMap", "LimitRange", "Namespace", "NetworkPolicy", "PersistentVolumeClaim"),
        *("PriorityClass", "ResourceQuota", "Role", "RoleBinding", "ServiceAccount"),
    }
    mongodb = kinds("third-party/mongodb")
    assert set(mongodb) == {
        *("ConfigMap", "CronJob", "NetworkPolicy", "PersistentVolumeClaim", "Service", "ServiceAccount", "StatefulSet"),
    }
    mlflow = kinds("third-party/mlflow")
    assert (mlflow["Deployment"], mlflow["StatefulSet"]) == ({"mlflow"}, {"mlflow-postgresql"})
    parts = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
    assert kinds("base/serving") == {"NetworkPolicy": {"serving"}} | {part: {"ai-vs-real-serving"} for part in parts}
    assert kinds("overlays/kserve") == {"InferenceService": {"ai-vs-real"}}
    for name in ("prepare", "train", "score"):
        assert kinds(f"jobs/{name}") == {"ConfigMap": {f"ai-vs-real-{name}"}, "Job": {f"ai-vs-real-{name}"}}
    for place in ("local", "gke"):
        assert set(kinds(f"overlays/{place}")) == {*base, *mongodb, *mlflow}


def test_the_gpu_is_for_the_training_job_alone():
    for target in TARGETS:
        for name, template in pods(target):
            [container] = template["spec"]["containers"]
            asked = container["resources"]["limits"].get("nvidia.com/gpu")
            training = name.endswith("/ai-vs-real-train") and not target.startswith("overlays/local")
            assert asked == ("1" if training else None), f"{target}: {name}"
            assert bool(template["spec"].get("tolerations")) == training, f"{target}: {name}"


def workers_of(template, monkeypatch):
    """Return the addresses that a pod's TF_CONFIG names, as training reads it in each of the pods."""
    from components.training import workers

    [container] = template["spec"]["containers"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    hosts = json.loads(environment["TF_CONFIG"].replace("$(WORKER)", "0"))["cluster"]["worker"]
    assert list(environment).index("WORKER") < list(environment).index("TF_CONFIG")  # or it would not be put in
    for index in range(len(hosts)):
        monkeypatch.setenv("TF_CONFIG", environment["TF_CONFIG"].replace("$(WORKER)", str(index)))
        assert workers.place() == workers.Workers(len(hosts), index)
    return hosts


@pytest.mark.parametrize("place", ["local", "gke"])
def test_the_workers_of_the_job_are_the_addresses_that_they_are_given(place, monkeypatch):
    [service, job] = (
        next(thing for thing in rendered(f"overlays/{place}/jobs/train-workers") if thing["kind"] == kind)
        for kind in ("Service", "Job")
    )
    template = job["spec"]["template"]
    hosts = workers_of(template, monkeypatch)
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == len(hosts)
    name, subdomain = job["metadata"]["name"], template["spec"]["subdomain"]
    assert hosts == [f"{name}-{index}.{subdomain}:2222" for index in range(len(hosts))]
    assert service["metadata"]["name"] == subdomain
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_the_workers_of_the_trainjob_are_the_addresses_that_they_are_given(monkeypatch):
    """As JobSet names pods, under a subdomain of its own name: trainer's pkg/runtime/framework/plugins/jobset."""
    [job, runtime] = (
        next(thing for thing in rendered("overlays/trainer") if thing["kind"] == kind)
        for kind in ("TrainJob", "TrainingRuntime")
    )
    [replicated] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    template = replicated["template"]["spec"]["template"]
    [container] = template["spec"]["containers"]
    given = {"spec": {"containers": [{**container, "env": [*container["env"], *job["spec"]["trainer"]["env"]]}]}}
    hosts = workers_of(given, monkeypatch)
    name = job["metadata"]["name"]
    assert hosts == [f"{name}-{replicated['name']}-0-{index}.{name}:2222" for index in range(len(hosts))]
    assert job["spec"]["trainer"]["numNodes"] == len(hosts)
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    [(_, own)] = pods("overlays/gke/jobs/train")
    ours = own["spec"]["containers"][0]
    assert container == {**ours, "name": "node", "ports": container["ports"]}


def test_the_gpu_pool_of_kubectl_and_of_the_pipeline_is_the_same():
    from pipelines.steps.resources import SPOT, Cluster

    here = Cluster.read(ROOT / "overlays" / "gke" / "cluster.yaml")
    [(_, template)] = pods("overlays/gke/jobs/train")
    assert template["spec"]["nodeSelector"] == {**here.gpu_nodes, SPOT: "true"}
    assert [toleration["key"] for toleration in template["spec"]["tolerations"]] == [here.accelerator, SPOT]
    local = Cluster.read(ROOT / "overlays" / "local" / "cluster.yaml")
    assert local.accelerators == 0


def test_tags_stand_in_one_place():
    """In the images: entry that every kustomization takes; no manifest names one."""
    for path in ROOT.rglob("*.yaml"):
        for image in re.findall(r"^\s*(?:- )?image: (\S+)", path.read_text(), re.MULTILINE):
            assert ":" not in image, f"{path}: {image}"
    entry = yaml.safe_load((ROOT / "images" / "kustomization.yaml").read_text())["images"]
    assert {item["newTag"] for item in entry if item["name"].startswith("ai-vs-real-")} == {VERSION}


@pytest.mark.parametrize("name", ["prepare", "train", "score"])
def test_job_and_kubectl_take_image_and_volume_from_one_place(name):
    from pipelines.cluster.jobs import manifests

    _, job = manifests(name, cluster_file=ROOT / "overlays" / "gke" / "cluster.yaml")
    [(_, template)] = pods(f"overlays/gke/jobs/{name}")
    own = job["spec"]["template"]
    assert own["spec"]["containers"][0]["image"] == template["spec"]["containers"][0]["image"]
    assert own["spec"]["containers"][0]["image"].startswith("registry.example/")
    assert own["spec"]["volumes"] == template["spec"]["volumes"]
    assert own["metadata"]["annotations"] == template["metadata"]["annotations"]
    assert own["spec"].get("nodeSelector") == template["spec"].get("nodeSelector")
    assert own["spec"].get("tolerations") == template["spec"].get("tolerations")


def test_what_a_pod_reads_is_declared_somewhere():
    """Names of accounts, volumes, config maps, priorities: each is made by a kustomization, or is a secret by hand."""
    made = {"ServiceAccount": set(), "ConfigMap": set(), "PersistentVolumeClaim": set(), "PriorityClass": set()}
    everywhere = [target for target in TARGETS if target == "overlays/local" or target.startswith("jobs/")]
    for target in everywhere:
        for kind, names in kinds(target).items():
            made.setdefault(kind, set()).update(names)
    by_hand = {"ai-vs-real-mlflow", "ai-vs-real-mongodb", "mongodb", "mlflow-postgresql"}
    for target in everywhere:
        for name, template in pods(target):
            pod = template["spec"]
            assert pod["serviceAccountName"] in made["ServiceAccount"], name
            assert pod.get("priorityClassName", "ai-vs-real-training") in made["PriorityClass"], name
            for volume in pod.get("volumes", ()):
                if "persistentVolumeClaim" in volume:
                    assert volume["persistentVolumeClaim"]["claimName"] in made["PersistentVolumeClaim"], name
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in made["ConfigMap"], name
            for container in containers(pod):
                sources = [
                    *container.get("envFrom", ()),
                    *(item.get("valueFrom", {}) for item in container.get("env", ())),
                ]
                for source in sources:
                    for kind, reference in source.items():
                        known = by_hand if "secret" in kind.lower() else made["ConfigMap"]
                        assert reference["name"] in known, f"{target}: {name} reads {reference['name']}"


def test_every_pod_may_reach_what_it_needs_and_no_more():
    """Under the default denial: who may open a connection to whom, read from the policies."""
    things = rendered("overlays/gke")
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in things if thing["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def reachable(policy):
        return {port["port"] for rule in policies[policy].get("ingress", ()) for port in rule["ports"]}

    assert reachable("mongodb") == {27017}
    assert reachable("mlflow") == {5000}
    assert reachable("mlflow-postgresql") == {5432}
    [entry] = policies["mlflow-postgresql"]["ingress"]
    assert entry["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "mlflow"}}}]
    for policy in ("mongodb", "mlflow-postgresql"):
        assert policies[policy]["egress"] == []


def test_the_jobs_call_commands_that_are_there():
    from pipelines.commands.main import parse

    for name in ("prepare", "train", "score"):
        parameters, job = rendered(f"jobs/{name}")
        [container] = job["spec"]["template"]["spec"]["containers"]
        script = " ".join(container["args"]).replace("\\\n", " ").replace("${JOB_COMPLETION_INDEX:-0}", "0")
        for key, value in parameters["data"].items():
            script = re.sub(rf"\${key}\b", value or "''", script)
        assert "$" not in script, script
        commands = [line.split("ai-vs-real", 1)[1] for line in script.splitlines() if "ai-vs-real" in line]
        assert commands
        for command in commands:
            words = [word.strip("\"'") for word in command.split()]
            parse(words)
