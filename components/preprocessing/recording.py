"""Records what became of a dataset and of each of its files: accepted, or rejected and why."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.dataset import LABELS, ROWS_AT_ONCE, Dataset, batches
from components.records import open_records

COLUMNS = ("label", "kind", "source", "group", "split", "format", "width", "height", "bytes", "content_sha256")


def record(dataset: Dataset) -> None:
    """Keep the dataset's card and a record of each file, in place of those of the same dataset."""
    with open_records() as records:
        records.put("datasets", {"_id": dataset.digest, **dataset.card})
        records.put_many("media", _media(dataset))


def _media(dataset: Dataset) -> Iterator[dict[str, Any]]:
    manifest = dataset.manifest.select(["path", *COLUMNS])
    path = manifest["path"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, rows = np.unique(path, return_index=True, return_counts=True)  # a grouped table would be a second one
    accepted = (
        manifest.take(first[part]).append_column("rows", pa.array(rows[part]))
        for part in batches(np.arange(len(first)), ROWS_AT_ONCE)
    )
    rejections = dataset.rejections.filter(pc.invert(pc.is_in(dataset.rejections["path"], manifest["path"])))
    for status, parts in (("rejected", rejections.to_batches(max_chunksize=ROWS_AT_ONCE)), ("accepted", accepted)):
        for part in parts:
            for entry in part.to_pylist():
                label = None if entry["label"] is None else LABELS[entry["label"]]
                kept = {"status": status, "_id": f"{dataset.digest}/{entry['path']}", "dataset": dataset.digest}
                yield {**entry, **kept, "label": label}
