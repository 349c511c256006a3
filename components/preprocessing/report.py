"""The data report: one page on what is in a dataset, what was left out of it, and how far it can be trusted."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from components.dataset import LABELS, SPLITS, Dataset
from components.page import (
    Html,
    badge,
    bar,
    details,
    gallery,
    heading,
    jpeg,
    numbers,
    page,
    paragraph,
    section,
    table,
    text,
)
from components.preprocessing.clean import Cleaned, Frames
from components.preprocessing.duplicates import clusters

SHEET = 18  # pictures of each source
NAMED = 50  # rejected files named under each reason
SHOWN = 12  # clusters of duplicates shown as pictures, each with at most SIDE_BY_SIDE of its files
SIDE_BY_SIDE = 6
VERDICTS = {"pass": "good", "warn": "warn", "fail": "bad"}


def write_report(dataset: Dataset, frames: Frames, found: Cleaned, path: Path) -> None:
    """Write the data report as one self-contained HTML file.

    Args:
        dataset: What preprocessing wrote.
        frames: What it was made from: duplicates and conflicts are shown from here.
        found: What cleaning found in the frames.
        path: Where the page shall lie.
    """
    card = dataset.card
    counts, certificate, audit = card["counts"], card["certificate"], card["audit"]
    labels = Counter()
    for name in SPLITS:
        labels.update(counts["splits"][name]["label"])
    parts = [
        numbers(
            {
                "files found": counts["found"],
                "rejected": sum(counts["rejected"].values()),
                "duplicates dropped": counts["duplicates_dropped"],
                "kept": counts["files"],
                "real": labels["real"],
                "fake": labels["fake"],
                "groups": counts["groups"],
                "split": badge("proven", "good") if certificate["holds"] else badge("leaks", "bad"),
                "shortcuts": badge(audit["verdict"], VERDICTS[audit["verdict"]]),
            }
        ),
        _splits(card),
        _audit(audit),
        _certificate(certificate),
        _sources(dataset),
        _duplicates(frames, found),
        _conflicts(frames, found),
        _rejections(dataset),
        _policies(card),
    ]
    content = page(
        "Data report",
        parts,
        lead=f"{certificate['text']} {audit['text'][0].upper()}{audit['text'][1:]}",
        footer=f"Dataset {dataset.digest[:16]}",
        notice=card.get("note", ""),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _splits(card: dict[str, Any]) -> Html:
    rows = []
    for name in SPLITS:
        amounts = card["counts"]["splits"][name]
        labels = {label: amounts["label"].get(label, 0) for label in LABELS}
        kinds = {"pictures": amounts["kind"].get("picture", 0), "videos": amounts["kind"].get("frame", 0)}
        rows.append({"split": name, "real : fake": bar(labels)} | labels | kinds | {"groups": amounts["groups"]})
    sources = sorted({source for name in SPLITS for source in card["counts"]["splits"][name]["source"]})
    by_source = [
        {"source": source} | {name: card["counts"]["splits"][name]["source"].get(source, 0) for name in SPLITS}
        for source in sources
    ]
    held = card["split"]["hold_out"]
    note = "Files of each split; all frames of a video count as one. A group never crosses a split."
    return section(
        "Splits",
        table(rows),
        heading("By source"),
        table(by_source),
        f"Held out for the test alone: {held}." if held else "",
        note=note,
    )


def _audit(audit: dict[str, Any]) -> Html:
    rows = [
        {
            "test and AUC": Html(f"<b>{test['name']}</b><br>{test['when']}<br>{text(test['auc'])}<br>{_mark(test)}"),
            "what it says": Html(f"{_gauge(test)}{test['text']}{_offenders(test)}{_advice(test)}"),
        }
        for test in audit["tests"]
    ]
    note = (
        f"What a small classifier can tell without looking at the picture: {audit['files']:,} files, tested by "
        "group. 0.5 is chance; near 1.0 a detector can look perfect and have learnt nothing."
    )
    return section("Shortcuts", table(rows), note=note)


def _mark(test: dict[str, Any]) -> Html:
    if test["auc"] is None:
        return badge("unknown")
    if test["exceeds"]:
        return badge(f"over {test['threshold']:g}", "warn")
    return badge("fair" if test["counts"] else "for information", "good" if test["counts"] else "quiet")


def _gauge(test: dict[str, Any]) -> Html:
    told = 2 * abs((test["auc"] or 0.5) - 0.5)
    return bar({"warn" if test["exceeds"] else "good": told}, whole=1)


def _offenders(test: dict[str, Any]) -> Html:
    if not test["offenders"]:
        return Html("")
    columns = {"feature": "by itself", "auc": "AUC", "real": "typical real", "fake": "typical fake"}
    return details("which features", table(test["offenders"], columns))


def _advice(test: dict[str, Any]) -> Html:
    return paragraph(f"What to do: {test['advice']}.", "note") if test["advice"] else Html("")


def _certificate(certificate: dict[str, Any]) -> Html:
    crossing = [{"on both sides of a split": name, "found": amount} for name, amount in certificate["crossing"].items()]
    amounts = [{"split": name} | certificate["splits"][name] for name in SPLITS]
    note = "Proven by a second search that shares no code with the one that made the split."
    plain = certificate["plain"]
    return section(
        "Split certificate",
        Html(f"<p>{badge('holds', 'good') if certificate['holds'] else badge('does not hold', 'bad')}</p>"),
        certificate["text"],
        table(amounts),
        table(crossing),
        table(certificate["pairs"], code=["a", "b"]),
        f"{plain:,} rows show too little to be compared." if plain else "",
        note=note,
    )


def _sources(dataset: Dataset) -> Html:
    source, label = dataset.column("source"), dataset.column("label")
    path = dataset.column("path")
    blocks = []
    for name, value in sorted(set(zip(source, label.tolist(), strict=True)), key=lambda pair: (pair[1], pair[0])):
        rows = np.flatnonzero((source == name) & (label == value))
        _, first = np.unique(path[rows], return_index=True)
        files = rows[np.sort(first)]
        chosen = files[np.linspace(0, len(files) - 1, min(SHEET, len(files))).astype(int)]
        tone = LABELS[value]
        words = text(f"{name} · {len(files):,} files, {len(rows):,} rows")
        blocks.append(heading(Html(f"{badge(tone, tone)} {words}")))
        blocks.append(gallery((jpeg(view[0]), "") for view in dataset.views(chosen)))
    return section("Contact sheets", *blocks, note="Pictures of each source, as the model will see them.")


def _duplicates(frames: Frames, found: Cleaned) -> Html:
    path = frames.column("path")
    component = clusters(len(frames), found.copies, found.near)
    groups = _clusters_of_files(
        component, path, {row for row, (reason, _) in found.dropped.items() if "conflict" in reason}
    )
    if not groups:
        return section("Duplicates", note="No picture stands here twice, exactly or nearly.")
    exact = sum(reason == "exact duplicate" for reason, _ in found.dropped.values())
    blocks = [_side_by_side(frames, rows, found) for rows in groups[:SHOWN]]
    if len(groups) > SHOWN:
        blocks.append(paragraph(f"{len(groups) - SHOWN:,} more are not shown.", "note"))
    note = (
        f"{len(groups):,} pictures stand here more than once. {exact:,} rows were dropped for having another's pixels; "
        "near-duplicates stay, together in one split."
    )
    return section("Duplicates", *blocks, note=note)


def _conflicts(frames: Frames, found: Cleaned) -> Html:
    disputed = {row for row, (reason, _) in found.dropped.items() if reason == "label conflict"}
    if not disputed:
        return section("Label conflicts", note="No picture carries both labels.")
    path, label = frames.column("path"), frames.column("label")
    component = clusters(len(frames), found.copies, found.near)
    both = [rows for rows in _clusters_of_files(component, path, set()) if len(set(label[rows])) == 2]
    files = len({path[row] for row in disputed})
    note = f"{files:,} files show a picture that stands here with the other label as well. None of them is used."
    return section("Label conflicts", *[_side_by_side(frames, rows, found) for rows in both[:SHOWN]], note=note)


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


def _side_by_side(frames: Frames, rows: np.ndarray, found: Cleaned) -> Html:
    shown = rows[:SIDE_BY_SIDE]
    path, label = frames.column("path"), frames.column("label")
    captions = [f"{LABELS[label[row]]} · {path[row]}" for row in shown]
    more = paragraph(f"and {len(rows) - len(shown):,} more files", "note") if len(rows) > len(shown) else ""
    return Html(
        gallery((jpeg(view[0]), words) for view, words in zip(frames.views(shown), captions, strict=True)) + more
    )


def _rejections(dataset: Dataset) -> Html:
    rows = dataset.rejections.to_pylist()
    if not rows:
        return section("Left out", note="No file was left out.")
    blocks = []
    for reason, amount in Counter(row["reason"] for row in rows).most_common():
        named = [row for row in rows if row["reason"] == reason][:NAMED]
        files = table(named, {"path": "file", "detail": "detail"}, code=["path"])
        more = paragraph(f"and {amount - NAMED:,} more: see rejections.parquet", "note") if amount > NAMED else ""
        blocks.append(details(f"{reason}: {amount:,}", files, more))
    return section("Left out", *blocks, note=f"{len(rows):,} files were left out, by reason.")


def _policies(card: dict[str, Any]) -> Html:
    balance = card["balance"]
    rows = [
        {"policy": "view", "value": card["view"]},
        {"policy": "sampling of videos", "value": card["sampling"]},
        {"policy": "delivery", "value": card["delivery"]},
        {"policy": "balance", "value": f"{balance['policy']}, of the {balance['of']}, over {balance['over']}"},
        {"policy": "audit", "value": card["audit"]["policy"]},
        {"policy": "seed", "value": str(card["split"]["seed"])},
    ]
    return section("How it was made", table(rows))
