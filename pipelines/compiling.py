"""From the pipelines in Python to the YAML that runs, on a laptop and on a cluster alike."""

import os
from pathlib import Path

COMPILED = Path(__file__).resolve().parent / "compiled"
TRAINING = COMPILED / "training.yaml"


def compile_pipelines(directory: Path = COMPILED) -> list[Path]:
    """Write the YAML of every pipeline; equal sources give equal bytes.

    Args:
        directory: Where the files shall lie; each appears when it is whole.

    Returns:
        The files.
    """
    from kfp import compiler

    from pipelines.training import training

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in (("training", training),):
        part = directory / f".{name}.yaml"
        compiler.Compiler().compile(pipeline, str(part))
        os.replace(part, directory / f"{name}.yaml")
        written.append(directory / f"{name}.yaml")
    return written
