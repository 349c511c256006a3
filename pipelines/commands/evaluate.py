"""`ai-vs-real evaluate`: the fourth stage alone, which judges a detector."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from components.outputs import EVALUATION, claim
from components.settings import names_of
from pipelines.commands.options import add_pipeline_options, stage_arguments
from pipelines.commands.quiet import import_keras


def add_parser(commands: Any) -> None:
    """Add the command `evaluate`."""
    command = commands.add_parser("evaluate", description=run.__doc__)
    command.add_argument("model", type=Path, metavar="MODEL", help="a detector that train wrote")
    command.add_argument("dataset", type=Path, metavar="DATASET", help="a dataset; its test split is used")
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="directory of evaluation.json and report.html (HOME/evaluation)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the evaluation that is there")
    command.add_argument("--no-champion", action="store_true", help="do not score the champion on the same rows")
    command.add_argument("--json", action="store_true", help="the evaluation as JSON on standard output")
    add_pipeline_options(command, names_of("evaluate"))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Judge a detector on a dataset's test split, beside the champion on the same rows."""
    wanted = stage_arguments(options, "evaluate")
    name = wanted["model_name"]
    from components.detector import Detector
    from components.evaluation.evaluate import evaluate_against
    from components.registration.register import find_champion

    overwrite = options.overwrite or options.output is None  # in the run home all is ours
    output = options.output or run_home() / "evaluation"
    claim(output, EVALUATION, overwrite=overwrite, inputs=[options.model, options.dataset])
    output.mkdir(parents=True, exist_ok=True)
    if wanted["cross_source"] or not Detector(options.model).exported:
        import_keras()
    champion = "" if options.no_champion else find_champion(options.model, name)
    path, report = output / "evaluation.json", output / "report.html"
    judging = {"test_degradations": wanted["test_degradations"], "leave_one_out": wanted["cross_source"]}
    judging |= {"families": wanted["families"], "last_component": wanted["last_component"]}
    evaluate_against(champion, name, options.dataset, options.model, str(path), str(report), **judging)
    print(path.read_text() if options.json else path)
