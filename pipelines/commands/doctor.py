"""Says what a machine or a cluster is missing, before a run fails in its fifth step."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.commands.options import add_pipeline_options, pipeline_arguments
from pipelines.commands.submit import add_server_options, server_of

if TYPE_CHECKING:
    from pipelines.cluster.finding import Finding


def add_parser(commands: Any) -> None:
    """Add the command `doctor`."""
    command = commands.add_parser("doctor", description=_doctor.__doc__)
    command.add_argument("--kubernetes", action="store_true", help="look at the cluster that kubectl points at, too")
    command.add_argument("--pipeline", type=Path, metavar="FILE", help="compiled, whose needs count (the training one)")
    command.add_argument(
        "--cluster", type=Path, metavar="FILE", help="compile for the cluster in this YAML, and use that"
    )
    command.add_argument("--bucket", default="", metavar="URI", help="gs://NAME/PREFIX that runs shall write to")
    command.add_argument("--context", default="", help="of kubectl's configuration (the current one)")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    add_pipeline_options(command)
    add_server_options(command)
    command.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Look at what a run will need: what is there, what is needed, and how to fix it.

    Exit code 0 if every check passed, 1 if one failed, 3 if none failed but something could not be looked at.
    """
    findings = []
    for finding in _look(options):
        findings.append(finding)
        if not options.json:
            print(finding, flush=True)
    failed = sum(finding.ok is False for finding in findings)
    unknown = sum(finding.ok is None for finding in findings)
    if options.json:
        document = {"ok": not failed and not unknown, "failed": failed, "unknown": unknown}
        print(json.dumps({**document, "findings": [dataclasses.asdict(item) for item in findings]}, indent=1))
    elif failed or unknown:
        parts = [f"{failed} failed"] * bool(failed) + [f"{unknown} could not be looked at"] * bool(unknown)
        print(f"Of {len(findings)} checks, {' and '.join(parts)}")
    else:
        print(f"All {len(findings)} checks passed")
    return 1 if failed else 3 if unknown else 0


def _look(options: argparse.Namespace) -> "Iterator[Finding]":
    from pipelines.cluster import fitness, services
    from pipelines.cluster.kubernetes_api import connect
    from pipelines.cluster.package import package_for

    yield from services.machine()
    yield services.settings(pipeline_arguments(options))
    if options.bucket:
        yield services.in_time("bucket", lambda: services.bucket(options.bucket))
    server = server_of(options)
    if server.host:
        yield services.kubeflow(server)
    if options.kubernetes:
        with package_for(options.pipeline, options.cluster) as package:
            kubernetes = connect(options.context, server.pods)
            volume = fitness.workspace(package.path)
            yield from fitness.cluster(kubernetes, fitness.needs(package.path), volume)
