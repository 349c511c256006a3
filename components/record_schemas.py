"""Contract: what the records hold: the fields of each collection, what they mean, and by what they are looked up.

A document may hold more than the fields that are stated here, so that a reader accepts what a newer writer adds; what
is stated is checked on every write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 2  # of the whole store; `components.record_migrations` brings older ones forward

TEXT, NUMBER, WHOLE, FLAG, LIST, TABLE = (str,), (int, float), (int,), (bool,), (list,), (dict,)
NOTHING = type(None)


class SchemaError(ValueError):
    """A document is not what its collection holds."""


@dataclass(frozen=True)
class Field:
    """One stated field of a collection.

    Attributes:
        kinds: Python types that its JSON value may have.
        meaning: What it says, for a reader of the schema.
        required: Whether every document has it.
        accepted: The values that it may have; empty for any.
    """

    kinds: tuple[type, ...]
    meaning: str
    required: bool = False
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collection:
    """One collection.

    Attributes:
        meaning: What one document stands for.
        key: How `_id` is made, so that a step that is repeated replaces its documents and never doubles them.
        fields: The stated fields by name.
        indexes: The fields that documents are looked up by, each together with `at`.
    """

    meaning: str
    key: str
    fields: Mapping[str, Field]
    indexes: tuple[str, ...]


_DIGESTS = {
    "digest": Field(TEXT, "of the detector, from its card"),
    "dataset_digest": Field(TEXT, "of the dataset, from its card"),
    "rows_digest": Field(TEXT, "of the rows that were judged"),
}
_REVISION = {
    "revision": Field(TABLE, "the code's commit, branch and whether files differed from the commit (dirty)"),
    "data_version": Field(TEXT, "the version of the dataset in the data repository; empty where there is none"),
}

COLLECTIONS: Mapping[str, Collection] = {
    "runs": Collection(
        "a run of the pipeline, or the training of one detector",
        "the run's own name: time and chance of a pipeline, MLflow's run id or the detector's digest of a training",
        {
            "type": Field(TEXT, "what ran", True, ("pipeline", "training")),
            "outcome": Field(
                TEXT, "how a pipeline ended", False, ("running", "completed", "failed", "interrupted", "killed")
            ),
            "arguments": Field(TABLE, "the pipeline's parameters that differ from their defaults"),
            "error": Field(TEXT, "why it failed, in one line"),
            "package": Field(TEXT, "the version of ai-vs-real"),
            "started_s": Field(NUMBER, "seconds since 1970"),
            "process": Field(TEXT, "the process that runs it: host, boot, process id and when it began"),
            "wall_s": Field(NUMBER, "seconds from start to end"),
            "decision": Field(TEXT, "promoted or refused"),
            "reasons": Field(LIST, "why, in sentences"),
            "model_version": Field(TEXT, "the version that registration made"),
            "card": Field(TABLE, "the detector's card"),
            "pipeline_digest": Field(TEXT, "of the compiled pipeline, from its first line"),
            "images": Field(LIST, "the images that the steps ran in; empty where they were processes"),
            "pipeline_run": Field(TEXT, "of a training in a pod, Kubeflow's id of the run that it was a step of"),
            **_DIGESTS,
            **_REVISION,
        },
        ("type", "outcome", "digest", "dataset_digest", "data_version"),
    ),
    "datasets": Collection(
        "a dataset",
        "the dataset's digest",
        {
            "format": Field(WHOLE, "of its directory", True),
            "rows": Field(WHOLE, "pictures and frames", True),
            "counts": Field(TABLE, "files, groups and rows by split, label and source"),
            "certificate": Field(TABLE, "the proof that no split has seen another"),
            "audit": Field(TABLE, "what else separates the labels"),
            "view": Field(TEXT, "what of a picture is kept"),
            "media": Field((str, list), "where the media were listed"),
        },
        (),
    ),
    "media": Collection(
        "a file of a dataset, accepted, or rejected and why",
        "the dataset's digest, a slash, and the file's path",
        {
            "dataset": Field(TEXT, "the dataset's digest", True),
            "path": Field(TEXT, "as the media were listed", True),
            "status": Field(TEXT, "what became of it", True, ("accepted", "rejected")),
            "label": Field((str, NOTHING), "as it was given", False, ("real", "fake")),
            "kind": Field(TEXT, "picture, or frame for a video"),
            "source": Field((str, NOTHING), "camera, generator or uploader, else the folder's name"),
            "group": Field((str, NOTHING), "what must not cross a split"),
            "split": Field(TEXT, "train, validation or test"),
            "content_sha256": Field(TEXT, "of the file's bytes"),
            "format": Field((str, NOTHING), "the container"),
            "width": Field((int, NOTHING), "pixels"),
            "height": Field((int, NOTHING), "pixels"),
            "bytes": Field((int, NOTHING), "of the file"),
            "rows": Field(WHOLE, "pictures and frames that it gave"),
            "reason": Field((str, NOTHING), "why it was rejected, to count by"),
            "detail": Field((str, NOTHING), "more on why"),
        },
        ("dataset", "content_sha256", "source", "path"),
    ),
    "verdicts": Collection(
        "the verdict of one detector on one file of a scored collection",
        "the detector's digest, a slash, and the file's path",
        {
            "digest": Field(TEXT, "of the detector, from its card", True),
            "path": Field(TEXT, "as the media were listed", True),
            "checksum": Field(TEXT, "of the file when it was scored", True),
            "model_version": Field(TEXT, "of the detector, in the registry"),
            "verdict": Field(TEXT, "what was answered", True, ("real", "fake", "unsure", "unreadable")),
            "probability": Field((int, float, NOTHING), "of fake, calibrated"),
            "answer": Field(TABLE, "the whole answer, as ai-vs-real check --json gives it", True),
        },
        ("digest", "path", "verdict"),
    ),
    "results": Collection(
        "an evaluation: its numbers without the single scores",
        "the digest of the question: model name, evaluation and gate",
        {
            "run": Field(TEXT, "the training's run", True),
            "candidate": Field(TABLE, "the judged detector's numbers", True),
            "champion": Field((dict, NOTHING), "the champion's numbers on the same rows"),
            **_DIGESTS,
        },
        ("run", "digest", "dataset_digest"),
    ),
    "promotions": Collection(
        "what was promoted, refused or rolled back, and why; only ever appended to",
        "the registered model's name, a slash, and the event's number",
        {
            "type": Field(TEXT, "an event, or the confirmation that its aliases are set", True),
            "name": Field(TEXT, "of the registered model", True),
            "number": Field(WHOLE, "of the event, from 1"),
            "kind": Field(TEXT, "what was decided"),
            "version": Field(TEXT, "which version it is about"),
            "champion_before": Field(TEXT, "the champion's version before; empty for none"),
            "champion_after": Field(TEXT, "the champion's version after; empty for none"),
            "reasons": Field(LIST, "why, in sentences"),
            "by": Field(TEXT, "who decided"),
            "question": Field(TEXT, "the digest of what was asked"),
            "metrics": Field((dict, NOTHING), "the candidate's"),
            **_DIGESTS,
            **_REVISION,
        },
        ("name", "question", "digest"),
    ),
}


def validate(collection: str, document: Mapping[str, Any]) -> None:
    """Check a document against its collection's stated fields.

    Args:
        collection: One of `COLLECTIONS`.
        document: Plain JSON.

    Raises:
        SchemaError: The field, its value, and what is accepted.
    """
    if collection not in COLLECTIONS:
        raise SchemaError(f"there is no collection {collection!r}; there are {', '.join(COLLECTIONS)}")
    if type(document.get("_id")) is not str or not document["_id"]:
        raise SchemaError(f"a document of {collection} needs a name in _id, and this one has {document.get('_id')!r}")
    for name, field in COLLECTIONS[collection].fields.items():
        if name not in document:
            if field.required:
                raise SchemaError(f"{collection} {document['_id']!r} has no {name}: {field.meaning}")
            continue
        value = document[name]
        if type(value) not in field.kinds:
            accepted = " or ".join("nothing" if kind is NOTHING else kind.__name__ for kind in field.kinds)
            raise SchemaError(f"{collection} {document['_id']!r} has {name} {value!r}; it must be {accepted}")
        if field.accepted and value is not None and value not in field.accepted:
            accepted = ", ".join(field.accepted)
            raise SchemaError(f"{collection} {document['_id']!r} has {name} {value!r}; it must be one of {accepted}")
