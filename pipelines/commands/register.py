"""`ai-vs-real register`: the fifth stage alone, the gate and the registry."""

import argparse
import json
from pathlib import Path
from typing import Any

from components.progress import printable
from components.settings import names_of
from pipelines.commands.options import add_pipeline_options, stage_arguments


def add_parser(commands: Any) -> None:
    """Add the command `register`."""
    command = commands.add_parser("register", description=run.__doc__)
    command.add_argument("model", type=Path, metavar="MODEL", help="a detector that train wrote")
    command.add_argument("evaluation", type=Path, metavar="EVALUATION", help="the evaluation.json that evaluate wrote")
    command.add_argument("--json", action="store_true", help="the decision as JSON on standard output")
    add_pipeline_options(command, names_of("register"))
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Register a detector and promote it if it beats the champion; the decision is recorded either way."""
    from components.registration.register import register

    decision = register(options.model, options.evaluation, **stage_arguments(options, "register"))
    if options.json:
        print(json.dumps(decision, indent=1))
    else:
        print(printable(f"{decision['decision']}: version {decision['version']}; {'; '.join(decision['reasons'])}"))
