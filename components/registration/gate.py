"""The gate: from two evaluations to a decision with its reasons. Pure: no clock, no registry, no files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.bootstrap import DRAWS, draw_weights, replicates
from components.errors import InputError

EXAMPLE = "roc_auc+0.002,roc_auc>=0.7,false_positive_rate<=0.5,ece<=0.25"
CONFIDENCE = 0.95  # share of the bootstrap's draws in which the challenger must be no worse on the mean
AT_ONCE = 4_000_000  # weights in memory
WORST_BY = "balanced_accuracy"  # the measure of the worst slice: what a threshold does there, not a ranking
BEATABLE = ("roc_auc", "average_precision", "balanced_accuracy", "accuracy", "accuracy_real", "accuracy_fake")
BOUNDABLE = (*BEATABLE, "false_positive_rate", "ece", "eer")
WORDS = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "accuracy_real": "accuracy on real media",
    "accuracy_fake": "accuracy on fake media",
    "false_positive_rate": "false positive rate on real media",
    "ece": "calibration error (ECE)",
    "eer": "equal error rate",
}

Evaluation = Mapping[str, Any]


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
        """Read a gate from its text."""
        first, *rest = (term.strip() for term in text.split(","))
        number = r"(\d+(?:\.\d+)?|\.\d+)"
        beat = re.fullmatch(rf"({'|'.join(BEATABLE)})\+{number}", first)
        bounds = [re.fullmatch(rf"({'|'.join(BOUNDABLE)})(>=|<=){number}", term) for term in rest]
        if not beat or not all(bounds):
            raise InputError(
                f"gate {text!r} is not understood; write METRIC+MARGIN with one of {', '.join(BEATABLE)}, then floors "
                f"and caps, also of {', '.join(BOUNDABLE[len(BEATABLE) :])}, such as {EXAMPLE!r}"
            )
        return cls(beat[1], float(beat[2]), tuple(Bound(one[1], one[2] == ">=", float(one[3])) for one in bounds))

    def __str__(self) -> str:
        return ",".join([f"{self.metric}+{self.margin:g}", *map(str, self.bounds)])


@dataclass(frozen=True)
class Check:
    """One condition, whether it holds, and the numbers, as a sentence."""

    name: str
    passed: bool
    text: str


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


def decide(challenger: Evaluation, champion: Evaluation | None, gate: Gate) -> Decision:
    """Judge a challenger by its evaluation and the champion's.

    Args:
        challenger: One detector's evaluation: its result, with rows_digest, certificate and audit of its test.
        champion: The champion's, with its `version`; None where there is none.
        gate: What must be shown.

    Returns:
        The decision; every check that could be made is in it, passed or not.
    """
    if champion and champion["digest"] == challenger["digest"]:
        return Decision((Check("itself", False, f"it is the champion itself, version {champion['version']}"),))
    if champion is None:
        checks = [Check("champion", True, "there is no champion to beat")]
    elif not _same_rows(challenger, champion):
        checks = [Check("rows", False, "the champion was evaluated on other rows: evaluate both on the same ones")]
    else:
        checks = [_better_on_the_mean(challenger, champion, gate), _no_worse_at_its_worst(challenger, champion)]
    checks += [_bound(bound, challenger["overall"]) for bound in gate.bounds]
    return Decision((*checks, _certificate(challenger), _audit(challenger)))


def sides(evaluation: Evaluation) -> tuple[Evaluation, Evaluation | None]:
    """Return the candidate's evaluation and the champion's, each with what both share."""
    shared = {key: evaluation.get(key) for key in ("note", "rows_digest", "certificate", "audit")}
    champion = evaluation["champion"]
    version = {"version": evaluation["champion_version"]}
    return {**shared, **evaluation["candidate"]}, champion and {**shared, **champion, **version}


def conditions(scores: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Return the probabilities of the units by condition: clean, and under each degradation."""
    return {"clean": scores["probability"], **scores.get("degraded", {})}


def worst_slice(evaluation: Evaluation) -> Mapping[str, Any] | None:
    """Return the slice with the lowest lower confidence bound, of those with enough units; None where there is none."""
    bounded = [one for one in evaluation["slices"] if one["enough"] and one["intervals"].get(WORST_BY)]
    return min(bounded, key=lambda one: one["intervals"][WORST_BY][0], default=None)


def _bound(bound: Bound, overall: Mapping[str, Any]) -> Check:
    value = overall.get(bound.metric)
    if bound.metric == "false_positive_rate" and overall.get("accuracy_real") is not None:
        value = 1 - overall["accuracy_real"]
    holds = bound.holds(value)
    verdict = ("is below", "is not below")[holds] if bound.at_least else ("is above", "is not above")[holds]
    side = "floor" if bound.at_least else "cap"
    shown = "undefined" if value is None else f"{value:.4f}"
    return Check(str(bound), holds, f"{WORDS[bound.metric]} {shown} {verdict} its {side} of {bound.value:g}")


