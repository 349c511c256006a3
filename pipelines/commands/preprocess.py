"""`ai-vs-real preprocess`: the second stage alone, from views to a dataset."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from components.outputs import claim_page
from components.settings import names_of
from pipelines.commands.options import add_pipeline_options, stage_arguments


def add_parser(commands: Any) -> None:
    """Add the command `preprocess`."""
    command = commands.add_parser("preprocess", description=run.__doc__)
    command.add_argument("frames", nargs="+", type=Path, metavar="FRAMES", help="directories that extract wrote")
    command.add_argument("--output", type=Path, metavar="DIR", help="directory of the dataset (HOME/dataset)")
    command.add_argument("--overwrite", action="store_true", help="replace the dataset that is there")
    add_pipeline_options(command, names_of("preprocess"))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Join frames, drop duplicates and unreadable files, balance, split by group, audit; write dataset and page."""
    from components.preprocessing.preprocess import preprocess

    overwrite = options.overwrite or options.output is None  # in the run home all is ours
    output = options.output or run_home() / "dataset"
    claim_page(output.with_suffix(".html"), overwrite=overwrite)
    arguments = stage_arguments(options, "preprocess")
    preprocess(options.frames, output, report=output.with_suffix(".html"), overwrite=overwrite, **arguments)
    print(output)
