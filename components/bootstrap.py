"""Contract: intervals by drawing groups again (Efron, 1979): what shares a group is drawn together.

All draws are computed at once, as weights: a unit whose group was drawn twice weighs two. The same draws serve every
slice and every detector, so that differences between them are paired.
"""

import numpy as np

from components.evaluation_result import LEVEL, Interval

DRAWS = 1000
AT_ONCE = 4_000_000  # numbers in one temporary array


def draw_weights(groups: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Draw groups with replacement.

    Args:
        groups: The group of each unit, (n,).
        draws: How often as many groups are drawn as there are.
        seed: Of the draws.

    Returns:
        float32, (draws, n): how often each unit's group was drawn.
    """
    _, index = np.unique(groups, return_inverse=True)
    count = index.max() + 1
    random = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(random.integers(0, count, count), minlength=count) for _ in range(draws)])
    return drawn.astype(np.float32)[:, index]


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray, level: float = LEVEL
) -> dict[str, Interval | None]:
    """Return percentile intervals of the measures of some units.

    Args:
        labels: int, (n,), 0 real or 1 fake.
        probabilities: float, (n,), of fake.
        threshold: Probability from which the answer is fake.
        weights: (draws, n), the columns of `draw_weights` of these units.
        level: Of the intervals, in (0, 1).

    Returns:
        The intervals of roc_auc, average_precision, balanced_accuracy, accuracy, accuracy_real and accuracy_fake; None
        where no draw defines it.
    """
    chunk = max(1, AT_ONCE // max(1, len(labels)))
    parts = [
        replicates(labels, probabilities, threshold, weights[start : start + chunk])
        for start in range(0, len(weights), chunk)
    ]
    edges = [(1 - level) / 2, (1 + level) / 2]
    result = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        values = values[np.isfinite(values)]
        result[name] = Interval(*np.quantile(values, edges).tolist()) if len(values) else None
    return result


def replicates(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the measures under each row of weights, (draws,) each; NaN where a draw leaves one undefined."""
    fake = np.asarray(labels) == 1
    right = (np.asarray(probabilities) >= threshold) == fake
    with np.errstate(invalid="ignore", divide="ignore"):
        real_mass, fake_mass = weights[:, ~fake].sum(axis=1), weights[:, fake].sum(axis=1)
        accuracy_real = weights[:, ~fake & right].sum(axis=1) / real_mass
        accuracy_fake = weights[:, fake & right].sum(axis=1) / fake_mass
        auc, precision = _ranking(fake, probabilities, weights)
        return {
            "roc_auc": auc,
            "average_precision": precision,
            "balanced_accuracy": (accuracy_real + accuracy_fake) / 2,
            "accuracy": weights[:, right].sum(axis=1) / (real_mass + fake_mass),
            "accuracy_real": accuracy_real,
            "accuracy_fake": accuracy_fake,
        }


def _ranking(fake: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # By ranks, descending; equal probabilities are one step of the curve.
    order = np.argsort(-np.asarray(probabilities), kind="stable")
    ordered = np.asarray(probabilities)[order]
    steps = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    mass = weights[:, order]
    fakes = np.add.reduceat(mass * fake[order], steps, axis=1)
    reals = np.add.reduceat(mass * ~fake[order], steps, axis=1)
    fakes_above, reals_above = np.cumsum(fakes, axis=1), np.cumsum(reals, axis=1)
    all_fakes, all_reals = fakes_above[:, -1], reals_above[:, -1]
    auc = 1 - (fakes * (reals_above - reals / 2)).sum(axis=1) / (all_fakes * all_reals)
    found = fakes_above + reals_above
    share = np.divide(fakes_above, found, out=np.zeros_like(found), where=found > 0)
    undefined = (all_fakes == 0) | (all_reals == 0)
    return auc, np.where(undefined, np.nan, (fakes * share).sum(axis=1) / all_fakes)
