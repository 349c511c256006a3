"""The decision page: challenger and champion side by side, slice by slice, and why it was decided so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.page import COLOURS, Html, badge, numbers, page, section, table
from components.registration.gate import WORDS, WORST_BY, Decision, Evaluation, worst_slice

MEASURES = ("roc_auc", "average_precision", "balanced_accuracy", "accuracy_real", "accuracy_fake", "ece", "eer")
LESS_IS_BETTER = ("ece", "eer")
WIDTH, HEIGHT = 220, 26  # of a slice's plot, CSS pixels


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
    decision: Decision,
    gate: str,
    challenger: Evaluation,
    champion: Evaluation | None,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: What was decided, on which version.
        lead: Why, in a sentence.
        decision: With every check.
        gate: The text of the gate.
        challenger: Its evaluation, as `gate.decide` takes it.
        champion: The champion's, with its version; None where there is none.
    """
    sections = [
        _headline(challenger, champion),
        _checks(decision, gate),
        _overall(challenger, champion),
        _slices(challenger, champion),
        _changes(challenger, champion) if champion else "",
    ]
    footer = f"Challenger {challenger['digest'][:12]}, rows {challenger['rows_digest'][:12]}."
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = page(title, sections, lead=lead, footer=footer, notice=challenger.get("note", ""))
    Path(path).write_text(text, encoding="utf-8")


def _headline(challenger: Evaluation, champion: Evaluation | None) -> Html:
    shown = {}
    for name in ("roc_auc", "balanced_accuracy"):
        shown[f"{WORDS[name]}, challenger"] = challenger["overall"].get(name)
        if champion:
            shown[f"{WORDS[name]}, champion"] = champion["overall"].get(name)
    worst = worst_slice(challenger)
    if worst:
        shown[f"{WORDS[WORST_BY]}, worst slice ({worst['slice']})"] = worst[WORST_BY]
    return numbers(shown)


def _checks(decision: Decision, gate: str) -> Html:
    rows = [
        {"": badge("holds", "good") if check.passed else badge("fails", "bad"), "what the gate asked": check.text}
        for check in decision.checks
    ]
    asked = Html(f"The gate: <code>{gate.replace('<', '&lt;').replace('>', '&gt;')}</code>. All must hold.")
    return section("Why", table(rows), note=asked)


def _overall(challenger: Evaluation, champion: Evaluation | None) -> Html:
    rows = []
    for name in MEASURES:
        ours, theirs = challenger["overall"].get(name), champion["overall"].get(name) if champion else None
        row = {"measure": WORDS[name], "challenger": ours}
        if champion:
            row |= {"champion": theirs, "change": _change(ours, theirs, name in LESS_IS_BETTER)}
        rows.append(row)
    count = challenger["overall"].get("n")
    return section("On all test media", table(rows), note=f"{count:,} pictures and clips." if count else "")


def _slices(challenger: Evaluation, champion: Evaluation | None) -> Html:
    theirs = {one["slice"]: one for one in champion["slices"]} if champion else {}
    rows = []
    for ours in challenger["slices"]:
        other = theirs.get(ours["slice"], {})
        row = {"slice": ours["slice"], "units": ours.get("n"), "challenger": ours.get(WORST_BY)}
        if champion:
            change = _change(ours.get(WORST_BY), other.get(WORST_BY))
            row |= {"champion": other.get(WORST_BY), "change": change}
        rows.append(row | {"0.5 to 1": _plot(ours, other)})
    note = (
        f"{WORDS[WORST_BY].capitalize()} with its 95 % interval, "
        + ("challenger above, champion in gray below. " if champion else "")
        + "A slice of one source is measured against all media of the other label."
    )
    return section("Slice by slice", table(rows), note=note)


def _changes(challenger: Evaluation, champion: Evaluation) -> Html:
    ours, theirs = _answers(challenger), _answers(champion)
    both = sorted(set(ours) & set(theirs))
    counts = {
        "right with both": sum(ours[unit] and theirs[unit] for unit in both),
        "mended: only the challenger is right": sum(ours[unit] and not theirs[unit] for unit in both),
        "broken: only the champion is right": sum(theirs[unit] and not ours[unit] for unit in both),
        "wrong with both": sum(not ours[unit] and not theirs[unit] for unit in both),
    }
    note = "Answers on the clean test media, each detector at its own threshold."
    return section("What changes for single files", numbers(counts), note=note)


def _answers(evaluation: Evaluation) -> dict[str, bool]:
    scores = evaluation["scores"]
    right = (np.array(scores["probability"]) >= evaluation["threshold"]) == (np.array(scores["label"]) == 1)
    return dict(zip(scores["unit"], right.tolist(), strict=True))


def _change(ours: float | None, theirs: float | None, less_is_better: bool = False) -> Html | None:
    if ours is None or theirs is None:
        return None
    change = ours - theirs
    tone = "quiet" if abs(change) < 0.0005 else "good" if (change < 0) is less_is_better else "bad"
    return badge(f"{change:+.3f}", tone)


def _plot(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Html:
    lines = "".join(
        _whisker(one.get(WORST_BY), one.get("intervals", {}).get(WORST_BY), height, colour)
        for one, height, colour in ((ours, 8, COLOURS["real"]), (theirs, 18, COLOURS["quiet"]))
    )
    return Html(
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="interval">'
        f'<path d="M0.5 0V{HEIGHT}M{WIDTH - 0.5} 0V{HEIGHT}" stroke="#e6e4df"/>{lines}</svg>'
    )


def _whisker(value: float | None, interval: list[float] | None, height: int, colour: str) -> str:
    if value is None or not interval:
        return ""
    low, high, middle = (round((min(max(edge, 0.5), 1) - 0.5) * 2 * WIDTH, 1) for edge in (*interval, value))
    line = f'<path d="M{low} {height}H{high}" stroke="{colour}" stroke-width="2" stroke-linecap="round"/>'
    return f'{line}<circle cx="{middle}" cy="{height}" r="4" fill="{colour}"/>'
