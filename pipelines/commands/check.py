"""`ai-vs-real check`: the verdict on pictures and videos."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.settings import DEFAULTS

EXIT_CODES = (
    "Exit codes: 0 every file got a verdict; 2 wrong input, nothing was judged; 3 with --fail-on, a file got one of "
    "these verdicts; 4 a file cannot be read, the others got their verdicts; 130 interrupted."
)
CHOICES = ("real", "fake", "unsure")


def add_parser(commands: Any) -> None:
    """Add the command `check`."""
    command = commands.add_parser("check", description=run.__doc__, epilog=EXIT_CODES)
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, videos, directories, patterns, links, gs://..., or - for one file",
    )
    command.add_argument(
        "--model",
        default="",
        metavar="MODEL",
        help="NAME, NAME@ALIAS, NAME/VERSION, a directory or models:/... (the champion)",
    )
    command.add_argument(
        "--model-name", default=DEFAULTS["model_name"], metavar="NAME", help="in the registry (%(default)s)"
    )
    command.add_argument(
        "--no-delivery-test", action="store_true", help="do not ask again recompressed, at half scale and cropped"
    )
    command.add_argument("--explain", type=Path, metavar="DIR", help="write a page for each file into this directory")
    command.add_argument(
        "--engine", choices=("runtime", "keras"), default="runtime", help="keras is the reference, slower (%(default)s)"
    )
    command.add_argument(
        "--fail-on", default="", metavar="VERDICTS", help="exit with 3 on these, such as fake or fake,unsure"
    )
    command.add_argument(
        "--allow-unreadable", action="store_true", help="exit with 0 though some of the files cannot be read"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document on standard output")
    form.add_argument("--jsonl", action="store_true", help="one line of JSON for each file, as it is answered")
    form.add_argument("--csv", action="store_true", help="CSV on standard output")
    command.add_argument(
        "--parquet", default="", metavar="FILE", help="write the answers to this file, or to gs://BUCKET/NAME, as well"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Judge pictures and videos: real, fake or unsure, with the probability of fake, and what it rests on."""
    from components.prediction.inputs import gathered
    from components.progress import printable

    failing = {word for word in options.fail_on.split(",") if word}
    if failing - set(CHOICES):
        raise InputError(f"--fail-on is {options.fail_on!r}; it takes {', '.join(CHOICES)}, with commas between")
    with gathered(options.files) as files:
        for file in files:
            if file.error:
                print(f"ai-vs-real: {printable(file.name)}: {printable(file.error)}", file=sys.stderr)
        if all(file.error for file in files):
            return 2
        answers = list(_answered(options, files))
    _print(options, answers)
    if options.parquet:
        from components.prediction.tables import write_parquet

        write_parquet(options.parquet, answers)
    if any(answer["verdict"] in failing for answer in answers):
        return 3
    unreadable = any(answer["error"] for answer in answers)
    return 4 if unreadable and not options.allow_unreadable else 0


def _answered(options: argparse.Namespace, files: list[Any]) -> Iterator[dict[str, Any]]:
    from components.media.pictures import MediaError
    from components.prediction.examiner import Examiner
    from components.prediction.selection import select
    from components.prediction.verdict import Verdict
    from components.progress import follow, printable

    selected = select(options.model, options.model_name)
    if options.engine == "keras":
        from pipelines.commands.quiet import import_keras

        import_keras()
    with Examiner(
        selected.directory, version=selected.version, limits=selected.limits, engine=options.engine
    ) as examiner:
        if note := examiner.card.get("note", ""):
            print(f"Of the media that this detector was trained on: {printable(note)}", file=sys.stderr)
        many = follow(files, "check", "files", len(files)) if len(files) > 20 else files
        for number, file in enumerate(many):
            if file.error:
                verdict = Verdict(file.name, error=file.error)
            else:
                try:
                    with file.local() as path:
                        verdict = examiner.examine(
                            path,
                            name=file.name,
                            delivery_test=not options.no_delivery_test,
                            explain=options.explain is not None,
                        )
                except MediaError as error:
                    verdict = Verdict(file.name, error=str(error))
            answer = verdict.to_json()
            if options.explain and not verdict.error:
                _explain(options.explain, number, answer)
            if options.jsonl:
                print(json.dumps(answer), flush=True)
            yield {**answer, "heat_map": None}


def _explain(directory: Path, number: int, answer: dict[str, Any]) -> None:
    from components.prediction.report import write_page
    from components.progress import printable

    directory.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(answer["path"]).name)
    path = write_page(directory / f"{number + 1:04d}-{name[:80]}.html", answer)
    print(f"page {printable(str(path))}", file=sys.stderr)


def _print(options: argparse.Namespace, answers: list[dict[str, Any]]) -> None:
    from components.prediction.tables import counts, write_csv

    total = counts(answers)
    if options.json:
        print(json.dumps({"summary": total, "answers": answers}, indent=1))
    elif options.csv:
        write_csv(sys.stdout, answers)
    elif not options.jsonl:
        _table(answers)
    summary = ", ".join(f"{count} {name}" for name, count in total.items() if count)
    print(f"{len(answers)} file{'s' * (len(answers) != 1)}: {summary}", file=sys.stderr)


def _table(answers: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from components.prediction.tables import row
    from components.progress import printable

    styles = {"real": "green", "fake": "red", "unsure": "yellow"}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("file", "verdict", "fake"):
        table.add_column(name, justify="right" if name == "fake" else "left", no_wrap=name != "file", overflow="fold")
    table.add_column("notes", overflow="fold")
    for answer in answers:
        verdict = answer["verdict"] or "unreadable"
        probability = "" if answer["probability"] is None else f"{answer['probability']:.2f}"
        table.add_row(
            Text(printable(answer["path"])),
            Text(verdict, style=styles.get(verdict, "dim")),
            probability,
            Text("; ".join(printable(note) for note in _notes(answer, row(answer)))),
        )
    # As wide as it takes where nobody's terminal sets a width.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    limits: list[str] = next((answer["limits"] for answer in answers if answer["limits"]), [])
    for limit in limits[:3]:
        console.print(Text(f"Limit: {printable(limit)}", style="dim"))


def _notes(answer: dict[str, Any], row: dict[str, Any]) -> list[str]:
    notes = [answer["error"] or answer["reason"]]
    if answer["kind"] == "clip":
        notes.append(f"{answer['frames']} frames")
    for segment in answer["segments"][:3]:
        notes.append(f"fake from {segment['start_s']:.1f} s to {segment['end_s']:.1f} s")
    if row["suggests"]:
        notes.append(f"its metadata suggest {'a generator' if row['suggests'] == 'ai' else 'a camera'}")
    if row["c2pa"]:
        notes.append(f"C2PA manifest {row['c2pa']}")
    if row["in_training"]:
        notes.append(f"was in training: {row['in_training']}")
    return [note for note in notes if note]
