"""The decision page: challenger and champion side by side, slice by slice, and why it was decided so."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluation_result import HEADLINE, METRICS, WORST_BY, WORST_RULE, Judged
from components.page import parts
from components.page.slices import change_badge, forest, with_interval
from components.registration.gate import Check, Decision


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
    version: str,
    decision: Decision,
    gate: str,
    challenger: Judged,
    champion: Judged | None,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: What was decided, on which version.
        lead: Why, in a sentence.
        version: The challenger's, in the registry.
        decision: With every check.
        gate: The text of the gate.
        challenger: The challenger's result.
        champion: The champion's; None where there is none.
    """
    sections = [
        _headline(challenger, champion),
        _checks(decision, gate),
        _overall(challenger, champion),
        _slices(challenger, champion),
        _changes(challenger, champion) if champion else "",
    ]
    footer = (
        f"Model version {version} · detector {challenger.result.digest[:12]} · "
        f"dataset {challenger.dataset_digest[:12]} · test rows {challenger.rows_digest[:12]}"
    )
    text = parts.page(title, sections, lead=lead, footer=footer, notice=challenger.note)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _headline(challenger: Judged, champion: Judged | None) -> Markup:
    shown = {}
    for name in ("roc_auc", WORST_BY):
        title = METRICS[name].title
        shown[f"{title}, challenger"] = challenger.result.overall.value(name)
        if champion:
            shown[f"{title}, champion"] = champion.result.overall.value(name)
    worst = challenger.result.worst_slice
    if worst:
        shown[f"{METRICS[WORST_BY].title} in the worst slice: {worst.words}"] = worst.measures.value(WORST_BY)
    return parts.numbers(shown)


def _checks(decision: Decision, gate: str) -> Markup:
    entries = [(_badge(check), parts.sentence(check.text)) for check in decision.checks]
    return parts.section(
        "Why", parts.checks(entries), note=Markup("The gate: {}. All must hold.").format(parts.code(gate))
    )


def _badge(check: Check) -> Markup:
    if not check.passed:
        return parts.badge("fails", "bad")
    return parts.badge("warning", "warn") if check.warns else parts.badge("holds", "good")


def _overall(challenger: Judged, champion: Judged | None) -> Markup:
    everything = challenger.result.slice("all")
    rows = []
    for name in HEADLINE:
        ours = challenger.result.overall.value(name)
        interval = everything.interval(name) if everything else None
        measure = parts.with_small(METRICS[name].title, METRICS[name].definition)
        row: dict[str, Any] = {"measure": measure, "challenger": with_interval(ours, interval)}
        if champion:
            theirs = champion.result.overall.value(name)
            row |= {"champion": theirs, "change": change_badge(name, ours, theirs)}
        rows.append(row)
    note = f"{challenger.result.overall.n:,} pictures and clips; in brackets the 95 % interval where one is defined."
    return parts.section("On all test media", parts.table(rows), note=note)


def _slices(challenger: Judged, champion: Judged | None) -> Markup:
    ours, theirs = challenger.result, champion.result if champion else None
    rows = []
    for part in ours.slices:
        if part.measures.value(WORST_BY) is None or not theirs:
            continue
        old = theirs.slice(part.name)
        value = part.measures.value(WORST_BY)
        before = old.measures.value(WORST_BY) if old else None
        row = {"slice": part.words, "units": part.measures.n, "challenger": value, "champion": before}
        rows.append(row | {"change": change_badge(WORST_BY, value, before)})
    return parts.section(
        "Slice by slice",
        forest(ours, theirs, ("challenger", "champion")),
        parts.details("All changes", parts.table(rows)) if rows else "",
        note=f"The gate asks that the challenger be no worse than the champion on its worst slice. {WORST_RULE}",
    )


def _changes(challenger: Judged, champion: Judged) -> Markup:
    ours, theirs = _answers(challenger), _answers(champion)
    both = sorted(set(ours) & set(theirs))
    counts = {
        "right with both": sum(ours[unit] and theirs[unit] for unit in both),
        "now right: only the challenger is right": sum(ours[unit] and not theirs[unit] for unit in both),
        "now wrong: only the champion is right": sum(theirs[unit] and not ours[unit] for unit in both),
        "wrong with both": sum(not ours[unit] and not theirs[unit] for unit in both),
    }
    note = "Answers on the clean test media, each detector at its own threshold."
    return parts.section("What changes for single files", parts.numbers(counts), note=note)


def _answers(judged: Judged) -> dict[str, bool]:
    scores = judged.result.scores
    right = (np.array(scores.probability) >= judged.result.threshold) == (np.array(scores.label) == 1)
    return dict(zip(scores.unit, right.tolist(), strict=True))
