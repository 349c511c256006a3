"""The decision page: challenger and champion side by side, slice by slice, and why it was decided so."""

from pathlib import Path

import numpy as np

from components.evaluation_result import HEADLINE, METRICS, WORST_BY, WORST_RULE, Judged, SliceResult, change
from components.page import COLOURS, Html, badge, numbers, page, section, table
from components.registration.gate import Decision

WIDTH, HEIGHT = 220, 26  # of a slice's plot, CSS pixels


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
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
    footer = f"Challenger {challenger.result.digest[:12]}, rows {challenger.rows_digest[:12]}."
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = page(title, sections, lead=lead, footer=footer, notice=challenger.note)
    Path(path).write_text(text, encoding="utf-8")


def _headline(challenger: Judged, champion: Judged | None) -> Html:
    shown = {}
    for name in ("roc_auc", WORST_BY):
        title = METRICS[name].title
        shown[f"{title}, challenger"] = challenger.result.overall.value(name)
        if champion:
            shown[f"{title}, champion"] = champion.result.overall.value(name)
    worst = challenger.result.worst_slice
    if worst:
        shown[f"{METRICS[WORST_BY].title}, worst slice ({worst.words})"] = worst.measures.value(WORST_BY)
    return numbers(shown)


def _checks(decision: Decision, gate: str) -> Html:
    rows = [
        {"": badge("holds", "good") if check.passed else badge("fails", "bad"), "what the gate asked": check.text}
        for check in decision.checks
    ]
    asked = Html(f"The gate: <code>{gate.replace('<', '&lt;').replace('>', '&gt;')}</code>. All must hold.")
    return section("Why", table(rows), note=asked)


def _overall(challenger: Judged, champion: Judged | None) -> Html:
    rows = []
    for name in HEADLINE:
        ours = challenger.result.overall.value(name)
        row = {"measure": METRICS[name].title, "challenger": ours}
        if champion:
            theirs = champion.result.overall.value(name)
            row |= {"champion": theirs, "change": _change(name, ours, theirs)}
        rows.append(row)
    return section("On all test media", table(rows), note=f"{challenger.result.overall.n:,} pictures and clips.")


def _slices(challenger: Judged, champion: Judged | None) -> Html:
    rows = []
    for ours in challenger.result.slices:
        theirs = champion and champion.result.slice(ours.name)
        row = {"slice": ours.words, "units": ours.measures.n, "challenger": ours.measures.value(WORST_BY)}
        if champion:
            row["champion"] = theirs and theirs.measures.value(WORST_BY)
            row["change"] = _change(WORST_BY, row["challenger"], row["champion"])
        rows.append(row | {"0.5 to 1": _plot(ours, theirs)})
    note = (
        f"{METRICS[WORST_BY].title.capitalize()} with its 95 % interval, "
        + ("challenger above, champion in gray below. " if champion else "")
        + "A slice of one source is measured against all media of the other label. "
        + WORST_RULE
    )
    return section("Slice by slice", table(rows), note=note)


def _changes(challenger: Judged, champion: Judged) -> Html:
    ours, theirs = _answers(challenger), _answers(champion)
    both = sorted(set(ours) & set(theirs))
    counts = {
        "right with both": sum(ours[unit] and theirs[unit] for unit in both),
        "fixed: only the challenger is right": sum(ours[unit] and not theirs[unit] for unit in both),
        "broken: only the champion is right": sum(theirs[unit] and not ours[unit] for unit in both),
        "wrong with both": sum(not ours[unit] and not theirs[unit] for unit in both),
    }
    note = "Answers on the clean test media, each detector at its own threshold."
    return section("What changes for single files", numbers(counts), note=note)


def _answers(judged: Judged) -> dict[str, bool]:
    scores = judged.result.scores
    right = (np.array(scores.probability) >= judged.result.threshold) == (np.array(scores.label) == 1)
    return dict(zip(scores.unit, right.tolist(), strict=True))


def _change(metric: str, ours: float | None, theirs: float | None) -> Html | None:
    changed = change(metric, ours, theirs)
    if changed is None:
        return None
    difference, better = changed
    return badge(f"{difference:+.3f}", "quiet" if abs(difference) < 0.0005 else "good" if better else "bad")


def _plot(ours: SliceResult, theirs: SliceResult | None) -> Html:
    lines = "".join(
        _whisker(part, height, colour)
        for part, height, colour in ((ours, 8, COLOURS["real"]), (theirs, 18, COLOURS["quiet"]))
    )
    return Html(
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="interval">'
        f'<path d="M0.5 0V{HEIGHT}M{WIDTH - 0.5} 0V{HEIGHT}" stroke="#e6e4df"/>{lines}</svg>'
    )


def _whisker(part: SliceResult | None, height: int, colour: str) -> str:
    interval = part and part.interval(WORST_BY)
    if not interval:
        return ""
    ends = (interval.low, interval.high, part.measures.value(WORST_BY))
    low, high, middle = (round((min(max(end, 0.5), 1) - 0.5) * 2 * WIDTH, 1) for end in ends)
    line = f'<path d="M{low} {height}H{high}" stroke="{colour}" stroke-width="2" stroke-linecap="round"/>'
    return f'{line}<circle cx="{middle}" cy="{height}" r="4" fill="{colour}"/>'
