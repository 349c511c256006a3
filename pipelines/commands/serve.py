"""`ai-vs-real serve`: a page and an API that answer about pictures and videos."""

import argparse
import sys
from dataclasses import fields
from typing import Any

from components.errors import InputError
from components.home import run_home
from components.settings import DEFAULTS

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_parser(commands: Any) -> None:
    """Add the command `serve`."""
    from components.serving.bounds import KEYS_VARIABLE, Bounds

    default = {field.name: field.default for field in fields(Bounds)} | {"at_once": Bounds().at_once}
    command = commands.add_parser(
        "serve", description=run.__doc__, epilog=f"API keys, separated by commas, are taken from {KEYS_VARIABLE}."
    )
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (%(default)s)")
    command.add_argument("--port", type=int, default=8080, help="port to listen on; 0 for a free one (%(default)s)")
    model = command.add_argument_group("detector")
    model.add_argument(
        "--model", default="", metavar="MODEL", help="NAME@ALIAS, NAME/VERSION, a directory (the champion, watched)"
    )
    model.add_argument(
        "--model-name", default=DEFAULTS["model_name"], metavar="NAME", help="in the registry (%(default)s)"
    )
    model.add_argument(
        "--watch",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="between two looks for a new champion (%(default)g)",
    )
    bounds = command.add_argument_group("bounds")
    bounds.add_argument(
        "--max-megabytes", type=float, default=default["megabytes"], metavar="N", help="size of a file (%(default)g)"
    )
    bounds.add_argument(
        "--max-seconds",
        type=float,
        default=default["video_seconds"],
        metavar="N",
        help="duration of a video (%(default)g)",
    )
    bounds.add_argument(
        "--at-once", type=int, default=default["at_once"], metavar="N", help="files examined at a time (%(default)s)"
    )
    bounds.add_argument(
        "--queue", type=int, default=default["queued"], metavar="N", help="files that may wait; then 429 (%(default)s)"
    )
    bounds.add_argument(
        "--answer-seconds",
        type=float,
        default=default["answer_seconds"],
        metavar="N",
        help="for an answer (%(default)g)",
    )
    access = command.add_argument_group("access")
    access.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="a name under which it is called; any, unless on loopback",
    )
    access.add_argument("--allow-private-links", action="store_true", help="follow links to private addresses")
    access.add_argument("--no-review", action="store_true", help="keep no file whose verdict is called wrong")
    command.add_argument("--processes", type=int, default=1, metavar="N", help="processes that answer (%(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve a page and an API that answer about pictures and videos, with the champion of the registry."""
    try:
        from components.serving.start import Bounds, Options, serve
    except ImportError as error:
        raise InputError(f"{error.name} is missing; install ai-vs-real[serving]") from None
    for name in ("at_once", "processes", "max_megabytes", "max_seconds", "answer_seconds", "watch"):
        if getattr(options, name) <= 0:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(options, name):g}; it must be above 0")
    if options.queue < 0:
        raise InputError(f"--queue is {options.queue}; it must not be below 0")
    hosts = tuple(options.allowed_host or (LOOPBACK if options.host in LOOPBACK else ()))
    bounds = Bounds(
        megabytes=options.max_megabytes,
        video_seconds=options.max_seconds,
        at_once=options.at_once,
        queued=options.queue,
        answer_seconds=options.answer_seconds,
        private_links=options.allow_private_links,
    )
    served = Options(
        model=options.model,
        model_name=options.model_name,
        every_s=options.watch,
        home="" if options.no_review else str(run_home()),
        hosts=hosts,
        bounds=bounds,
    )
    if not hosts:
        print("Anyone who can reach this address may ask; set API keys where that is not meant.", file=sys.stderr)
    serve(served, options.host, options.port, options.processes)