def _certificate(challenger: Evaluation) -> Check:
    certificate = challenger.get("certificate") or {"holds": False, "text": "the dataset has none"}
    verb = "holds" if certificate["holds"] else "does not hold"
    return Check("certificate", bool(certificate["holds"]), f"the split certificate {verb}: {_clause(certificate)}")


def _audit(challenger: Evaluation) -> Check:
    audit = challenger.get("audit") or {"verdict": "fail", "text": "the dataset has none"}
    failed = audit["verdict"] == "fail"
    return Check("audit", not failed, f"the confound audit {'fails' if failed else 'does not fail'}: {_clause(audit)}")


def _clause(finding: Mapping[str, Any]) -> str:
    text = finding["text"].rstrip(".")
    return text[:1].lower() + text[1:]


def _same_rows(challenger: Evaluation, champion: Evaluation) -> bool:
    return challenger["rows_digest"] == champion["rows_digest"] and sorted(challenger["scores"]["unit"]) == sorted(
        champion["scores"]["unit"]
    )


def _better_on_the_mean(challenger: Evaluation, champion: Evaluation, gate: Gate) -> Check:
    names = sorted(set(conditions(challenger["scores"])) & set(conditions(champion["scores"])))
    both = [_Scored(one, names, gate.metric) for one in (challenger, champion)]
    once = np.ones((1, len(both[0].groups)), "float32")
    ours, theirs = (one.under(once)[:, 0] for one in both)
    defined = np.isfinite(ours - theirs)
    mean = WORDS[gate.metric]
    if not defined.any():
        return Check("mean", False, f"{mean} is undefined on these rows, so the champion is not beaten")
    if defined.sum() > 1:
        mean = f"the mean {mean} over clean and {defined.sum() - 1} degraded conditions"
    ours, theirs = ours[defined].mean(), theirs[defined].mean()
    gain, lowest = ours - theirs, np.nanquantile(_gains(*both, defined), 1 - CONFIDENCE)
    text = (
        f"{mean} is {ours:.4f} against {theirs:.4f} of the champion, version {champion['version']}: {gain:+.4f}, "
        f"at least {lowest:+.4f} in {CONFIDENCE:.0%} of paired draws"
    )
    if gain < gate.margin:
        return Check("mean", False, f"{text}, and the margin is {gate.margin:g}")
    if lowest < 0:
        return Check("mean", False, f"{text}, so it may be chance")
    return Check("mean", True, text)


def _gains(ours: "_Scored", theirs: "_Scored", defined: np.ndarray) -> np.ndarray:
    """Return by how much the mean over conditions is better in each of the paired draws."""
    found = []
    size = max(1, AT_ONCE // len(ours.groups))
    for start in range(0, DRAWS, size):
        weights = draw_weights(ours.groups, min(size, DRAWS - start), seed=start)
        change = (ours.under(weights) - theirs.under(weights))[defined]
        # A draw may leave a small condition without one of the labels: then the others speak for it.
        met = np.isfinite(change)
        with np.errstate(invalid="ignore"):
            found.append(np.where(met, change, 0).sum(axis=0) / met.sum(axis=0))
    return np.concatenate(found)


class _Scored:
    """One evaluation's scores by condition, its units in the order of their names, to be measured under weights."""

    def __init__(self, evaluation: Evaluation, names: Sequence[str], metric: str):
        scores = evaluation["scores"]
        order = np.argsort(scores["unit"], kind="stable")
        self.groups, self.labels = (np.asarray(scores[key])[order] for key in ("group", "label"))
        # A unit that does not meet a condition has None there, which becomes NaN.
        self.probabilities = [np.array(conditions(scores)[name], dtype=float)[order] for name in names]
        self.threshold, self.metric = evaluation["threshold"], metric

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric by condition and row of weights, (conditions, rows)."""
        found = []
        for values in self.probabilities:
            met = np.isfinite(values)
            measured = replicates(self.labels[met], values[met], self.threshold, weights[:, met])
            found.append(measured[self.metric])
        return np.array(found)


def _no_worse_at_its_worst(challenger: Evaluation, champion: Evaluation) -> Check:
    worst = worst_slice(challenger)
    theirs = {one["slice"]: one["intervals"].get(WORST_BY) for one in champion["slices"]}
    if worst is None or not theirs.get(worst["slice"]):
        return Check("worst slice", False, f"no slice has units enough to bound its {WORDS[WORST_BY]}")
    ours, bound = worst["intervals"][WORST_BY][0], theirs[worst["slice"]][0]
    passed = ours >= bound
    text = (
        f"on its worst slice, {worst['slice']}, the lower bound of {WORDS[WORST_BY]} is {ours:.4f}, "
        f"{'not below' if passed else 'below'} the champion's {bound:.4f}"
    )
    return Check("worst slice", passed, text)
