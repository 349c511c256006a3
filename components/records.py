"""Contract: what happened, for later. MongoDB where MONGODB_URI is set, else SQLite in the run home.

Documents are plain JSON: dictionaries of strings, finite numbers, booleans, None, lists and dictionaries, whole
numbers within 64 bits, with the name of the document in `_id` and when it was written in `at`. What each collection
holds stands in `record_schemas` and is checked on every write. Both stores behave alike; one suite of tests holds them
to it.
"""

import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from components import home
from components.errors import InputError
from components.record_schemas import COLLECTIONS, SCHEMA, SchemaError, validate
from components.redaction import redact, safe_cause
from components.servers import timeout_s

AT_ONCE = 1000  # documents in one request
REPLACED_AT_ONCE = 100  # of those that are there and differ: some servers take a hundred times as long for these
CACHE_KIB = 65536  # of SQLite: digests arrive in no order, and with its own 2 MiB each row reads pages anew
URI, URI_FILE = "MONGODB_URI", "MONGODB_URI_FILE"
DUPLICATE_KEY = 11000  # MongoDB's code
STORE = "store"  # the MongoDB collection that says of which schema the others are

Document = dict[str, Any]
_encode = json.JSONEncoder(allow_nan=False).encode
_SCALARS = {str, int, bool, type(None)}
Where = Mapping[str, str | int | float | bool]


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
        """Keep many documents, each in place of the one with the same `_id` if there is one.

        A document that is there already and differs in nothing but `at` stays as it is. What has returned is kept
        even if this process or the server is killed next. After an error some of the
        documents may be kept; doing it again completes them and doubles none.

        Raises:
            SchemaError: A document is not what its collection holds.
        """

    @abstractmethod
    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """Keep a new document.

        Raises:
            DuplicateError: One with this `_id` is there; nothing has changed.
            SchemaError: The document is not what its collection holds.
        """

    @abstractmethod
    def get(self, collection: str, name: str) -> Document | None:
        """Return the document of this `_id`, or None."""

    @abstractmethod
    def find(
        self, collection: str, where: Where | None = None, limit: int = 0, *, since: str = "", until: str = ""
    ) -> list[Document]:
        """Return documents, newest first: by their `at`, then by `_id`, both descending.

        Args:
            collection: One of `COLLECTIONS`.
            where: Values that fields must have; a dot steps into a dictionary.
            limit: At most so many; 0 for all.
            since: Only those written at this moment or later, as `now` writes it; empty for no bound.
            until: Only those written before this moment; empty for no bound.
        """

    @abstractmethod
    def scan(self, collection: str, where: Where | None = None) -> Iterator[Document]:
        """Yield documents in the order of their `_id`, in bounded memory."""

    @abstractmethod
    def count(self, collection: str, where: Where | None = None) -> int:
        """Return how many documents `find` would."""

    @abstractmethod
    def schema(self) -> int:
        """Return the schema that the store is of."""

    @abstractmethod
    def migrate(self, change: Callable[[str, Document], Document]) -> int:
        """Rewrite every document of an older store, bring its indexes forward and mark it as of `SCHEMA`.

        Args:
            change: Takes a collection's name and a document, and returns the document as `SCHEMA` has it; safe to do
                twice on one document.

        Returns:
            How many documents were rewritten.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or the connection."""

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()

    def _require_schema(self) -> None:
        schema = self.schema()
        if schema > SCHEMA:
            raise InputError(
                f"the records at {self.place} are of schema {schema}, and this version of ai-vs-real reads {SCHEMA}; "
                "use the version that wrote them, or a newer one"
            )
        if schema < SCHEMA:
            raise InputError(
                f"the records at {self.place} are of schema {schema}, and this version of ai-vs-real writes {SCHEMA}; "
                "bring them forward with ai-vs-real records migrate"
            )


def open_records(*, any_schema: bool = False) -> Records:
    """Open the records: MongoDB by MONGODB_URI or the file that MONGODB_URI_FILE names, else SQLite in the run home.

    Args:
        any_schema: Also open a store of another schema, for its migration.

    Raises:
        InputError: The database does not answer, the run home cannot be written, or the store is of another schema.
    """
    uri = _uri()
    path = home.place() / "records.db"
    if not uri and not path.exists():  # else it may be there to be read alone
        home.run_home()
    store = MongoRecords(uri) if uri else SqliteRecords(path)
    if not any_schema:
        try:
            store._require_schema()
        except InputError:
            store.close()
            raise
    return store


