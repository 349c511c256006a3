"""`ai-vs-real extract`: the first stage alone, from media to views."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from components.settings import names_of
from pipelines.commands.options import add_pipeline_options, stage_arguments


def add_parser(commands: Any) -> None:
    """Add the command `extract`."""
    command = commands.add_parser("extract", description=run.__doc__)
    command.add_argument("media", metavar="MEDIA", help="labelled directory or list")
    command.add_argument("--output", type=Path, metavar="DIR", help="directory of the frames (HOME/frames)")
    command.add_argument("--overwrite", action="store_true", help="replace the dataset that is there")
    add_pipeline_options(command, names_of("extract"))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Extract the view of every picture and of sampled frames of every video."""
    from components.extraction.extract import extract

    overwrite = options.overwrite or options.output is None  # in the run home all is ours
    output = options.output or run_home() / "frames"
    extract(options.media, output, overwrite=overwrite, **stage_arguments(options, "extract"))
    print(output)
