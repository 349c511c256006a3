"""`ai-vs-real check`: the champion's verdict on files."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.settings import DEFAULTS
from pipelines.commands.quiet import import_keras


def add_parser(commands: Any) -> None:
    """Add the command `check`."""
    command = commands.add_parser("check", description=run.__doc__)
    command.add_argument("files", nargs="+", metavar="FILE", help="pictures and videos")
    command.add_argument("--model", type=Path, metavar="DIR", help="a detector's directory, in place of the champion")
    command.add_argument(
        "--model-name", default=DEFAULTS["model_name"], metavar="NAME", help="in the registry (%(default)s)"
    )
    command.add_argument(
        "--delivery-test", action="store_true", help="ask again recompressed, at half scale and cropped"
    )
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask the champion about pictures and videos: verdict, probability of fake, model version."""
    from components import registry
    from components.detector import read_card
    from components.prediction.verdict import check

    version = ""
    detector = options.model
    if detector is None:
        champion = registry.find(options.model_name)
        if champion is None:
            raise InputError(
                f"there is no champion of {options.model_name!r}; make one with ai-vs-real run, or use --model"
            )
        version = champion.version
        detector = registry.fetch(champion)
    note = read_card(detector).get("note", "")
    import_keras()
    if note:
        print(f"Of the media that this detector was trained on: {note}", file=sys.stderr)
    answers = []
    for answer in check(options.files, detector, version=version, delivery_test=options.delivery_test):
        answers.append(answer)
        if not options.json:
            print(_in_words(answer), flush=True)
    if options.json:
        print(json.dumps({"model_version": version, "note": note, "answers": answers}, indent=1))
    return 2 if any(answer.get("error") for answer in answers) else 0


def _in_words(answer: dict[str, Any]) -> str:
    if answer.get("error"):
        return f"{answer['path']}: cannot be read: {answer['error']}"
    text = f"{answer['path']}: {answer['verdict']}  (probability of fake {answer['probability']:.2f})"
    return f"{text}  {answer['reason']}".rstrip()