def _uri() -> str:
    path = os.environ.get(URI_FILE)
    if os.environ.get(URI) or not path:
        return os.environ.get(URI, "")
    try:
        uri = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is no text"
        raise InputError(
            f"{URI_FILE} names {path}, which cannot be read ({cause}); mount the file, or unset it"
        ) from error
    if not uri:
        raise InputError(f"{URI_FILE} names {path}, which is empty; write the URI of the database into it, or unset it")
    return uri


class SqliteRecords(Records):
    """Records in one SQLite file."""

    def __init__(self, path: Path):
        self.path = path
        self.place = str(path)
        with self._reported():
            self._file = sqlite3.connect(path, timeout=timeout_s(), isolation_level=None)
            self._file.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if self.schema() == 0:
                with self._transaction():
                    if self.schema() == 0:  # no other process was faster
                        self._lay_out()

    def put_many(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """See `Records.put_many`; all of them or none."""
        with self._reported(), self._transaction():
            at = now()
            rows = (_row(collection, document, at) for document in documents)
            self._file.executemany(
                "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at,"
                " body = excluded.body WHERE json_remove(body, '$.at') <> json_remove(excluded.body, '$.at')",
                rows,
            )

    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """See `Records.append`."""
        with self._reported():
            try:
                self._file.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", _row(collection, document, now()))
            except sqlite3.IntegrityError as error:
                raise DuplicateError(f"{collection} has a document {document['_id']!r}") from error

    def get(self, collection: str, name: str) -> Document | None:
        """See `Records.get`."""
        rows = self._select("body", collection, None, " AND id = ?", [name])
        return next((json.loads(body) for (body,) in rows), None)

    def find(
        self, collection: str, where: Where | None = None, limit: int = 0, *, since: str = "", until: str = ""
    ) -> list[Document]:
        """See `Records.find`."""
        bounds = " AND at >= ?" * bool(since) + " AND at < ?" * bool(until)
        end = f"{bounds} ORDER BY at DESC, id DESC LIMIT ?"
        values = [*filter(None, (since, until)), limit or -1]
        return [json.loads(body) for (body,) in self._select("body", collection, where, end, values)]

    def scan(self, collection: str, where: Where | None = None) -> Iterator[Document]:
        """See `Records.scan`."""
        last = ""
        while rows := self._select("id, body", collection, where, " AND id > ? ORDER BY id LIMIT ?", [last, AT_ONCE]):
            yield from (json.loads(body) for _, body in rows)
            last = rows[-1][0]

    def count(self, collection: str, where: Where | None = None) -> int:
        """See `Records.count`."""
        return self._select("count(*)", collection, where)[0][0]

    def schema(self) -> int:
        """See `Records.schema`."""
        with self._reported():
            version = self._file.execute("PRAGMA user_version").fetchone()[0]
            return version or (1 if self._tables() else 0)

    def migrate(self, change: Callable[[str, Document], Document]) -> int:
        """See `Records.migrate`; the store as it was is kept beside it."""
        schema = self.schema()
        if schema == SCHEMA:
            return 0
        with self._reported():
            kept = self.path.with_name(f"{self.path.stem}-schema-{schema}{self.path.suffix}")
            self._file.execute("VACUUM INTO ?", [str(_free(kept))])
            with self._transaction():
                if self.schema() == SCHEMA:  # another process was faster
                    return 0
                rows = self._file.execute("SELECT collection, id, at, body FROM documents").fetchall()
                changed = 0
                for collection, name, at, body in rows:
                    document = json.loads(body)
                    after = change(collection, document)
                    if after != document:
                        row = (json.dumps(after), after.get("at", at), collection, name)
                        self._file.execute("UPDATE documents SET body = ?, at = ? WHERE collection = ? AND id = ?", row)
                        changed += 1
                self._lay_out()
        return changed

    def close(self) -> None:
        """See `Records.close`."""
        self._file.close()

    def _tables(self) -> bool:
        return bool(self._file.execute("SELECT 1 FROM sqlite_master WHERE name = 'documents'").fetchone())

    def _lay_out(self) -> None:
        statements = [
            "CREATE TABLE IF NOT EXISTS documents (collection TEXT, id TEXT, at TEXT, body TEXT,"
            " PRIMARY KEY (collection, id))",
            "CREATE INDEX IF NOT EXISTS newest ON documents (collection, at, id)",
        ]
        for name, collection in COLLECTIONS.items():
            for field in collection.indexes:
                statements.append(
                    f'CREATE INDEX IF NOT EXISTS "{name} by {field}" ON documents ({_value_of(field)}, at, id)'
                    f" WHERE collection = '{name}'"
                )
        for statement in [*statements, f"PRAGMA user_version = {SCHEMA}"]:
            self._file.execute(statement)

    def _select(
        self, what: str, collection: str, where: Where | None, end: str = "", values: Iterable[Any] = ()
    ) -> list[tuple]:
        # Fields and collection stand in the statement itself: only then does SQLite use an index on an expression.
        clause = "".join(f" AND {_value_of(field)} IS ?" for field in where or {})
        statement = f"SELECT {what} FROM documents WHERE collection = '{_known(collection)}'{clause}{end}"
        with self._reported():
            return self._file.execute(statement, [*(where or {}).values(), *values]).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        with self._file:
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise home.unwritable(self.path, error) from error


class MongoRecords(Records):
    """Records in a MongoDB database: the one that the URI names, else `ai_vs_real`.

    Credentials and TLS are the URI's: `mongodb://USER:PASSWORD@HOST/DATABASE?tls=true&tlsCAFile=FILE`.
    """

    def __init__(self, uri: str):
        import pymongo

        self.place = redact(uri)
        wait_ms = int(timeout_s() * 1000)
        with self._reported():
            self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                uri, serverSelectionTimeoutMS=wait_ms, connectTimeoutMS=wait_ms, socketTimeoutMS=wait_ms
            )
            self._database = self._client.get_default_database("ai_vs_real")
        if self.schema() == 0:
            self._lay_out()

    def put_many(self, collection: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """See `Records.put_many`."""
        known = self._database[_known(collection)]
        at = now()
        plain = (_bson(collection, document, at) for document in documents)
        while part := list(islice(plain, AT_ONCE)):
            last = {document["_id"]: document for document in part}
            if there := self._insert(known, list(last.values())):
                self._replace(known, there)

    def _insert(self, collection: Any, documents: list[Document]) -> list[Document]:
        # Most documents are new, and an insert is several times as fast as an upsert. Returns those that are there.
        from pymongo.errors import BulkWriteError

        with self._reported():
            try:
                collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                errors = error.details["writeErrors"]
                if any(entry["code"] != DUPLICATE_KEY for entry in errors) or error.details.get("writeConcernErrors"):
                    raise
                return [documents[entry["index"]] for entry in errors]
        return []

    def _replace(self, collection: Any, documents: list[Document]) -> None:
        from pymongo import ReplaceOne

        with self._reported():
            there = collection.find({"_id": {"$in": [document["_id"] for document in documents]}})
            before = {document["_id"]: _timeless(document) for document in there}
        changed = [document for document in documents if before.get(document["_id"]) != _timeless(document)]
        for start in range(0, len(changed), REPLACED_AT_ONCE):
            part = changed[start : start + REPLACED_AT_ONCE]
            requests = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in part]
            with self._reported():
                collection.bulk_write(requests, ordered=False)

    def append(self, collection: str, document: Mapping[str, Any]) -> None:
        """See `Records.append`."""
        from pymongo.errors import DuplicateKeyError

        with self._reported():
            try:
                self._database[_known(collection)].insert_one(_bson(collection, document, now()))
            except DuplicateKeyError as error:
                raise DuplicateError(f"{collection} has a document {document['_id']!r}") from error

    def get(self, collection: str, name: str) -> Document | None:
        """See `Records.get`."""
        with self._reported():
            document = self._database[_known(collection)].find_one({"_id": name})
        return document and _loaded(document)

    def find(
        self, collection: str, where: Where | None = None, limit: int = 0, *, since: str = "", until: str = ""
    ) -> list[Document]:
        """See `Records.find`."""
        bounds = ({"$gte": since} if since else {}) | ({"$lt": until} if until else {})
        query = {**(where or {}), **({"at": bounds} if bounds else {})}
        with self._reported():
            cursor = self._database[_known(collection)].find(query)
            return [_loaded(document) for document in cursor.sort([("at", -1), ("_id", -1)]).limit(limit)]

    def scan(self, collection: str, where: Where | None = None) -> Iterator[Document]:
        """See `Records.scan`."""
        last = ""
        while True:
            with self._reported():
                cursor = self._database[_known(collection)].find({**(where or {}), "_id": {"$gt": last}})
                documents = list(cursor.sort("_id", 1).limit(AT_ONCE))
            if not documents:
                return
            yield from map(_loaded, documents)
            last = documents[-1]["_id"]

    def count(self, collection: str, where: Where | None = None) -> int:
        """See `Records.count`."""
        with self._reported():
            return self._database[_known(collection)].count_documents(dict(where or {}))

    def schema(self) -> int:
        """See `Records.schema`."""
        with self._reported():
            mark = self._database[STORE].find_one({"_id": "schema"})
            if mark:
                return mark["version"]
            return 1 if any(self._database[name].find_one({}, {"_id": 1}) for name in COLLECTIONS) else 0

    def migrate(self, change: Callable[[str, Document], Document]) -> int:
        """See `Records.migrate`; one that was interrupted goes on."""
        if self.schema() == SCHEMA:
            return 0
        changed = 0
        for name in COLLECTIONS:
            for document in self.scan(name):
                after = change(name, document)
                if after != document:
                    with self._reported():
                        self._database[name].replace_one({"_id": document["_id"]}, _stored(after))
                    changed += 1
        self._lay_out()
        return changed

    def close(self) -> None:
        """See `Records.close`."""
        self._client.close()

    def _lay_out(self) -> None:
        with self._reported():
            for name, collection in COLLECTIONS.items():
                for keys in ([("at", -1)], *([(field, 1), ("at", -1)] for field in collection.indexes)):
                    self._database[name].create_index(keys)
        # Of two upserts at a time of what is not there yet one may fail; an insert says so, and can be followed up.
        mark = self._database[STORE]
        if there := self._insert(mark, [{"_id": "schema", "version": SCHEMA}]):
            self._replace(mark, there)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        # One bound over everything that one request may do: finding the server, connecting, sending, trying again.
        import pymongo
        from pymongo.errors import PyMongoError

        try:
            with pymongo.timeout(timeout_s()):
                yield
        except PyMongoError as error:
            cause = redact(_cause(error)).split(", Timeout:")[0].strip().splitlines()[0]
            raise InputError(
                f"MongoDB at {self.place} failed: {cause}; set {URI} to a server that runs, or unset it to keep "
                "the records in the run home"
            ) from safe_cause(error)


