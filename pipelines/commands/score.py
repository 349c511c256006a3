"""`ai-vs-real score`: the champion's verdict on every file of a directory."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from components.settings import DEFAULTS


def add_parser(commands: Any) -> None:
    """Add the command `score`."""
    command = commands.add_parser("score", description=run.__doc__)
    command.add_argument("media", metavar="MEDIA", help="a directory of pictures and videos, or one file")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="the answers, a line of JSON each (HOME/verdicts.jsonl)"
    )
    command.add_argument(
        "--model-name", default=DEFAULTS["model_name"], metavar="NAME", help="in the registry (%(default)s)"
    )
    command.add_argument("--version", default="", metavar="VERSION", help="in the registry (the champion)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the champion's verdict on every picture and video below a directory."""
    from components.prediction.verdict import check_media

    output = options.output or run_home() / "verdicts.jsonl"
    check_media(options.media, options.model_name, options.version, output)
    print(output)
