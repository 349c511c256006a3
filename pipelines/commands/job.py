"""GPU runs on a cluster without Kubeflow: `ai-vs-real job`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.cluster.kubernetes_api import Kubernetes

NAMES = ("prepare", "train", "score")


def add_cluster_options(command: argparse.ArgumentParser) -> None:
    """Add the options by which a cluster is chosen."""
    command.add_argument("--context", default="", help="of kubectl's configuration (the current one)")
    command.add_argument("--namespace", default="ai-vs-real", help="(%(default)s)")


def add_parser(commands: Any) -> None:
    """Add the command `job` and its parts."""
    group = commands.add_parser("job", description="Start, follow and stop the jobs of manifests/jobs.")
    parts = group.add_subparsers(title="parts", metavar="PART", required=True)
    texts = {
        "prepare": "media on the volume to a dataset, on any node",
        "train": "a dataset on the volume to a judged and registered detector, on the GPU pool",
        "score": "the champion's verdict on every file below a directory of the volume",
    }
    for name, text in texts.items():
        command = parts.add_parser(name, help=text, description=text)
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the job")
        command.add_argument(
            "--cluster", type=Path, metavar="FILE", help="images, volume, GPU pool and resources in this YAML"
        )
        command.add_argument("--wait", action="store_true", help="follow it; the exit code is its outcome")
        command.add_argument("--dry-run", action="store_true", help="print the manifests, and apply nothing")
        command.set_defaults(run=_start, part=name)
        add_cluster_options(command)
    command = parts.add_parser("status", help="every job, its pod and what it waits for")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=_status)
    add_cluster_options(command)
    for name, function, text in (
        ("logs", _logs, "what a job prints, until it ends; the exit code is its outcome"),
        ("stop", _stop, "delete a job; what it wrote on the volume stays, and a new one goes on from there"),
    ):
        command = parts.add_parser(name, help=text, description=text)
        command.add_argument("part", nargs="?", choices=NAMES, default="train", help="(%(default)s)")
        if name == "stop":
            command.add_argument("--force", action="store_true", help="do not wait for a node that may be dead")
        command.set_defaults(run=function)
        add_cluster_options(command)


def _connect(options: argparse.Namespace) -> "Kubernetes":
    from pipelines.cluster.kubernetes_api import connect

    return connect(options.context, options.namespace)


def _start(options: argparse.Namespace) -> int:
    import yaml

    from pipelines.cluster import jobs

    wanted = jobs.manifests(options.part, options.set, options.cluster)
    if options.dry_run:
        print(yaml.safe_dump_all(wanted, sort_keys=False), end="")
        return 0
    cluster = _connect(options)
    name = jobs.start(cluster, wanted)
    print(f"started {name} in {cluster.namespace}; ai-vs-real job status, logs, stop", file=sys.stderr)
    return _follow(cluster, name) if options.wait else 0


def _follow(cluster: "Kubernetes", name: str) -> int:
    from pipelines.cluster import jobs

    ended = jobs.follow(cluster, name, lambda line: print(line, flush=True), jobs.INTERVAL_S)
    print(f"{name}: {ended['state']}{': ' + ended['reason'] if ended['reason'] else ''}", file=sys.stderr)
    return 0 if ended["state"] == "completed" else 1


def _status(options: argparse.Namespace) -> int:
    from pipelines.cluster import jobs

    described = jobs.status(_connect(options))
    if options.json:
        print(json.dumps(described, indent=1))
        return 0
    for job in described:
        rest = "  ".join(str(job[key]) for key in ("phase", "pod", "node", "reason") if job.get(key))
        print(f"{job['job']}  {job['state']}  {job['failed_attempts']} failed attempts  {rest}")
    if not described:
        print(f"no job in {options.namespace}; start one with ai-vs-real job train")
    return 0


def _logs(options: argparse.Namespace) -> int:
    return _follow(_connect(options), f"ai-vs-real-{options.part}")


def _stop(options: argparse.Namespace) -> int:
    from pipelines.cluster import jobs

    jobs.stop(_connect(options), f"ai-vs-real-{options.part}", force=options.force)
    print(f"stopped ai-vs-real-{options.part}", file=sys.stderr)
    return 0