def now() -> str:
    """Return this moment as the records write it: ISO 8601, UTC, microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _timeless(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "at"}


def _cause(error: Exception) -> str:
    # A bulk write's own text says only that there were errors, and then quotes the documents.
    from pymongo.errors import BulkWriteError

    if isinstance(error, BulkWriteError) and error.details.get("writeErrors"):
        return error.details["writeErrors"][0].get("errmsg", "a write was refused")
    return str(error) or type(error).__name__


def _known(collection: str) -> str:
    if collection not in COLLECTIONS:
        raise ValueError(f"there is no collection {collection!r} among {', '.join(COLLECTIONS)}")
    return collection


def _text(collection: str, document: Mapping[str, Any], at: str) -> tuple[Document, str]:
    """Return a document with its time, and the same as JSON, once it is what its collection holds."""
    timed = {"at": at, **document}
    text = _encode(timed)
    try:
        validate(collection, timed)
    except SchemaError:
        validate(collection, json.loads(text))  # a tuple is a list once it is JSON
    return timed, text


def _row(collection: str, document: Mapping[str, Any], at: str) -> tuple[str, str, str, str]:
    timed, text = _text(collection, document, at)
    return collection, timed["_id"], timed["at"], text


def _bson(collection: str, document: Mapping[str, Any], at: str) -> Document:
    timed = {"at": at, **document}
    # What most documents of a large collection are needs no way through JSON, which costs more than all the rest.
    flat = all(type(value) in _SCALARS for value in timed.values())
    if flat and all(type(name) is str and "." not in name and "$" not in name for name in timed):
        validate(collection, timed)
        return timed
    return _stored(json.loads(_text(collection, timed, at)[1]))


def _value_of(field: str) -> str:
    """Return SQLite's expression for the value of a field."""
    path = "$." + ".".join(json.dumps(step) for step in field.split("."))
    return "json_extract(body, '{}')".format(path.replace("'", "''"))


def _free(path: Path) -> Path:
    """Return a path that nothing is at: this one, or one with a number."""
    number = 1
    kept = path
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return kept


# Not every server takes a dot or a leading dollar in a field's name, and names of sources have them.
_DOT, _DOLLAR = "\uff0e", "\uff04"


def _stored(value: Any) -> Any:
    """Return a value with field names that every server takes."""
    if type(value) is dict:
        return {
            (name.replace(".", _DOT).replace("$", _DOLLAR) if "." in name or "$" in name else name): (
                _stored(entry) if type(entry) in (dict, list) else entry
            )
            for name, entry in value.items()
        }
    return [_stored(entry) for entry in value] if type(value) is list else value


def _loaded(value: Any) -> Any:
    """Return a value with its field names as they were given."""
    if type(value) is dict:
        return {
            (name.replace(_DOT, ".").replace(_DOLLAR, "$") if _DOT in name or _DOLLAR in name else name): (
                _loaded(entry) if type(entry) in (dict, list) else entry
            )
            for name, entry in value.items()
        }
    return [_loaded(entry) for entry in value] if type(value) is list else value
