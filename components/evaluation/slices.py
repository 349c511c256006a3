"""Where a detector holds and where it does not: the same measures on parts of the test split and under degradations."""

from collections.abc import Iterator, Mapping

import numpy as np

from components.bootstrap import intervals
from components.evaluation.metrics import calibration_by_chance, measure
from components.evaluation_result import CLEAN, ENOUGH, SliceResult
from components.units import Units

SIZE_BANDS = (320, 640, 1080)  # short sides of the original, pixels


def slices(
    units: Units, probabilities: Mapping[str, np.ndarray], threshold: float, weights: np.ndarray
) -> list[SliceResult]:
    """Measure every slice.

    Args:
        units: What was scored.
        probabilities: By condition ("clean" and degradations), (units,); NaN where a degradation does not apply.
        threshold: Probability from which the answer is fake.
        weights: Draws of the bootstrap, (draws, units).

    Returns:
        One result for each slice. A slice that holds one label only is measured against all units of the other.
    """
    results = []
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
        results.append(
            SliceResult(
                name=name,
                by=by,
                against=against,
                enough=bool(min(own[own > 0], default=0) >= ENOUGH and (by == "label" or len(set(labels)) == 2)),
                measures=measure(labels, answers, threshold),
                ece_by_chance=calibration_by_chance(labels, answers),
                intervals=intervals(labels, answers, units.group[chosen], threshold, weights[:, chosen]),
            )
        )
    return results


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
