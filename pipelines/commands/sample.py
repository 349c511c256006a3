"""`ai-vs-real sample`: the sample set, made by code."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command `sample`."""
    command = commands.add_parser("sample", description=run.__doc__)
    command.add_argument("directory", type=Path, metavar="DIR", help="directory to write")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the small labelled sample set, made by code."""
    from pipelines.local import sample

    print(sample.make(options.directory))
    print(sample.NOTE, file=sys.stderr)
