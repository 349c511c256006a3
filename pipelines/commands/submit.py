"""Sends a pipeline to a Kubeflow Pipelines server, and waits for what becomes of it."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import InputError
from pipelines.commands.options import add_pipeline_options, pipeline_arguments

if TYPE_CHECKING:
    from pipelines.cluster.kubeflow import Server
    from pipelines.cluster.kubernetes_api import Kubernetes


def add_server_options(command: argparse.ArgumentParser) -> None:
    """Add the options by which a Kubeflow Pipelines server is reached."""
    options = command.add_argument_group(
        "server", "secrets come from KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIES or a file, never from an option"
    )
    options.add_argument("--host", default="", metavar="URL", help="(KF_PIPELINES_ENDPOINT, else this cluster)")
    options.add_argument("--namespace", default="", help="of a multi-user installation")
    options.add_argument("--token-file", type=Path, metavar="FILE", help="holds a bearer token")
    options.add_argument("--iap-client", default="", metavar="ID", help="OAuth client of Identity-Aware Proxy")
    options.add_argument("--authority", default="", metavar="FILE", help="certificate authority of the server")
    options.add_argument("--page", default="", metavar="URL", help="of the web page, where it is not the host's")


def server_of(options: argparse.Namespace) -> "Server":
    """Return the server that `add_server_options` took; secrets come from the environment or a file.

    Raises:
        InputError: The token file cannot be read.
    """
    from pipelines.cluster.kubeflow import COOKIES, TOKEN, Server

    token = os.environ.get(TOKEN, "")
    if options.token_file:
        try:
            token = options.token_file.read_text().strip()
        except OSError as error:
            raise InputError(f"token file {options.token_file} cannot be read ({error.strerror})") from None
    host = options.host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
    rest = {"iap_client": options.iap_client, "authority": options.authority, "page": options.page}
    rest["context"] = options.context
    return Server(host, options.namespace, token, os.environ.get(COOKIES, ""), **rest)


def add_parser(commands: Any) -> None:
    """Add the command `submit`."""
    command = commands.add_parser("submit", description=_submit.__doc__)
    command.add_argument(
        "media", nargs="?", default="", metavar="MEDIA", help="gs://BUCKET/PREFIX, or a path that the pods see"
    )
    add_pipeline_options(command)
    command.add_argument(
        "--pipeline", type=Path, metavar="FILE", help="scoring, or another compiled pipeline; parameters by --set"
    )
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter by name")
    command.add_argument(
        "--cluster", type=Path, metavar="FILE", help="compile for the cluster that this YAML describes"
    )
    command.add_argument("--experiment", default="ai-vs-real", help="(%(default)s)")
    command.add_argument("--name", default="", help="of the run or schedule (pipeline and time)")
    command.add_argument("--root", default="", metavar="URI", help="where artifacts go (the server's own)")
    command.add_argument("--account", default="", help="service account of the pods (the server's own)")
    command.add_argument("--schedule", default="", metavar="CRON", help="run again and again, such as '0 3 * * 1'")
    command.add_argument("--wait", action="store_true", help="follow the run; the exit code is its outcome")
    command.add_argument("--run", default="", metavar="ID", dest="run_id", help="report on this run, and send nothing")
    command.add_argument("--interval", type=float, default=10.0, metavar="SECONDS", help="between looks (%(default)g)")
    command.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.add_argument(
        "--no-weights-check", action="store_true", help="the pods have weights that this machine does not see"
    )
    command.add_argument("--context", default="", help="of kubectl's configuration, to read pods and their events")
    add_server_options(command)
    command.set_defaults(run=_submit)


def _submit(options: argparse.Namespace) -> int:
    """Send the compiled training pipeline to Kubeflow Pipelines: upload, run or schedule, and wait for it if asked."""
    from pipelines.cluster.kubeflow import cron, send
    from pipelines.cluster.package import package_for

    server = server_of(options)
    if options.run_id:
        return _report(options, server)
    schedule = cron(options.schedule) if options.schedule else ""
    if schedule and options.wait:
        raise InputError("--wait follows one run, --schedule makes many; leave one of them out")
    with package_for(options.pipeline, options.cluster) as package:
        arguments = package.typed(_arguments(options))
        if options.pipeline is None:
            arguments = _checked(arguments, weights=not options.no_weights_check)
        default = package.name if schedule else f"{package.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        more = {"experiment": options.experiment, "name": options.name or default, "root": options.root}
        more |= {"schedule": schedule, "account": options.account}
        document: dict[str, Any] = {
            "host": server.place or "this cluster",
            "namespace": server.namespace,
            "pipeline": package.name,
        }
        document |= {"version": package.version, **more, "parameters": arguments}
        if options.dry_run:
            print(json.dumps({**document, "documents": package.path.read_text().split("\n---\n")}, indent=1))
            return 0
        document |= send(server, package, arguments, **more)
    if schedule:
        _print(options, document, f"scheduled {document['name']} at {schedule!r}, id {document['schedule_id']}")
        return 0
    print(document["link"], file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.wait:
        try:
            document |= _follow(options, server, document["run_id"], options.interval)
        except KeyboardInterrupt:
            print(f"no longer waiting; the run goes on: {document['link']}", file=sys.stderr)
            raise
    _print(options, document, _outcome(document))
    return 0 if document.get("state", "SUCCEEDED") == "SUCCEEDED" else 1


def _report(options: argparse.Namespace, server: "Server") -> int:
    document = {"run_id": options.run_id, "link": server.link(options.run_id), "name": options.run_id}
    document |= _follow(options, server, options.run_id, options.interval if options.wait else None)
    _print(options, document, _outcome(document))
    return 1 if options.wait and document["state"] != "SUCCEEDED" else 0


def _follow(options: argparse.Namespace, server: "Server", run_id: str, interval_s: float | None) -> dict[str, Any]:
    from pipelines.cluster.following import follow

    return follow(
        server.connect(),
        server.place,
        run_id,
        pods=server.pods,
        cluster=_cluster_once(options.context, server.pods),
        interval_s=interval_s,
        say=_say,
    )


def _cluster_once(context: str, namespace: str) -> "Callable[[], Kubernetes | None]":
    """Return what connects to the cluster at its first call; None from it where there is no cluster to ask."""
    reached: list[Kubernetes | None] = []

    def cluster() -> "Kubernetes | None":
        from pipelines.cluster.kubernetes_api import connect

        if not reached:
            try:
                reached.append(connect(context, namespace))
            except InputError:
                if context:
                    raise
                reached.append(None)
        return reached[0]

    return cluster


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    arguments = pipeline_arguments(options)
    if options.media:
        arguments["media"] = options.media
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--set {item!r} has no =; give --set NAME=VALUE")
        arguments[name] = value
    return arguments


def _checked(arguments: Mapping[str, Any], weights: bool) -> dict[str, Any]:
    from components.settings import SETTINGS, completed
    from pipelines.steps.validation import validate

    validate({name: value for name, value in arguments.items() if name in SETTINGS}, weights=weights)
    return completed(arguments)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def _print(options: argparse.Namespace, document: Mapping[str, Any], line: str) -> None:
    print(json.dumps(document, indent=1) if options.json else line)


def _outcome(document: Mapping[str, Any]) -> str:
    if "state" not in document:
        return f"submitted {document['name']}, run {document['run_id']}"
    lines = [f"{document['state'].lower()}{': ' + document['error'] if document['error'] else ''}"]
    lines += [f"  log of {cause['step']}: {cause['log']}" for cause in document["causes"] if cause["log"]]
    return "\n".join(lines)
