"""What a detector answers at all, and how often it is wrong with confidence: by condition and by source."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from components.evaluation_result import ConditionAnswers, SourceAnswers
from components.runtime import verdict_of
from components.units import Units


def verdicts(card: Mapping[str, Any], probabilities: np.ndarray, familiarity: np.ndarray) -> np.ndarray:
    """Return what is answered of some units: "real", "fake" or "unsure", (units,).

    Args:
        card: The detector's.
        probabilities: Of fake, calibrated, (units,).
        familiarity: Of the units, (units,).
    """
    lowest = card["familiarity"]["threshold"]
    return np.array(
        [
            verdict_of(card, float(value)) if familiar >= lowest else "unsure"
            for value, familiar in zip(probabilities, familiarity, strict=True)
        ],
        dtype=object,
    )


def answered(
    name: str, card: Mapping[str, Any], units: Units, probabilities: np.ndarray, familiarity: np.ndarray
) -> ConditionAnswers:
    """Sum up the verdicts under one condition.

    Args:
        name: Of the condition.
        card: The detector's.
        units: What was scored.
        probabilities: Of fake, calibrated, (units,); NaN where the condition does not apply.
        familiarity: Of the units, (units,), likewise.
    """
    known = np.isfinite(probabilities) & np.isfinite(familiarity)
    units, probabilities, familiarity = units.only(known), probabilities[known], familiarity[known]
    said = verdicts(card, probabilities, familiarity)
    sources = sorted({(str(source), int(label)) for source, label in zip(units.source, units.label, strict=True)})
    return ConditionAnswers(
        name=name,
        all=_summed("all", said, units.label, familiarity, card),
        by_source=[
            _summed(source, said[own], units.label[own], familiarity[own], card)
            for source, label in sources
            for own in [(units.source == source) & (units.label == label)]
        ],
        least_familiar=[units.path[place] for place in np.argsort(familiarity, kind="stable")[:12].tolist()],
    )


def _summed(
    source: str, said: np.ndarray, label: np.ndarray, familiarity: np.ndarray, card: Mapping[str, Any]
) -> SourceAnswers:
    wrong = said == np.where(label == 1, "real", "fake")
    return SourceAnswers(
        source=source,
        label={1: "fake", 0: "real"}[int(label[0])] if len(set(label.tolist())) == 1 else "both",
        n=len(label),
        answered=float((said != "unsure").mean()),
        wrong=float(wrong.mean()),
        unfamiliar=float((familiarity < card["familiarity"]["threshold"]).mean()),
    )
