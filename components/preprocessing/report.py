"""The data report: one page on what is in a dataset, what was left out of it, and how far it can be trusted."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from components.dataset import LABELS, SPLITS, Dataset
from components.evaluation_result import audit_in_words
from components.page import parts
from components.preprocessing.clean import Cleaned, Frames
from components.preprocessing.duplicates import clusters

SHEET = 18  # pictures of each source
NAMED = 50  # rejected files named under each reason
SHOWN = 12  # clusters of duplicates shown as pictures, each with at most SIDE_BY_SIDE of its files
SIDE_BY_SIDE = 6
VERDICTS = {"pass": "good", "warn": "warn", "fail": "bad"}


def write_report(dataset: Dataset, frames: Frames, cleaned: Cleaned, path: Path) -> None:
    """Write the data report as one self-contained HTML file.

    Args:
        dataset: What preprocessing wrote.
        frames: What it was made from: duplicates and conflicts are shown from here.
        cleaned: What cleaning did to the frames.
        path: The HTML file.
    """
    card = dataset.card
    counts, certificate, audit = card["counts"], card["certificate"], card["audit"]
    labels: Counter[str] = Counter()
    for name in SPLITS:
        labels.update(counts["splits"][name]["label"])
    shown = [
        _duplicates(frames, cleaned),
        _conflicts(frames, cleaned),
        _rejections(dataset),
    ]
    sections = [
        parts.numbers(
            {
                "files found": counts["found"],
                "rejected": sum(counts["rejected"].values()),
                "duplicates dropped": counts["duplicates_dropped"],
                "files kept": counts["files"],
                "real": labels["real"],
                "fake": labels["fake"],
                "groups": counts["groups"],
                "split": parts.badge("no leak", "good") if certificate["holds"] else parts.badge("leaks", "bad"),
                "shortcuts": _verdict(audit),
            }
        ),
        _splits(card),
        _audit(audit),
        _certificate(certificate),
        _sources(dataset),
        *(part for part in shown if isinstance(part, Markup)),
        _nothing([part for part in shown if not isinstance(part, Markup)]),
        _policies(card),
    ]
    content = parts.page(
        "Data report",
        sections,
        lead=_lead(counts, certificate, audit),
        footer=f"Dataset {dataset.digest[:12]}",
        notice=card.get("note", ""),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(content, encoding="utf-8")
    os.replace(part, path)


def _lead(counts: dict[str, Any], certificate: dict[str, Any], audit: dict[str, Any]) -> str:
    leak = "no split has seen another" if certificate["holds"] else "the splits have seen each other"
    sentence = f"{counts['files']:,} of {counts['found']:,} files are used, and {leak}."
    return f"{sentence} {audit_in_words(audit).removesuffix(' See the data report.')}"


def _verdict(audit: dict[str, Any]) -> Markup:
    count = sum(test["exceeds"] for test in audit["tests"])
    return parts.badge(f"{count} found" if count else "none found", VERDICTS[audit["verdict"]])


def _nothing(sentences: list[str]) -> Markup:
    return parts.section("Nothing to report", parts.bullets(sentences)) if sentences else Markup("")


def _splits(card: dict[str, Any]) -> Markup:
    rows = []
    for name in SPLITS:
        amounts = card["counts"]["splits"][name]
        labels = {label: amounts["label"].get(label, 0) for label in LABELS}
        kinds = {"pictures": amounts["kind"].get("picture", 0), "videos": amounts["kind"].get("frame", 0)}
        rows.append({"split": name, "real : fake": parts.bar(labels)} | labels | kinds | {"groups": amounts["groups"]})
    sources = sorted({source for name in SPLITS for source in card["counts"]["splits"][name]["source"]})
    by_source = [
        {"source": source} | {name: card["counts"]["splits"][name]["source"].get(source, 0) for name in SPLITS}
        for source in sources
    ]
    held = card["split"]["hold_out"]
    note = "Files of each split; all frames of a video count as a single file. A group never crosses a split."
    return parts.section(
        "Splits",
        parts.table(rows),
        parts.heading("By source"),
        parts.table(by_source),
        f"Held out for the test alone: {held}." if held else "",
        note=note,
    )


def _audit(audit: dict[str, Any]) -> Markup:
    rows = [
        {
            "test": parts.lines(test["name"], test["when"]),
            "auc": parts.lines(parts.reading(test["auc"]), _mark(test)),
            "meaning": Markup("").join([_gauge(test), parts.paragraph(test["text"]), _offenders(test), _advice(test)]),
        }
        for test in audit["tests"]
    ]
    note = (
        f"What a small classifier reaches without looking at the picture, on {audit['files']:,} files, cross-validated "
        "by group. 0.5 is chance; near 1.0 a detector can look perfect and have learnt nothing."
    )
    columns = {"test": "test", "auc": "ROC AUC", "meaning": "what it means"}
    return parts.section("Shortcuts", parts.table(rows, columns, stacked=True), note=note)


def _mark(test: dict[str, Any]) -> Markup:
    if test["auc"] is None:
        return parts.badge("unknown")
    if test["exceeds"]:
        return parts.badge(f"over {test['threshold']:g}", "warn")
    if test["counts"] and test["auc"] > test["threshold"]:
        return parts.badge(f"not surely over {test['threshold']:g}")
    return parts.badge("fair", "good") if test["counts"] else parts.badge("for information")


def _gauge(test: dict[str, Any]) -> Markup:
    if test["auc"] is None:
        return Markup("")
    beyond_chance = 2 * abs(test["auc"] - 0.5)
    tone = "warn" if test["exceeds"] else "good" if test["counts"] and test["auc"] <= test["threshold"] else "quiet"
    return parts.bar({tone: beyond_chance}, whole=1)


def _offenders(test: dict[str, Any]) -> Markup:
    if not test["offenders"]:
        return Markup("")
    columns = {"feature": "by itself", "auc": "ROC AUC", "real": "typical real", "fake": "typical fake"}
    return parts.details("which features", parts.table(test["offenders"], columns))


def _advice(test: dict[str, Any]) -> Markup:
    return parts.paragraph(f"What to do: {test['advice']}.", "note") if test["advice"] else Markup("")


def _certificate(certificate: dict[str, Any]) -> Markup:
    crossing = [
        {"on both sides of a split": name, "number": amount} for name, amount in certificate["crossing"].items()
    ]
    amounts = [{"split": name} | certificate["splits"][name] for name in SPLITS]
    holds = parts.badge("holds", "good") if certificate["holds"] else parts.badge("does not hold", "bad")
    plain = certificate["plain"]
    return parts.section(
        "Split certificate",
        parts.paragraph(holds),
        certificate["text"],
        parts.table(amounts),
        parts.table(crossing),
        parts.table(certificate["pairs"], code=["a", "b"]),
        f"{plain:,} rows show too little to be compared." if plain else "",
        note="Proven by a second search that shares no code with the search that made the split.",
    )


def _sources(dataset: Dataset) -> Markup:
    source, label = dataset.column("source"), dataset.column("label")
    path = dataset.column("path")
    blocks = []
    for name, value in sorted(set(zip(source, label.tolist(), strict=True)), key=lambda pair: (pair[1], pair[0])):
        rows = np.flatnonzero((source == name) & (label == value))
        _, first = np.unique(path[rows], return_index=True)
        files = rows[np.sort(first)]
        chosen = files[np.linspace(0, len(files) - 1, min(SHEET, len(files))).astype(int)]
        tone = LABELS[value]
        words = f"{name} · {len(files):,} files, {len(rows):,} rows"
        blocks.append(parts.heading(Markup("{} {}").format(parts.badge(tone, tone), words)))
        blocks.append(parts.gallery((parts.jpeg(view[0]), "") for view in dataset.views(chosen)))
    return parts.section("Contact sheets", *blocks, note="Pictures of each source, as the model will see them.")


def _duplicates(frames: Frames, cleaned: Cleaned) -> Markup | str:
    path = frames.column("path")
    component = clusters(len(frames), cleaned.copies, cleaned.near)
    groups = _clusters_of_files(
        component, path, {row for row, (reason, _) in cleaned.dropped.items() if "conflict" in reason}
    )
    if not groups:
        return "No picture occurs twice, exactly or nearly."
    exact = sum(reason == "exact duplicate" for reason, _ in cleaned.dropped.values())
    blocks = [_side_by_side(frames, rows) for rows in groups[:SHOWN]]
    if len(groups) > SHOWN:
        blocks.append(parts.paragraph(f"{len(groups) - SHOWN:,} more are not shown.", "note"))
    note = (
        f"{len(groups):,} pictures occur more than once. {exact:,} rows were dropped because their pixels occur "
        "already; near-duplicates stay, together in one split."
    )
    return parts.section("Duplicates", *blocks, note=note)


def _conflicts(frames: Frames, cleaned: Cleaned) -> Markup | str:
    disputed = {row for row, (reason, _) in cleaned.dropped.items() if reason == "label conflict"}
    if not disputed:
        return "No picture carries both labels."
    path, label = frames.column("path"), frames.column("label")
    component = clusters(len(frames), cleaned.copies, cleaned.near)
    both = [rows for rows in _clusters_of_files(component, path, set()) if len(set(label[rows])) == 2]
    files = len({path[row] for row in disputed})
    note = f"{files:,} files show a picture that occurs with the other label as well. None of them is used."
    return parts.section("Label conflicts", *[_side_by_side(frames, rows) for rows in both[:SHOWN]], note=note)


def _clusters_of_files(component: np.ndarray, path: np.ndarray, without: set[int]) -> list[np.ndarray]:
    # Rows of clusters that hold several files, one row of each file, the largest clusters first.
    order = np.argsort(component, kind="stable")
    cuts = np.flatnonzero(np.diff(component[order])) + 1
    groups = []
    for rows in np.split(order, cuts):
        if len(rows) > 1 and not without & set(rows.tolist()):
            _, first = np.unique(path[rows], return_index=True)
            groups.append(rows[np.sort(first)])
    return sorted((rows for rows in groups if len(rows) > 1), key=lambda rows: -len(rows))


def _side_by_side(frames: Frames, rows: np.ndarray) -> Markup:
    shown = rows[:SIDE_BY_SIDE]
    path, label = frames.column("path"), frames.column("label")
    captions = [f"{LABELS[label[row]]} · {path[row]}" for row in shown]
    pictures = [(parts.jpeg(view[0]), words) for view, words in zip(frames.views(shown), captions, strict=True)]
    more = parts.paragraph(f"and {len(rows) - len(shown):,} more files", "note") if len(rows) > len(shown) else ""
    return parts.gallery(pictures) + more


def _rejections(dataset: Dataset) -> Markup | str:
    rows = dataset.rejections.to_pylist()
    if not rows:
        return "No file was left out."
    blocks = []
    for reason, amount in Counter(row["reason"] for row in rows).most_common():
        named = [row for row in rows if row["reason"] == reason][:NAMED]
        files = parts.table(named, {"path": "file", "detail": "detail"}, code=["path"])
        more = parts.paragraph(f"and {amount - NAMED:,} more: see rejections.parquet", "note") if amount > NAMED else ""
        blocks.append(parts.details(f"{reason}: {amount:,}", files, more))
    return parts.section("Left out", *blocks, note=f"{len(rows):,} files were left out, by reason.")


def _policies(card: dict[str, Any]) -> Markup:
    balance = card["balance"]
    rows = [
        {"policy": "view", "value": card["view"]},
        {"policy": "sampling of videos", "value": card["sampling"]},
        {"policy": "delivery", "value": card["delivery"]},
        {"policy": "balance", "value": f"{balance['policy']}, of the {balance['of']}, over {balance['over']}"},
        {"policy": "audit", "value": card["audit"]["policy"]},
        {"policy": "random seed", "value": str(card["split"]["seed"])},
    ]
    return parts.section("How it was made", parts.table(rows))
