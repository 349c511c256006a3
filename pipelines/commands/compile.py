"""`ai-vs-real compile`: from the pipelines in Python to their YAML."""

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.steps.compiling import COMPILED, compile_manifests, compile_pipelines


def add_parser(commands: Any) -> None:
    """Add the command `compile`."""
    command = commands.add_parser("compile", description=run.__doc__)
    command.add_argument(
        "--output", type=Path, default=COMPILED, metavar="DIR", help="directory (the package's pipelines/compiled)"
    )
    command.add_argument("--cluster", type=Path, metavar="FILE", help="compile for the cluster in this YAML")
    command.add_argument("--manifests", action="store_true", help="also as Kubernetes manifests, for GitOps")
    command.add_argument("--namespace", default="kubeflow", metavar="NAME", help="of these manifests (%(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compile the pipelines to YAML; equal sources give equal bytes."""
    from pipelines.steps.resources import cluster_for

    here = cluster_for(options.cluster)
    written = compile_pipelines(options.output, here)
    written += compile_manifests(options.output, options.namespace, here) if options.manifests else []
    for path in written:
        print(os.path.relpath(path))
