"""Records what became of a dataset and of each of its files: accepted, or rejected and why."""

from collections.abc import Iterator
from typing import Any

from components.dataset import LABELS, Dataset
from components.records import open_records

COLUMNS = ("label", "kind", "source", "group", "split", "format", "width", "height", "bytes", "content_sha256")


def record(dataset: Dataset) -> None:
    """Keep the dataset's card and a record of each file, in place of those of the same dataset."""
    with open_records() as records:
        records.put("datasets", {"_id": dataset.digest, **dataset.card})
        records.put_many("media", _media(dataset))


def _media(dataset: Dataset) -> Iterator[dict[str, Any]]:
    accepted = {}
    for row in dataset.manifest.select(["path", *COLUMNS]).to_pylist():
        path = row.pop("path")
        found = accepted.setdefault(path, {"status": "accepted", **row, "rows": 0})
        found["rows"] += 1
    rejected = {
        row.pop("path"): {"status": "rejected", **row}
        for row in dataset.rejections.to_pylist()
        if row["path"] not in accepted
    }
    for path, found in {**rejected, **accepted}.items():
        label = None if found["label"] is None else LABELS[found["label"]]
        yield {**found, "_id": f"{dataset.digest}/{path}", "dataset": dataset.digest, "path": path, "label": label}
