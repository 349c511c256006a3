"""`ai-vs-real preprocess`: the second stage alone, from views to a dataset."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from pipelines.commands.options import PREPROCESSING, add_pipeline_options, stage_arguments


def add_parser(commands: Any) -> None:
    """Add the command `preprocess`."""
    command = commands.add_parser("preprocess", description=run.__doc__)
    command.add_argument("frames", nargs="+", type=Path, help="directories that extract wrote")
    command.add_argument("--output", type=Path, help="directory of the dataset (HOME/dataset)")
    add_pipeline_options(command, PREPROCESSING)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Join frames, drop duplicates and unreadable files, balance, split by group, audit; write dataset and page."""
    from components.preprocessing.preprocess import preprocess

    output = options.output or run_home() / "dataset"
    arguments = stage_arguments(options, *PREPROCESSING)
    preprocess(options.frames, output, report=output.with_suffix(".html"), **arguments)
    print(output)
