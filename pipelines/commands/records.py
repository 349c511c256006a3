"""`ai-vs-real records`: what happened, looked up; and the store itself moved and brought forward."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.progress import printable

# Of each question: the option, the field it looks at, and what it says.
_FILTERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "runs": (
        ("type", "type", "pipeline or training"),
        ("outcome", "outcome", "running, completed, failed or interrupted"),
        ("decision", "decision", "promoted or refused"),
        ("model", "digest", "digest of the detector"),
        ("dataset", "dataset_digest", "digest of the dataset"),
        ("data-version", "data_version", "version of the data"),
        ("commit", "revision.commit", "the code's commit, whole"),
    ),
    "media": (
        ("dataset", "dataset", "digest of the dataset"),
        ("path", "path", "as the media were listed"),
        ("sha256", "content_sha256", "of the file's bytes"),
        ("source", "source", "camera, generator or uploader"),
        ("label", "label", "real or fake"),
        ("split", "split", "train, validation or test"),
        ("status", "status", "accepted or rejected"),
        ("reason", "reason", "why it was rejected"),
    ),
    "results": (
        ("run", "run", "the training's run"),
        ("model", "digest", "digest of the detector"),
        ("dataset", "dataset_digest", "digest of the dataset"),
    ),
    "promotions": (
        ("model-name", "name", "of the registered model"),
        ("kind", "kind", "what was decided: promoted, refused, rolled back, ..."),
        ("version", "version", "which version it is about"),
        ("model", "digest", "digest of the detector"),
        ("by", "by", "who decided"),
    ),
}
_ALWAYS = {"promotions": {"type": "event"}}


def add_parser(subparsers: Any) -> None:
    """Add the command `records` and its own commands."""
    parser = subparsers.add_parser("records", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=function.__doc__)
        added.add_argument("--json", action="store_true", help="one JSON document on standard output")
        added.set_defaults(run=function)
        return added

    texts = {
        "runs": "runs of the pipeline and trainings",
        "media": "what became of each file",
        "results": "evaluations",
        "promotions": "what was promoted, refused or rolled back",
    }
    for name, filters in _FILTERS.items():
        listing = command(name, _show, texts[name])
        listing.set_defaults(collection=name)
        for option, field, text in filters:
            listing.add_argument(f"--{option}", dest=f"filter:{field}", metavar="TEXT", help=text)
        listing.add_argument("--where", action="append", default=[], metavar="FIELD=VALUE", help="any other field")
        listing.add_argument(
            "--since", default="", metavar="DATE", help="written then or later: 2026-01-31, or with time"
        )
        listing.add_argument("--until", default="", metavar="DATE", help="written before its end")
        listing.add_argument(
            "--limit", type=_whole, default=50, metavar="N", help="at most so many (%(default)s); 0: all"
        )

    exporting = command("export", _export, "every document as JSON lines")
    exporting.add_argument("file", help="where to; - for standard output")
    importing = command("import", _import, "take in what export wrote")
    importing.add_argument("file", help="what export wrote; - for standard input")
    command("migrate", _migrate, "bring a store of an older version forward")
    command("schema", _schema, "the collections and their fields")


def _show(options: argparse.Namespace) -> None:
    """Show documents, newest first."""
    from components.records import open_records

    given = {name.partition(":")[2]: value for name, value in vars(options).items() if name.startswith("filter:")}
    where = _ALWAYS.get(options.collection, {}) | {field: value for field, value in given.items() if value is not None}
    where |= dict(map(_condition, options.where))
    bounds = {"since": _moment(options.since, 0), "until": _moment(options.until, 1)}
    with open_records() as records:
        documents = records.find(options.collection, where, options.limit, **bounds)
        more = options.limit and len(documents) == options.limit and records.count(options.collection, where)
    if options.json:
        print(json.dumps(documents, indent=1))
        return
    if not documents:
        print(f"no {options.collection} are recorded that match")
    for document in documents:
        print(printable(_LINES[options.collection](document)))
    if more and more > len(documents):
        print(f"the newest {len(documents)} of {more:,}; --limit 0 shows all")


def _export(options: argparse.Namespace) -> None:
    """Write every document as a line of JSON; the file appears when it is whole."""
    from components.record_migrations import export
    from components.records import open_records

    with open_records() as records:
        if options.file == "-":
            export(records, sys.stdout)
            return
        path = Path(options.file)
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "w", encoding="utf-8") as file:
                count = export(records, file)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    print(json.dumps({"documents": count, "file": str(path)}) if options.json else f"{count:,} documents in {path}")


def _import(options: argparse.Namespace) -> None:
    """Take in what export wrote, of this version or an older one; what is there already is never doubled."""
    from components.record_migrations import load
    from components.records import open_records

    with open_records() as records:
        if options.file == "-":
            counts = load(records, sys.stdin, "standard input")
        else:
            if not Path(options.file).is_file():
                raise InputError(f"there is no file {options.file}; give one that ai-vs-real records export wrote")
            with open(options.file, encoding="utf-8", errors="replace") as file:
                counts = load(records, file, options.file)
        place = records.place
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(json.dumps(counts) if options.json else f"taken into {place}: {said}")


def _migrate(options: argparse.Namespace) -> None:
    """Bring the records to this version's schema; an SQLite store as it was is kept beside it."""
    from components.record_migrations import migrate
    from components.record_schemas import SCHEMA
    from components.records import open_records

    with open_records(any_schema=True) as records:
        schema, changed = migrate(records)
        place = records.place
    if options.json:
        print(json.dumps({"from": schema, "to": SCHEMA, "rewritten": changed}))
    elif schema == SCHEMA:
        print(f"the records at {place} are of schema {SCHEMA} already")
    else:
        print(f"the records at {place} are of schema {SCHEMA} now, not {schema}; {changed:,} documents were rewritten")


