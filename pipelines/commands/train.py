"""`ai-vs-real train`: the third stage alone, from a dataset to a detector."""

import argparse
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.home import run_home
from components.outputs import DETECTOR, claim, claim_page
from components.settings import names_of
from pipelines.commands.options import add_pipeline_options, stage_arguments
from pipelines.commands.quiet import import_keras


def add_parser(commands: Any) -> None:
    """Add the command `train`."""
    command = commands.add_parser("train", description=run.__doc__)
    command.add_argument(
        "dataset", type=Path, metavar="DATASET", help="dataset, or a plain {train,val,test}/{real,fake} tree"
    )
    command.add_argument("--output", type=Path, metavar="DIR", help="directory of the detector (HOME/model)")
    command.add_argument("--overwrite", action="store_true", help="replace the detector that is there")
    add_pipeline_options(command, (*names_of("train"), *names_of("extract")))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train a detector in two phases on a dataset, or on a plain labelled tree, which is made a dataset first."""
    wanted = stage_arguments(options, "train")
    import_keras()
    from components.training import workers
    from components.training.train import train

    worker = workers.place()
    dataset = options.dataset
    overwrite = options.overwrite or options.output is None  # in the run home all is ours
    output = options.output or run_home() / "model"
    if worker.chief:
        claim(output, DETECTOR, overwrite=overwrite, inputs=[dataset])
        claim_page(output.with_suffix(".html"), overwrite=overwrite)
    if worker.count > 1 and not (dataset / "dataset.json").is_file():
        raise InputError(f"{dataset} is no dataset; make it with ai-vs-real preprocess before several workers train")
    if not (dataset / "dataset.json").is_file():
        dataset = _dataset_of_tree(options, wanted["seed"])
    page = dataset.with_suffix(".html")  # where the command preprocess writes it
    train(dataset, output, report=output.with_suffix(".html"), data_page=page if page.is_file() else None, **wanted)
    if worker.chief:
        print(output)


def _dataset_of_tree(options: argparse.Namespace, seed: int) -> Path:
    from components.extraction.extract import extract
    from components.preprocessing.preprocess import preprocess

    frames, dataset = run_home() / "frames", run_home() / "dataset"
    extract(str(options.dataset), frames, **stage_arguments(options, "extract"))
    preprocess([frames], dataset, report=dataset.with_suffix(".html"), seed=seed)
    return dataset
