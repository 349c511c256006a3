"""The gate: from an evaluation to a decision with its reasons. Pure: no clock, no registry, no files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import InputError

# A first champion must be clearly better than chance and roughly calibrated; a later one must be measurably better.
DEFAULT = "roc_auc+0.002,roc_auc>=0.7,balanced_accuracy>=0.6,ece<=0.25"
METRICS = (
    "roc_auc",
    "average_precision",
    "balanced_accuracy",
    "accuracy",
    "accuracy_real",
    "accuracy_fake",
    "ece",
    "eer",
)


@dataclass(frozen=True)
class Bound:
    """A floor or a cap for one metric of the candidate."""

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
    """What a candidate must show: written `METRIC+MARGIN[,METRIC>=FLOOR|,METRIC<=CAP]...`.

    Attributes:
        metric: On which the candidate must beat the champion, the larger the better.
        margin: By at least how much.
        bounds: What the candidate must hold with or without a champion.
    """

    metric: str
    margin: float
    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Read a gate from its text."""
        first, *rest = (term.strip() for term in text.split(","))
        number = r"(\d+(?:\.\d+)?|\.\d+)"
        beat = re.fullmatch(rf"(\w+)\+{number}", first)
        bounds = [re.fullmatch(rf"(\w+)(>=|<=){number}", term) for term in rest]
        if not beat or not all(bounds) or not {beat[1], *(bound[1] for bound in bounds)} <= set(METRICS):
            raise InputError(
                f"gate {text!r} is not understood; write METRIC+MARGIN and then floors and caps, such as {DEFAULT!r}, "
                f"of {', '.join(METRICS)}"
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


def decide(evaluation: Mapping[str, Any], gate: Gate) -> Decision:
    """Judge the candidate of an evaluation.

    Args:
        evaluation: What `evaluate` wrote: the candidate, and the champion on the same rows or None.
        gate: What must be shown.

    Returns:
        The decision; every check is in it, passed or not.
    """
    candidate, champion = evaluation["candidate"]["overall"], evaluation["champion"]
    checks = [_bound(bound, candidate.get(bound.metric)) for bound in gate.bounds]
    if champion is None:
        checks.append(Check("champion", True, "there is no champion to beat"))
    else:
        checks.append(_beats(gate, candidate, champion["overall"], evaluation["champion_version"]))
    return Decision(tuple(checks))


def _bound(bound: Bound, value: float | None) -> Check:
    holds = bound.holds(value)
    side = "floor" if bound.at_least else "cap"
    verdict = "within" if holds else "below" if bound.at_least else "above"
    shown = "undefined" if value is None else f"{value:.4f}"
    return Check(str(bound), holds, f"{bound.metric} {shown} is {verdict} its {side} of {bound.value:g}")


def _beats(gate: Gate, candidate: Mapping[str, Any], champion: Mapping[str, Any], version: str) -> Check:
    ours, theirs = candidate.get(gate.metric), champion.get(gate.metric)
    if ours is None or theirs is None:
        return Check("champion", False, f"{gate.metric} is undefined on these rows, so the champion is not beaten")
    passed = ours - theirs >= gate.margin
    text = (
        f"{gate.metric} {ours:.4f} against {theirs:.4f} of the champion, version {version}: {ours - theirs:+.4f}, "
        f"{'at least' if passed else 'not'} the margin of {gate.margin:g}"
    )
    return Check("champion", passed, text)
