"""A real Kubernetes API, and a stand-in of Kubeflow Pipelines, each on free ports."""

import threading
from pathlib import Path

import pytest
from kubeflow_server import Kubeflow
from kubernetes_server import GPU_TAINT, IMAGES, Kubernetes
from kubernetes_server import control_plane as control_plane  # a fixture

ROOT = Path(__file__).resolve().parents[2]


def serve(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubeflow():
    """A Kubeflow Pipelines server on a free port."""
    yield from serve(Kubeflow())


@pytest.fixture(scope="module")
def cluster(control_plane) -> Kubernetes:
    """A cluster of a small and a GPU pool with our manifests for a local place in it, and volumes to claim."""
    # The API server's own first: what the controllers make meanwhile is not to fail on a missing default.
    standard = {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    control_plane.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": standard,
            "provisioner": "kubernetes.io/no-provisioner",
        },
        *(volume(f"volume-{number}") for number in range(6)),
    )
    control_plane.kubectl("apply", "-k", ROOT / "manifests" / "overlays" / "local")
    if not control_plane.alive:
        control_plane.add_node("small-1", images=IMAGES)
        control_plane.add_node("gpu-1", gpu=1, taints=[GPU_TAINT], labels={"pool": "gpu"})
    return control_plane


def volume(name):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "standard",
            "hostPath": {"path": f"/volumes/{name}"},
        },
    }


@pytest.fixture
def context(cluster, tmp_path, monkeypatch):
    """Point kubectl's configuration at the cluster, with a service account's own token."""

    def as_(account="", namespace="ai-vs-real"):
        path = tmp_path / f"{account or 'admin'}.yaml"
        path.write_text(cluster.account(account, namespace) if account else cluster.config("admin"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        return path

    return as_


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A small compiled pipeline of two documents, with a parameter of every kind."""
    from kfp import compiler, dsl

    from pipelines.steps.resources import Cluster, pipeline, place

    @dsl.component(base_image="tiny-python:1", install_kfp_package=False)
    def train(media: str, epochs: int, rate: float, warm: bool, names: list, labels: dict) -> str:
        return media

    @pipeline("tiny", "One step.", resumes=True)
    def tiny(media: str, epochs: int = 1, rate: float = 0.5, warm: bool = False, names: list = [], labels: dict = {}):  # noqa: B006
        place(train(media=media, epochs=epochs, rate=rate, warm=warm, names=names, labels=labels), "train")

    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    compiler.Compiler().compile(tiny.on(Cluster()), str(path))
    return path
