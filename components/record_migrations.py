"""Bringing records of an older schema forward, and taking records out of one store and into another."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TextIO

from components.errors import InputError
from components.record_schemas import COLLECTIONS, SCHEMA, SchemaError
from components.records import AT_ONCE, Document, DuplicateError, Records

HEADER = "ai-vs-real records"  # of an export's first line, with the schema

# Settings that schema 2 names otherwise, and values that they have where the old name had its own.
_RENAMED = {
    "views": "draws",
    "degrade": "training_degradations",
    "degraded": "test_degradations",
    "cached": "activation_cache",
}


def _to_2(collection: str, document: Document) -> Document:
    """Name the settings as they are named now, and say of every run what ran."""
    if collection == "runs":
        document = {"type": "pipeline", **document}
        if "arguments" in document:
            document["arguments"] = _renamed(document["arguments"])
        card = document.get("card")
        if isinstance(card, dict):
            if isinstance(card.get("settings"), dict):
                document["card"] = {**card, "settings": _renamed(card["settings"])}
            if card.get("commit") and "revision" not in document:
                document["revision"] = {"commit": card["commit"], "branch": "", "dirty": None}
    return document


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in settings.items()}


MIGRATIONS: Mapping[int, Callable[[str, Document], Document]] = {1: _to_2}  # from this schema to the next


def forward(schema: int) -> Callable[[str, Document], Document]:
    """Return the function that brings a document of an older schema to this version's.

    Raises:
        InputError: The schema is newer than this version's.
    """
    if schema > SCHEMA:
        raise InputError(
            f"the records are of schema {schema}, and this version of ai-vs-real reads {SCHEMA}; use a newer one"
        )

    def change(collection: str, document: Document) -> Document:
        for step in range(schema, SCHEMA):
            document = MIGRATIONS[step](collection, document)
        return document

    return change


def migrate(records: Records) -> tuple[int, int]:
    """Bring a store to this version's schema; one that is there already is left alone.

    Args:
        records: Opened with `any_schema`.

    Returns:
        The schema that it was of, and how many documents were rewritten.
    """
    schema = records.schema()
    return schema, records.migrate(forward(schema))


def export(records: Records, file: TextIO) -> int:
    """Write every document as a line of JSON, and return how many there were.

    The first line says of which schema they are; each further line has `collection` and `document`.
    """
    file.write(json.dumps({HEADER: SCHEMA}) + "\n")
    count = 0
    for collection in COLLECTIONS:
        for document in records.scan(collection):
            file.write(json.dumps({"collection": collection, "document": document}, ensure_ascii=False) + "\n")
            count += 1
    return count


def load(records: Records, file: TextIO, name: str) -> dict[str, int]:
    """Take in what `export` wrote; a document that is there already is replaced, and never doubled.

    Promotions are only ever appended to: one that is there already stays as it is.

    Args:
        records: Where the documents shall be kept.
        file: What `export` wrote, of this schema or an older one.
        name: Of the file, for errors.

    Returns:
        How many documents were taken in, by collection.

    Raises:
        InputError: A line is not what `export` writes; those before it are kept, and the import can be repeated.
    """
    lines = enumerate(file, start=1)
    change = forward(_schema_of(next(lines, (1, ""))[1], name))
    counts = dict.fromkeys(COLLECTIONS, 0)
    entries = _entries(lines, name)
    while part := list(islice(entries, AT_ONCE)):
        for collection in COLLECTIONS:
            documents = [(line, change(collection, document)) for line, kind, document in part if kind == collection]
            _keep(records, collection, documents, name)
            counts[collection] += len(documents)
    return counts


def _schema_of(line: str, name: str) -> int:
    try:
        schema = json.loads(line)[HEADER]
        assert type(schema) is int
        assert schema >= min(MIGRATIONS)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{name} is no export of records; give a file that ai-vs-real records export wrote") from error
    return schema


def _entries(lines: Iterable[tuple[int, str]], name: str) -> Iterator[tuple[int, str, Document]]:
    for number, line in lines:
        try:
            entry = json.loads(line)
            collection, document = entry["collection"], entry["document"]
            assert collection in COLLECTIONS
            assert isinstance(document["_id"], str)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(
                f"line {number} of {name} is no record; each line has a collection ({', '.join(COLLECTIONS)}) and a "
                "document with an _id; restore the file, or remove the line"
            ) from error
        yield number, collection, document


def _keep(records: Records, collection: str, documents: list[tuple[int, Document]], name: str) -> None:
    try:
        if collection == "promotions":
            for _, document in documents:
                try:
                    records.append(collection, document)
                except DuplicateError:
                    continue  # history is not rewritten
        else:
            records.put_many(collection, [document for _, document in documents])
    except SchemaError as error:
        raise InputError(f"{name}: {error}") from error
