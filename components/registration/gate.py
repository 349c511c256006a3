"""The gate: from two evaluations to a decision with its reasons. Pure: no clock, no registry, no files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.bootstrap import DRAWS, draw_weights, replicates
from components.errors import InputError
from components.evaluation_result import METRICS, WORST_BY, DetectorResult, Judged, audit_in_words

EXAMPLE = "roc_auc+0.002,roc_auc>=0.7,false_positive_rate<=0.5,ece<=0.25"
CONFIDENCE = 0.95  # share of the bootstrap's draws in which the challenger must be no worse on the mean
AT_ONCE = 4_000_000  # weights in memory
BEATABLE = tuple(metric.name for metric in METRICS.values() if metric.can_be_beaten)
BOUNDABLE = tuple(metric.name for metric in METRICS.values() if metric.can_be_bounded)


@dataclass(frozen=True)
class Bound:
    """A floor or a cap for one metric of the challenger."""

    metric: str
    at_least: bool
    value: float

    def __str__(self) -> str:
        return f"{self.metric}{'>=' if self.at_least else '<='}{self.value:g}"

    def holds(self, value: float | None) -> bool:
        """Say whether a value satisfies the bound; one that is undefined does not."""
        return value is not None and (value >= self.value if self.at_least else value <= self.value)


@dataclass(frozen=True)
class Gate:
    """What a challenger must show: written `METRIC+MARGIN[,METRIC>=FLOOR|,METRIC<=CAP]...`.

    Attributes:
        metric: On which it must beat the champion, the larger the better, in [0, 1].
        margin: By at least how much on the mean.
        bounds: What it must hold with or without a champion.
    """

    metric: str
    margin: float
    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Read a gate from its text.

        Args:
            text: As in `EXAMPLE`: first what must be beaten, then floors and caps.

        Raises:
            InputError: The text is not of that form, or a metric is not known or cannot be beaten or bounded.
        """
        first, *rest = (term.strip() for term in text.split(","))
        number = r"(\d+(?:\.\d+)?|\.\d+)"
        beat = re.fullmatch(rf"({'|'.join(BEATABLE)})\+{number}", first)
        matches = [re.fullmatch(rf"({'|'.join(BOUNDABLE)})(>=|<=){number}", term) for term in rest]
        bounds = [term for term in matches if term]
        if not beat or len(bounds) < len(rest):
            raise InputError(
                f"gate {text!r} is not understood; write METRIC+MARGIN with one of {', '.join(BEATABLE)}, then floors "
                f"and caps, also for {', '.join(name for name in BOUNDABLE if name not in BEATABLE)}, such as "
                f"{EXAMPLE!r}"
            )
        return cls(beat[1], float(beat[2]), tuple(Bound(term[1], term[2] == ">=", float(term[3])) for term in bounds))

    def __str__(self) -> str:
        return ",".join([f"{self.metric}+{self.margin:g}", *map(str, self.bounds)])


