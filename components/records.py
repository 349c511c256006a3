"""Contract: what happened, for later. MongoDB where MONGODB_URI is set, else SQLite in the run home.

Documents are plain JSON: dictionaries of strings, finite numbers, booleans, None, lists and dictionaries, whole
numbers within 64 bits, with the name of the document in `_id` (a string) and when it was written in `at`. A field holds
one kind of value in all documents. Both stores behave alike; one suite of tests holds them to it.

    runs        one for each run of the pipeline: parameters, versions, where things are
    datasets    one for each dataset, by digest: counts, certificate, audit
    media       one for each file of a dataset: accepted, or rejected and why
    results     one for each evaluation: the numbers without the single scores
    promotions  what was promoted, refused or rolled back, and why; only ever appended to
"""

import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import home
from components.errors import InputError
from components.redaction import redact, safe_cause

COLLECTIONS = ("runs", "datasets", "media", "results", "promotions")
PATIENCE_S = 5.0  # for a database that does not answer, or a file that another process is writing

Document = dict[str, Any]


class DuplicateError(Exception):
    """`append` met a document that is there already."""


class Records(ABC):
    """Where the records are kept. Use as a context manager, or call `close`."""

    place: str  # for people: where that is, without secrets

    def put(self, collection: str, document: Mapping[str, Any]) -> None:
        """Keep one document, in place of the one with the same `_id` if there is one."""
        self.put_many(collection, [document])

    @abstractmethod
    def put_many(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Keep many documents, each in place of the one with the same `_id` if there is one."""

    @abstractmethod
    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """Keep a new document.

        Raises:
            DuplicateError: One with this `_id` is there; nothing has changed.
        """

    @abstractmethod
    def get(self, collection: str, name: str) -> Document | None:
        """Return the document of this `_id`, or None."""

    @abstractmethod
    def find(
        self, collection: str, where: Mapping[str, str | int | float | bool] | None = None, limit: int = 0
    ) -> list[Document]:
        """Return documents, newest first: by their `at`, then by `_id`, both descending.

        Args:
            collection: One of `COLLECTIONS`.
            where: Values that fields must have; a dot steps into a dictionary.
            limit: At most so many; 0 for all.
        """

    @abstractmethod
    def count(self, collection: str, where: Mapping[str, str | int | float | bool] | None = None) -> int:
        """Return how many documents `find` would."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or the connection."""

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()


def open_records() -> Records:
    """Open the records: MongoDB by MONGODB_URI, else SQLite in the run home.

    Raises:
        InputError: The database does not answer, or the run home cannot be written.
    """
    uri = os.environ.get("MONGODB_URI")
    return MongoRecords(uri) if uri else SqliteRecords(home.run_home() / "records.db")


class SqliteRecords(Records):
    """Records in one SQLite file."""

    def __init__(self, path: Path):
        self.path = path
        self.place = str(path)
        with self._told():
            self._file = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
            self._file.executescript(
                "CREATE TABLE IF NOT EXISTS documents (collection TEXT, id TEXT, at TEXT, body TEXT,"
                " PRIMARY KEY (collection, id));"
                "CREATE INDEX IF NOT EXISTS newest ON documents (collection, at, id);"
            )

    def put_many(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """See `Records.put_many`; all of them or none."""
        rows = [_row(collection, document) for document in documents]
        with self._told():
            self._file.execute("BEGIN IMMEDIATE")
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", rows)

    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """See `Records.append`."""
        with self._told():
            try:
                self._file.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", _row(collection, document))
            except sqlite3.IntegrityError as error:
                raise DuplicateError(f"{collection} has a document {document['_id']!r}") from error

    def get(self, collection: str, name: str) -> Document | None:
        """See `Records.get`."""
        found = self._select("body", collection, None, " AND id = ?", [name])
        return json.loads(found[0][0]) if found else None

    def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Document]:
        """See `Records.find`."""
        end = " ORDER BY at DESC, id DESC LIMIT ?"
        return [json.loads(body) for (body,) in self._select("body", collection, where, end, [limit or -1])]

    def count(self, collection: str, where: Mapping[str, Any] | None = None) -> int:
        """See `Records.count`."""
        return self._select("count(*)", collection, where)[0][0]

    def close(self) -> None:
        """See `Records.close`."""
        self._file.close()

    def _select(
        self, what: str, collection: str, where: Mapping[str, Any] | None, end: str = "", values: Iterable[Any] = ()
    ) -> list[tuple]:
        clause = " AND json_extract(body, ?) IS ?" * len(where or {})
        tests = [part for name, value in (where or {}).items() for part in (_field(name), value)]
        bound = [_known(collection), *tests, *values]
        with self._told():
            rows = self._file.execute(f"SELECT {what} FROM documents WHERE collection = ?{clause}{end}", bound)
            return rows.fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise home.unwritable(self.path, error) from error


class MongoRecords(Records):
    """Records in a MongoDB database: the one that the URI names, else `ai_vs_real`."""

    def __init__(self, uri: str):
        import pymongo

        self.place = redact(uri)
        with self._told():
            self._client = pymongo.MongoClient(
                uri, serverSelectionTimeoutMS=int(PATIENCE_S * 1000), connectTimeoutMS=int(PATIENCE_S * 1000)
            )
            self._database = self._client.get_default_database("ai_vs_real")
            for collection in COLLECTIONS:
                self._database[collection].create_index([("at", -1)])

    def put_many(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """See `Records.put_many`."""
        from pymongo import ReplaceOne

        plain = [_plain(document) for document in documents]
        with self._told():
            requests = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in plain]
            if requests:
                self._database[_known(collection)].bulk_write(requests, ordered=False)

    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """See `Records.append`."""
        from pymongo.errors import DuplicateKeyError

        with self._told():
            try:
                self._database[_known(collection)].insert_one(_plain(document))
            except DuplicateKeyError as error:
                raise DuplicateError(f"{collection} has a document {document['_id']!r}") from error

    def get(self, collection: str, name: str) -> Document | None:
        """See `Records.get`."""
        with self._told():
            return self._database[_known(collection)].find_one({"_id": name})

    def find(self, collection: str, where: Mapping[str, Any] | None = None, limit: int = 0) -> list[Document]:
        """See `Records.find`."""
        with self._told():
            found = self._database[_known(collection)].find(dict(where or {}))
            return list(found.sort([("at", -1), ("_id", -1)]).limit(limit))

    def count(self, collection: str, where: Mapping[str, Any] | None = None) -> int:
        """See `Records.count`."""
        with self._told():
            return self._database[_known(collection)].count_documents(dict(where or {}))

    def close(self) -> None:
        """See `Records.close`."""
        self._client.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        from pymongo.errors import PyMongoError

        try:
            yield
        except PyMongoError as error:
            cause = str(error).split(", Timeout:")[0].strip().splitlines()[0]
            raise InputError(
                f"MongoDB at {self.place} failed: {redact(cause)}; set MONGODB_URI to a server that runs, or unset it "
                "to keep the records in the run home"
            ) from safe_cause(error)


def now() -> str:
    """Return this moment as the records write it: ISO 8601, UTC, microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _known(collection: str) -> str:
    if collection not in COLLECTIONS:
        raise ValueError(f"there is no collection {collection!r} among {COLLECTIONS}")
    return collection


def _plain(document: Mapping[str, Any]) -> Document:
    """Return a copy that is plain JSON, with its time."""
    if not isinstance(document.get("_id"), str):
        raise ValueError(f"a document needs a string in _id, this one has {document.get('_id')!r}")
    return {"at": now(), **json.loads(json.dumps(document, allow_nan=False))}


def _row(collection: str, document: Mapping[str, Any]) -> tuple[str, str, str, str]:
    plain = _plain(document)
    return _known(collection), plain["_id"], plain["at"], json.dumps(plain)


def _field(name: str) -> str:
    """Return SQLite's path to a field."""
    return "$." + ".".join(json.dumps(step) for step in name.split("."))