def _schema(options: argparse.Namespace) -> None:
    """Show what each collection holds, field by field."""
    from components.record_schemas import COLLECTIONS, NOTHING

    def kinds(field: Any) -> str:
        return " or ".join("null" if kind is NOTHING else kind.__name__ for kind in field.kinds)

    if options.json:
        described = {
            name: {
                "meaning": collection.meaning,
                "key": collection.key,
                "indexes": list(collection.indexes),
                "fields": {
                    field: {
                        "kinds": kinds(stated),
                        "required": stated.required,
                        "accepted": list(stated.accepted),
                        "meaning": stated.meaning,
                    }
                    for field, stated in collection.fields.items()
                },
            }
            for name, collection in COLLECTIONS.items()
        }
        print(json.dumps(described, indent=1))
        return
    for name, collection in COLLECTIONS.items():
        print(f"{name}: {collection.meaning}\n  _id  {collection.key}")
        for field, stated in collection.fields.items():
            mark = " (always)" if stated.required else ""
            print(f"  {field:<16} {kinds(stated):<12} {stated.meaning}{mark}")


def _run_line(run: dict[str, Any]) -> str:
    revision = run.get("revision") or {}
    commit = revision.get("commit", "")[:12] + (" dirty" if revision.get("dirty") else "")
    ended = run.get("outcome", "")
    decided = f"{run['decision']} version {run.get('model_version', '')}" if run.get("decision") else ""
    parts = [run["at"][:19], run["_id"], run["type"], ended, decided, commit, run.get("data_version", "")]
    return "  ".join(part for part in [*parts, run.get("error", "")] if part)


def _media_line(media: dict[str, Any]) -> str:
    what = media.get("split") if media["status"] == "accepted" else media.get("reason")
    parts = [media["status"], what, media.get("label"), media.get("source"), media["path"]]
    return "  ".join([*(part for part in parts if part), f"dataset {media['dataset'][:12]}"])


def _result_line(result: dict[str, Any]) -> str:
    overall = result["candidate"].get("overall", {})
    numbers = [
        f"{name} {overall[name]:.3f}"
        for name in ("roc_auc", "balanced_accuracy", "ece")
        if overall.get(name) is not None
    ]
    digests = [f"detector {result.get('digest', '')[:12]}", f"dataset {result.get('dataset_digest', '')[:12]}"]
    return "  ".join([result["at"][:19], *digests, *numbers])


def _promotion_line(event: dict[str, Any]) -> str:
    parts = [event["at"][:19], event["name"], event.get("kind", ""), f"version {event.get('version') or '-'}"]
    return "  ".join([*parts, f"by {event.get('by', '')}: {'; '.join(event.get('reasons', []))}"])


_LINES = {"runs": _run_line, "media": _media_line, "results": _result_line, "promotions": _promotion_line}


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; give 0 for all, or how many")
    return int(text)


def _condition(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not field or not equals:
        raise InputError(f"--where {text!r} is no condition; write FIELD=VALUE, such as arguments.epochs=5")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    return field, read if isinstance(read, str | int | float | bool) else value


def _moment(text: str, days: int) -> str:
    """Return a date or moment as the records write it; of a date alone its begin, or its end."""
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no moment; write 2026-01-31 or 2026-01-31T15:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole_day = timedelta(days=days) if len(text) == 10 else timedelta(0)
    return (moment.astimezone(UTC) + whole_day).isoformat(timespec="microseconds")
