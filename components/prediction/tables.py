"""Many verdicts as a table: the columns of CSV and Parquet, and how many of each verdict there are."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from components.media.stores import written
from components.progress import printable

COLUMNS = (
    *("path", "kind", "verdict", "probability", "reason", "error", "frames", "familiar", "c2pa", "suggests"),
    *("in_training", "model", "version", "digest"),
)
COUNTED = ("real", "fake", "unsure", "unreadable")


def row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return one verdict, as `Verdict.to_json` gives it, as a row of `COLUMNS`."""
    provenance, receipt = answer.get("provenance") or {}, answer.get("receipt") or {}
    c2pa, familiarity, nearest = provenance.get("c2pa"), answer.get("familiarity"), answer.get("nearest") or []
    suggested = {entry["suggests"] for entry in provenance.get("metadata", [])} | {(c2pa or {}).get("suggests", "")}
    return {
        **{name: answer[name] for name in COLUMNS[:7]},
        "familiar": familiarity["familiar"] if familiarity else None,
        "c2pa": c2pa["state"] if c2pa else "",
        "suggests": "ai" if "ai" in suggested else "camera" if "camera" in suggested else "",
        "in_training": nearest[0]["path"] if nearest and nearest[0]["distance"] <= 4 else "",
        "model": receipt.get("model", ""),
        "version": receipt.get("version", ""),
        "digest": receipt.get("digest", ""),
    }


def counts(answers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many verdicts are real, fake, unsure, and how many files are unreadable."""
    total = dict.fromkeys(COUNTED, 0)
    for answer in answers:
        total[answer["verdict"] or "unreadable"] += 1
    return total


def write_csv(file: TextIO, answers: Iterable[Mapping[str, Any]]) -> None:
    """Write verdicts as CSV with a header line."""
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for answer in answers:
        writer.writerow({key: _cell(value) for key, value in row(answer).items()})


def _cell(value: Any) -> Any:
    # A spreadsheet takes a text that begins so for a formula (OWASP, CSV injection).
    if isinstance(value, str):
        value = printable(value)  # a terminal obeys escape codes, a script reads line by line
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return value


def write_parquet(location: str | Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write verdicts as a Parquet file, there whole or not at all; the whole answer is JSON in its last column.

    Args:
        location: A path, or gs://BUCKET/NAME.
        answers: As `Verdict.to_json` gives them.

    Raises:
        InputError: The bucket does not take it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"probability": pa.float64(), "frames": pa.int32(), "familiar": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in (*COLUMNS, "answer")])
    rows = [{**row(answer), "answer": json.dumps(answer)} for answer in answers]
    for entry in rows:
        entry["path"] = entry["path"].encode("utf-8", "backslashreplace").decode()
    with written(str(location)) as path:
        pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")
