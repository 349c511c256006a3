"""Records what became of a dataset and of each of its files: accepted, or rejected and why."""

from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from components.dataset import LABELS, ROWS_AT_ONCE, Dataset
from components.records import open_records

COLUMNS = ("label", "kind", "source", "group", "split", "format", "width", "height", "bytes", "content_sha256")


def record(dataset: Dataset) -> None:
    """Keep the dataset's card and a record of each file, in place of those of the same dataset."""
    with open_records() as records:
        records.put("datasets", {"_id": dataset.digest, **dataset.card})
        records.put_many("media", _media(dataset))


def _media(dataset: Dataset) -> Iterator[dict[str, Any]]:
    rows = dataset.manifest.group_by("path", use_threads=False)  # else there is no first
    files = rows.aggregate([*((name, "first") for name in COLUMNS), ([], "count_all")])
    files = files.rename_columns(["path", *COLUMNS, "rows"])
    rejections = dataset.rejections.filter(pc.invert(pc.is_in(dataset.rejections["path"], files["path"])))
    for status, table in (("rejected", rejections), ("accepted", files)):
        for part in table.to_batches(max_chunksize=ROWS_AT_ONCE):
            for entry in part.to_pylist():
                label = None if entry["label"] is None else LABELS[entry["label"]]
                kept = {"status": status, "_id": f"{dataset.digest}/{entry['path']}", "dataset": dataset.digest}
                yield {**entry, **kept, "label": label}
