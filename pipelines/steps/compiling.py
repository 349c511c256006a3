"""From the pipelines in Python to the YAML that runs, on a laptop and on a cluster alike."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.containers import VERSION

if TYPE_CHECKING:
    from pipelines.steps.resources import Cluster

COMPILED = Path(__file__).resolve().parents[1] / "compiled"
TRAINING = COMPILED / "training.yaml"


def compile_pipelines(directory: Path = COMPILED, cluster: "Cluster | None" = None) -> list[Path]:
    """Write the YAML of every pipeline, as a cluster needs it; equal sources give equal bytes.

    The first line of each holds the package version and the digest of the lines below it.

    Args:
        directory: Where the files shall lie; each appears when it is whole.
        cluster: The cluster to compile for; None for the defaults, which the YAML in the package is compiled with.

    Returns:
        The files.
    """
    return [_write(pipeline, directory / f"{name}.yaml") for name, pipeline in pipelines_on(cluster).items()]


def compile_manifests(directory: Path, namespace: str = "kubeflow", cluster: "Cluster | None" = None) -> list[Path]:
    """Write every pipeline as Kubernetes manifests, a Pipeline and its PipelineVersion, for GitOps.

    The version's name holds the digest of the pipeline: a changed pipeline is a new version beside the old one.

    Args:
        directory: Where the files shall lie; each appears when it is whole.
        namespace: Where Kubeflow Pipelines keeps them.
        cluster: The cluster to compile for; None for the defaults.

    Returns:
        The files.
    """
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    written = []
    pipelines = pipelines_on(cluster)
    for compiled in compile_pipelines(directory, cluster):
        pipeline = pipelines[compiled.stem]
        version = f"{VERSION}-{digest_of(compiled)[:12]}"
        options = KubernetesManifestOptions(
            pipeline_name=pipeline.name,
            pipeline_version_name=f"{pipeline.name}-{version}",
            pipeline_version_display_name=version,
            namespace=namespace,
            include_pipeline_manifest=True,
        )
        manifest = {"kubernetes_manifest_format": True, "kubernetes_manifest_options": options}
        written.append(_write(pipeline, directory / f"{compiled.stem}-manifest.yaml", digest_of(compiled), **manifest))
    return written


def digest_of(compiled: Path) -> str:
    """Return the digest that stands in the first line of a compiled file, the sha256 of the lines below it.

    Where these name the digest themselves, for a detector's card, `resources.OWN_DIGEST` stood when it was computed.
    """
    return compiled.read_text().splitlines()[0].rsplit(" ", 1)[1]


def pipelines_on(cluster: "Cluster | None" = None) -> dict[str, Any]:
    """Return every pipeline by the name of its file, traced for a cluster; None for the defaults."""
    from pipelines.steps.resources import Cluster
    from pipelines.steps.scoring import scoring
    from pipelines.steps.training import training

    here = cluster or Cluster()
    return {"training": training.on(here), "scoring": scoring.on(here)}


def _write(pipeline: Any, path: Path, named: str = "", **options: Any) -> Path:
    """Compile a pipeline to a file that names itself by its digest, or by that of another form of it."""
    from kfp import compiler

    from pipelines.steps.resources import OWN_DIGEST

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    compiler.Compiler().compile(pipeline, str(part), **options)
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    content = content.replace(OWN_DIGEST.encode(), (named or digest).encode())
    part.write_bytes(f"# ai-vs-real {VERSION} sha256 {digest}\n".encode() + content)
    os.replace(part, path)
    return path
