"""`ai-vs-real lineage`: what a model was made of, and which models were made of a file."""

import argparse
import json
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.progress import printable
from components.settings import DEFAULTS


def add_parser(commands: Any) -> None:
    """Add the command `lineage`."""
    command = commands.add_parser("lineage", description=lineage.__doc__)
    command.add_argument(
        "model", nargs="?", default="", metavar="MODEL[@ALIAS|/VERSION]",
        help=f"a registered model ({DEFAULTS['model_name']}@champion)",
    )  # fmt: skip
    command.add_argument("--file", default="", metavar="FILE", help="which models learnt from a file: it or its sha256")
    command.add_argument("--source", default="", metavar="NAME", help="the same of all files of a source or uploader")
    command.add_argument("--page", type=Path, metavar="FILE", help="write a model's lineage as a page, HTML")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=lineage)


def lineage(options: argparse.Namespace) -> None:
    """Trace a model to its media; or, with --file or --source, media to the models that must be trained again."""
    from components import lineage
    from components.records import open_records

    if options.file and options.source:
        raise InputError("--file and --source are two questions; ask them one at a time")
    with open_records() as records:
        if options.file or options.source:
            if options.page:
                raise InputError("--page draws a model's lineage; leave out --file and --source")
            name = options.model.partition("@")[0].partition("/")[0]
            names = [name] if name else _models(records)
            content = lineage.content_of(options.file) if options.file else ""
            path = "" if content else options.file
            traced = lineage.of_media(records, names, content=content, source=options.source, path=path)
            said = lineage.media_in_words(traced)
        else:
            name, which = _named(options.model)
            traced = lineage.of_model(records, name, which)
            said = [f"{title:<9} {text}" for title, text in lineage.model_in_words(traced)]
    if options.page:
        lineage.write_page(options.page, traced)
        said.append(f"{'page':<9} {options.page}")
    print(json.dumps(traced, indent=1) if options.json else "\n".join(map(printable, said)))


def _named(text: str) -> tuple[str, str]:
    for mark in "@/":
        name, traced, which = text.partition(mark)
        if traced:
            return name or DEFAULTS["model_name"], which
    return text or DEFAULTS["model_name"], "champion"


def _models(records: Any) -> list[str]:
    """Return the names of every registered model that the records know, and the default one."""
    events = records.scan("promotions", {"type": "event"})
    return sorted({event["name"] for event in events} | {DEFAULTS["model_name"]})
