"""The data report: one page on what is in a dataset and what was left out of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from components.dataset import LABELS, SPLITS, Dataset
from components.page import bar, details, gallery, jpeg, numbers, page, section, table
from components.preprocessing.clean import Cleaned, Frames

SHEET = 14  # pictures of each source
NAMES = 50  # rejected files named under each reason


def write_report(dataset: Dataset, frames: Frames, found: Cleaned, path: Path) -> None:
    """Write the data report of a dataset as one self-contained HTML file."""
    counts = dataset.card["counts"]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = page(
        "Data report",
        [
            numbers(
                {name: counts[name] for name in ("files", "rows", "groups")} | {"left out": dataset.card["rejected"]}
            ),
            _splits(counts["splits"]),
            _sources(dataset),
            _rejections(dataset),
        ],
        lead=f"{counts['files']:,} files, in {counts['groups']:,} groups that do not cross a split.",
        footer=f"Dataset {dataset.digest[:16]}",
        notice=dataset.card.get("note", ""),
    )
    path.write_text(content, encoding="utf-8")


def _splits(splits: dict[str, Any]) -> str:
    rows = []
    for name in SPLITS:
        amounts = {label: splits[name]["label"].get(label, 0) for label in LABELS}
        kinds = {"pictures": splits[name]["kind"].get("picture", 0), "videos": splits[name]["kind"].get("frame", 0)}
        shown = {key: splits[name][key] for key in ("groups", "files", "rows")}
        rows.append({"split": name} | shown | amounts | kinds | {"balance": bar(amounts)})
    return section("Splits", table(rows), note="Files of each split; all frames of a video are one file.")


def _sources(dataset: Dataset) -> str:
    source, label = dataset.column("source"), dataset.column("label")
    blocks = []
    for name, value in sorted(set(zip(source, label.tolist(), strict=True))):
        rows = np.flatnonzero((source == name) & (label == value))
        chosen = rows[np.linspace(0, len(rows) - 1, min(SHEET, len(rows))).astype(int)]
        blocks.append(f"{name}, {LABELS[value]}: {len(rows):,} rows")
        blocks.append(gallery((jpeg(view[0]), "") for view in dataset.views(chosen)))
    return section("Sources", *blocks, note="A few pictures of each source, as the model will see them.")


def _rejections(dataset: Dataset) -> str:
    rows = dataset.rejections.to_pylist()
    if not rows:
        return section("Left out", note="No file was left out.")
    blocks = []
    for reason, amount in Counter(row["reason"] for row in rows).most_common():
        named = [row for row in rows if row["reason"] == reason][:NAMES]
        blocks.append(
            details(f"{reason}: {amount:,}", table(named, {"path": "file", "detail": "detail"}, code=["path"]))
        )
    return section("Left out", *blocks, note=f"{len(rows):,} files were left out, by reason.")
