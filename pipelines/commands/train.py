"""`ai-vs-real train`: the third stage alone, from a dataset to a detector."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from pipelines.commands.options import EXTRACTION, TRAINING, add_pipeline_options, stage_arguments
from pipelines.commands.quiet import import_keras


def add_parser(commands: Any) -> None:
    """Add the command `train`."""
    command = commands.add_parser("train", description=run.__doc__)
    command.add_argument("dataset", type=Path, help="a dataset, or a plain {train,val,test}/{real,fake} tree")
    command.add_argument("--output", type=Path, help="directory of the detector (HOME/model)")
    add_pipeline_options(command, (*TRAINING, *EXTRACTION))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train a detector in two phases on a dataset, or on a plain labelled tree, which is made a dataset first."""
    import_keras()
    from components.training.train import train

    dataset = options.dataset
    output = options.output or run_home() / "model"
    if not (dataset / "dataset.json").is_file():
        dataset = _dataset_of_tree(options)
    train(dataset, output, report=output.with_suffix(".html"), **stage_arguments(options, *TRAINING))
    print(output)


def _dataset_of_tree(options: argparse.Namespace) -> Path:
    from components.extraction.extract import extract
    from components.preprocessing.preprocess import preprocess

    frames, dataset = run_home() / "frames", run_home() / "dataset"
    extract(str(options.dataset), frames, **stage_arguments(options, *EXTRACTION))
    preprocess([frames], dataset, report=dataset.with_suffix(".html"), **stage_arguments(options, "seed"))
    return dataset