@dataclass(frozen=True)
class Check:
    """One condition of the gate.

    Attributes:
        name: What it is called.
        passed: Whether it holds.
        text: Why, with the numbers, as a clause.
        warns: Whether it holds only because a policy allows what was found.
    """

    name: str
    passed: bool
    text: str
    warns: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether to promote, by which checks."""

    checks: tuple[Check, ...]

    @property
    def promote(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """The sentences that decided: of the failed checks, or of all where none failed."""
        return [check.text for check in self.checks if self.promote or not check.passed]


def decide(challenger: Judged, champion: Judged | None, gate: Gate) -> Decision:
    """Judge a challenger by its evaluation and the champion's.

    Args:
        challenger: The challenger's result.
        champion: The champion's; None where there is none.
        gate: What must be shown.

    Returns:
        The decision; every check that could be made is in it, passed or not.
    """
    if champion and champion.result.digest == challenger.result.digest:
        return Decision((Check("itself", False, f"it is the champion itself, version {champion.version}"),))
    if champion is None:
        checks = [Check("champion", True, "there is no champion to beat")]
    elif not _same_rows(challenger, champion):
        checks = [Check("rows", False, "the champion was evaluated on other rows: evaluate both on the same rows")]
    else:
        checks = [_better_on_the_mean(challenger, champion, gate), _no_worse_at_its_worst(challenger, champion)]
    checks += [_bound(bound, challenger.result) for bound in gate.bounds]
    return Decision((*checks, _certificate(challenger), _audit(challenger)))


def _bound(bound: Bound, result: DetectorResult) -> Check:
    value = result.value(bound.metric)
    holds = bound.holds(value)
    side, beyond = ("floor", "below") if bound.at_least else ("cap", "above")
    verdict = f"not {beyond}" if holds else beyond
    everything = result.slice("all")
    interval = everything and everything.interval(bound.metric)
    shown = "undefined" if value is None else f"{value:.4f}"
    between = f" (95 % interval {interval.low:.3f} to {interval.high:.3f})" if interval else ""
    title = METRICS[bound.metric].title
    return Check(str(bound), holds, f"{title} is {shown}{between}, {verdict} its {side} of {bound.value:g}")


def _certificate(challenger: Judged) -> Check:
    certificate = challenger.certificate or {"holds": False, "text": "the dataset has none"}
    verb = "holds" if certificate["holds"] else "does not hold"
    return Check(
        "certificate", bool(certificate["holds"]), f"the split certificate {verb}: {_clause(certificate['text'])}"
    )


def _audit(challenger: Judged) -> Check:
    verdict = challenger.audit["verdict"] if challenger.audit else "fail"
    return Check("audit", verdict != "fail", _clause(audit_in_words(challenger.audit)), warns=verdict == "warn")


def _clause(sentence: str) -> str:
    text = sentence.rstrip(".")
    return text[:1].lower() + text[1:]


def _same_rows(challenger: Judged, champion: Judged) -> bool:
    return challenger.rows_digest == champion.rows_digest and sorted(challenger.result.scores.unit) == sorted(
        champion.result.scores.unit
    )


def _better_on_the_mean(challenger: Judged, champion: Judged, gate: Gate) -> Check:
    names = sorted(set(challenger.result.scores.conditions) & set(champion.result.scores.conditions))
    both = _Scored(challenger.result, names, gate.metric), _Scored(champion.result, names, gate.metric)
    once = np.ones((1, len(both[0].groups)), "float32")
    ours, theirs = (scored.under(once)[:, 0] for scored in both)
    defined = np.isfinite(ours - theirs)
    mean = METRICS[gate.metric].title
    if not defined.any():
        return Check("mean", False, f"{mean} is undefined on these rows, so the champion is not beaten")
    if defined.sum() > 1:
        mean = f"the mean {mean} over clean and {defined.sum() - 1} degraded conditions"
    ours, theirs = ours[defined].mean(), theirs[defined].mean()
    gain, lowest = ours - theirs, np.nanquantile(_gains(*both, defined), 1 - CONFIDENCE)
    text = (
        f"{mean} is {ours:.4f} against {theirs:.4f} of the champion, version {champion.version}: {gain:+.4f}, "
        f"at least {lowest:+.4f} in {100 * CONFIDENCE:.0f} % of paired draws"
    )
    if gain < gate.margin:
        return Check("mean", False, f"{text}, and the margin is {gate.margin:g}")
    if lowest < 0:
        return Check("mean", False, f"{text}, so it may be chance")
    return Check("mean", True, text)


def _gains(ours: "_Scored", theirs: "_Scored", defined: np.ndarray) -> np.ndarray:
    """Return by how much the mean over conditions is better in each of the paired draws."""
    gains = []
    size = max(1, AT_ONCE // len(ours.groups))
    for start in range(0, DRAWS, size):
        weights = draw_weights(ours.groups, min(size, DRAWS - start), seed=start)
        change = (ours.under(weights) - theirs.under(weights))[defined]
        # A draw may leave a small condition without one of the labels: then the others speak for it.
        met = np.isfinite(change)
        with np.errstate(invalid="ignore"):
            gains.append(np.where(met, change, 0).sum(axis=0) / met.sum(axis=0))
    return np.concatenate(gains)


class _Scored:
    """One evaluation's scores by condition, its units in the order of their names, to be measured under weights."""

    def __init__(self, result: DetectorResult, names: Sequence[str], metric: str):
        scores = result.scores
        order = np.argsort(scores.unit, kind="stable")
        self.groups, self.labels = np.asarray(scores.group)[order], np.asarray(scores.label)[order]
        # A unit that does not meet a condition has None there, which becomes NaN.
        self.probabilities = [np.array(scores.conditions[name], dtype=float)[order] for name in names]
        self.threshold, self.metric = result.threshold, metric

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric by condition and row of weights, (conditions, rows)."""
        measured = []
        for values in self.probabilities:
            met = np.isfinite(values)
            by_metric = replicates(self.labels[met], values[met], self.threshold, weights[:, met])
            measured.append(by_metric[self.metric])
        return np.array(measured)


def _no_worse_at_its_worst(challenger: Judged, champion: Judged) -> Check:
    worst = challenger.result.worst_slice
    theirs = champion.result.slice(worst.name) if worst else None
    title = METRICS[WORST_BY].title
    our_interval = worst.interval(WORST_BY) if worst else None
    their_interval = theirs.interval(WORST_BY) if theirs else None
    if not worst or not our_interval or not their_interval:
        return Check("worst slice", False, f"no slice holds enough units to bound its {title}")
    ours, bound = our_interval.low, their_interval.low
    passed = ours >= bound
    text = (
        f"on its worst slice, {worst.words}, the lower end of the interval of {title} is {ours:.4f}, "
        f"{'not below' if passed else 'below'} the champion's {bound:.4f}"
    )
    return Check("worst slice", passed, text)
