"""How the slices of an evaluation stand on a page: the evaluation page and the decision page show the same."""

from markupsafe import Markup

from components.evaluation_result import ENOUGH, METRICS, WORST_BY, DetectorResult, Interval, SliceResult, change
from components.page import parts

GROUPS = {
    "kind": "By kind of media",
    "source": "By source, against all media of the other label",
    "size": "By size of the original",
    "degradation": "After degradation",
    "tier": "By tier of delivery",
}
FEW_SOURCES = 6  # so many that prove little are shown among the others; more are folded away


def forest(ours: DetectorResult, theirs: DetectorResult | None = None, names: tuple[str, str] = ("", "")) -> Markup:
    """Return the balanced accuracy of every slice with its interval, the worst slice marked.

    Args:
        ours: The detector that is judged.
        theirs: The detector it is compared with; None for none.
        names: What both are called, for the legend.
    """
    slices = [part for part in ours.slices if part.measures.value(WORST_BY) is not None]
    small = [part for part in slices if part.by == "source" and not part.enough]
    apart = small if len(small) > FEW_SOURCES else []
    rows, group = [], ""
    for part in slices:
        if part in apart:
            continue
        heading = GROUPS.get(part.by, "")
        rows.append(_row(part, ours, theirs, heading if heading != group else ""))
        group = heading
    legend = [("95 % interval", "fake", "")] if theirs is None else [(names[0], "fake", ""), (names[1], "quiet", "")]
    few = (
        [(f"pale: fewer than {ENOUGH} units of a label", "quiet", "block")]
        if any(row.kind == "few" for row in rows)
        else []
    )
    axis = METRICS[WORST_BY].title
    key = parts.legend([*legend, *few, ("guessing", "quiet", "dashed")])
    if not apart:
        return Markup("").join([parts.forest(rows, axis), key])
    others = parts.forest([_row(part, ours, theirs, "") for part in apart], axis)
    summary = f"{len(apart)} sources with fewer than {ENOUGH} units, against all media of the other label"
    return Markup("").join([parts.forest(rows, axis), key, parts.details(summary, others)])


def change_badge(metric: str, ours: float | None, theirs: float | None) -> Markup | None:
    """Return the change of a metric as a coloured word; None where a value is undefined.

    Args:
        metric: A key of METRICS.
        ours: The value of the detector that is judged.
        theirs: The value of the detector it is compared with.
    """
    changed = change(metric, ours, theirs)
    if changed is None:
        return None
    difference, better = changed
    tone = "quiet" if abs(difference) < 0.0005 else "good" if better else "bad"
    return parts.badge(f"{difference:+.3f}", tone)


def with_interval(value: float | None, interval: Interval | None) -> str | None:
    """Return a value with its interval, such as "0.912 (0.85–0.96)"; None where the value is undefined.

    Args:
        value: Of a metric.
        interval: Its interval; None for none.
    """
    if value is None or interval is None:
        return None if value is None else f"{value:.3f}"
    return f"{value:.3f}\N{NO-BREAK SPACE}({ends(interval)})"


def ends(interval: Interval) -> str:
    """Return an interval in figures, such as "0.85–0.96", that no line break splits.

    Args:
        interval: With ends in [0, 1].
    """
    return f"{interval.low:.2f}\N{WORD JOINER}\N{EN DASH}\N{WORD JOINER}{interval.high:.2f}"


def _row(part: SliceResult, ours: DetectorResult, theirs: DetectorResult | None, group: str) -> parts.Row:
    other = theirs and theirs.slice(part.name)
    marks = [_mark(part, "fake")] + ([_mark(other, "quiet")] if other and other.measures.value(WORST_BY) else [])
    measures = part.measures
    return parts.Row(
        name=part.words.removeprefix("source "),
        marks=marks,
        value=with_interval(measures.value(WORST_BY), part.interval(WORST_BY)),
        units=f"{measures.n_real:,} real, {measures.n_fake:,} fake",
        group=group,
        kind="all" if part.by == "all" else "" if part.enough else "few",
        mark=parts.badge("worst slice", "bad") if part == ours.worst_slice else None,
    )


def _mark(part: SliceResult, tone: str) -> parts.Mark:
    interval = part.interval(WORST_BY)
    low, high = (interval.low, interval.high) if interval else (None, None)
    value = part.measures.value(WORST_BY)
    return parts.Mark(float("nan") if value is None else value, low, high, tone=tone)
