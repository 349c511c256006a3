"""Where a detector holds and where it does not: the same measures on parts of the test split and under degradations."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from components.bootstrap import intervals
from components.evaluation.metrics import calibration_by_chance, measure
from components.units import Units

CLEAN = "clean"
ENOUGH = 10  # units of each label, below which a slice is shown but never called the worst
SIZE_BANDS = (320, 640, 1080)  # short sides of the original, pixels


def slices(
    units: Units, probabilities: Mapping[str, np.ndarray], threshold: float, weights: np.ndarray
) -> list[dict[str, Any]]:
    """Measure every slice.

    Args:
        units: What was scored.
        probabilities: By condition ("clean" and degradations), (units,); NaN where a degradation does not apply.
        threshold: Probability from which the answer is fake.
        weights: Draws of the bootstrap, (draws, units).

    Returns:
        For each slice its name, what it is sliced by, the measures, their intervals, the ECE that chance explains, and
        whether it holds enough units.
        A slice that holds one label only is measured against all units of the other, named in `against`.
    """
    found = []
    for by, name, members, condition in _slices(units, probabilities):
        against = ""
        own = np.bincount(units.label[members], minlength=2)
        chosen = members
        if not own.all() and by not in ("label", "degradation"):
            missing = int(own.argmin())
            against = f"all {('real', 'fake')[missing]}"
            chosen = members | (units.label == missing)
        chosen &= np.isfinite(probabilities[condition])
        labels, answers = units.label[chosen], probabilities[condition][chosen]
        found.append(
            {
                "slice": name,
                "by": by,
                "against": against,
                "enough": bool(min(own[own > 0], default=0) >= ENOUGH and (by == "label" or len(set(labels)) == 2)),
                **measure(labels, answers, threshold),
                "ece_by_chance": calibration_by_chance(labels, answers),
                "intervals": intervals(labels, answers, threshold, weights[:, chosen]),
            }
        )
    return found


def worst(found: list[dict[str, Any]], key: str = "balanced_accuracy", sign: int = 1) -> dict[str, Any] | None:
    """Return the slice with the lowest (sign -1: highest) value among those with enough units, None without any."""
    eligible = [one for one in found if one["enough"] and one["by"] != "all" and one[key] is not None]
    return min(eligible, key=lambda one: sign * one[key], default=None)


def _slices(units: Units, probabilities: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, np.ndarray, str]]:
    yield "all", "all", np.ones(len(units), dtype=bool), CLEAN
    labels = np.array(["real", "fake"], dtype=object)[units.label]
    sizes = np.array([size_band(side) for side in units.short_side], dtype=object)
    for by, values in (("label", labels), ("kind", units.kind), ("source", units.source), ("size", sizes)):
        for value in sorted(set(values), key=_natural):
            yield by, f"{by}:{value}", values == value, CLEAN
    for name, values in probabilities.items():
        if name != CLEAN:
            yield "degradation", name, np.isfinite(values), name


def size_band(short_side: int) -> str:
    """Name the band of an original's short side, in pixels."""
    edges = (0, *SIZE_BANDS)
    low = max(edge for edge in edges if short_side >= edge)
    above = [edge for edge in SIZE_BANDS if edge > low]
    return f"{low}-{above[0] - 1}px" if above else f"{low}px+"


def _natural(value: str) -> tuple[int, str]:
    digits = "".join(character for character in value.split("-")[0] if character.isdigit())
    return (int(digits) if value[:1].isdigit() else 0, value)
