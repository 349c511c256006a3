"""From the pipelines in Python to the YAML that runs, on a laptop and on a cluster alike."""

import contextlib
import hashlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.containers import VERSION

COMPILED = Path(__file__).resolve().parents[1] / "compiled"
TRAINING = COMPILED / "training.yaml"


def compile_pipelines(directory: Path = COMPILED) -> list[Path]:
    """Write the YAML of every pipeline; equal sources give equal bytes.

    The first line of each holds the package version and the digest of the lines below it.

    Args:
        directory: Where the files shall lie; each appears when it is whole.

    Returns:
        The files.
    """
    return [_write(pipeline, directory / f"{name}.yaml") for name, pipeline in _pipelines().items()]


def compile_manifests(directory: Path, namespace: str = "kubeflow") -> list[Path]:
    """Write every pipeline as Kubernetes manifests, a Pipeline and its PipelineVersion, for GitOps.

    The version's name holds the digest of the pipeline: a changed pipeline is a new version beside the old one.

    Args:
        directory: Where the files shall lie; each appears when it is whole.
        namespace: Where Kubeflow Pipelines keeps them.

    Returns:
        The files.
    """
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    written = []
    for compiled in compile_pipelines(directory):
        pipeline = _pipelines()[compiled.stem]
        version = f"{VERSION}-{digest_of(compiled)[:12]}"
        options = KubernetesManifestOptions(
            pipeline_name=pipeline.name,
            pipeline_version_name=f"{pipeline.name}-{version}",
            pipeline_version_display_name=version,
            namespace=namespace,
            include_pipeline_manifest=True,
        )
        manifest = {"kubernetes_manifest_format": True, "kubernetes_manifest_options": options}
        written.append(_write(pipeline, directory / f"{compiled.stem}-manifest.yaml", **manifest))
    return written


@contextlib.contextmanager
def compiled_for(cluster: Path | None) -> Iterator[None]:
    """Have the pipelines traced for the cluster that a file describes, and for the one before again afterwards."""
    from pipelines.steps import resources, scoring, training

    if cluster is None:
        yield
        return
    before = os.environ.get(resources.VARIABLE)
    os.environ[resources.VARIABLE] = str(cluster)
    try:
        importlib.reload(training)
        importlib.reload(scoring)
        yield
    finally:
        os.environ.pop(resources.VARIABLE)
        if before is not None:
            os.environ[resources.VARIABLE] = before
        importlib.reload(training)
        importlib.reload(scoring)


def digest_of(compiled: Path) -> str:
    """Return the digest that stands in the first line of a compiled file, the sha256 of the lines below it."""
    return compiled.read_text().splitlines()[0].rsplit(" ", 1)[1]


def _pipelines() -> dict[str, Any]:
    from pipelines.steps.scoring import scoring
    from pipelines.steps.training import training

    return {"training": training, "scoring": scoring}


def _write(pipeline: Any, path: Path, **options: Any) -> Path:
    from kfp import compiler

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    compiler.Compiler().compile(pipeline, str(part), **options)
    content = part.read_bytes()
    part.write_bytes(f"# ai-vs-real {VERSION} sha256 {hashlib.sha256(content).hexdigest()}\n".encode() + content)
    os.replace(part, path)
    return path
