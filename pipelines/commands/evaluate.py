"""`ai-vs-real evaluate`: the fourth stage alone, which judges a detector."""

import argparse
from pathlib import Path
from typing import Any

from components.home import run_home
from pipelines.commands.options import EVALUATION, add_pipeline_options, stage_arguments
from pipelines.commands.quiet import import_keras


def add_parser(commands: Any) -> None:
    """Add the command `evaluate`."""
    command = commands.add_parser("evaluate", description=run.__doc__)
    command.add_argument("model", type=Path, help="a detector that train wrote")
    command.add_argument("dataset", type=Path, help="a dataset; its test split is used")
    command.add_argument("--output", type=Path, help="directory of evaluation.json and report.html (HOME/evaluation)")
    command.add_argument("--no-champion", action="store_true", help="do not score the champion on the same rows")
    command.add_argument("--json", action="store_true", help="the evaluation as JSON on standard output")
    add_pipeline_options(command, EVALUATION)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Judge a detector on a dataset's test split, beside the champion on the same rows."""
    import_keras()
    from components.evaluation.evaluate import evaluate_against
    from components.registration.register import find_champion

    output = options.output or run_home() / "evaluation"
    output.mkdir(parents=True, exist_ok=True)
    name, conditions, cross_source = stage_arguments(options, *EVALUATION).values()
    champion = "" if options.no_champion else find_champion(options.model, name)
    path, report = output / "evaluation.json", output / "report.html"
    judging = {"test_degradations": conditions, "leave_one_out": cross_source}
    evaluate_against(champion, name, options.dataset, options.model, path, report, **judging)
    print(path.read_text() if options.json else path)
