"""Contract: confidence intervals, exact for rates, and by drawing groups again (Efron, 1979) for rankings.

What shares a group is drawn together. All draws are computed at once, as weights: a unit whose group was drawn twice
weighs two. The same draws serve every slice and every detector, so that differences between them are paired.
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
        seed: Random seed of the draws.

    Returns:
        float32, (draws, n): how often each unit's group was drawn.
    """
    _, index = np.unique(groups, return_inverse=True)
    count = index.max() + 1
    random = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(random.integers(0, count, count), minlength=count) for _ in range(draws)])
    return drawn.astype(np.float32)[:, index]


def intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    weights: np.ndarray,
    level: float = LEVEL,
) -> dict[str, Interval | None]:
    """Return confidence intervals of the measures of some units.

    The draws of a bootstrap all agree where every answer is right, so what counts answers has an exact interval
    instead: that of a rate, `exact_interval`. Balanced accuracy takes the means of the two rates' ends, which never
    covers less than the level: enumerated over both rates it covers at least 97 % of the time at 95 %, for 1 + 1 units
    and for 40 + 40. The closer combination by variance estimates (Zou and Donner, Statistics in Medicine, 2008) covers
    90 % and 93 % at 1 + 1 and 20 + 20 units, so it is not used. It has to be one method for all rates: a bootstrap for
    99 right answers of 100 beside the exact interval for 100 would put the better detector lower.

    The ranking measures are bootstrapped over groups. Where every real unit is ranked below every fake, disjoint pairs
    of one of each are independent trials that all succeeded, which bounds ROC AUC exactly; nothing bounds average
    precision there.

    Args:
        labels: int, (n,), 0 real or 1 fake.
        probabilities: float, (n,), of fake.
        groups: The group of each unit, (n,).
        threshold: Probability from which the answer is fake.
        weights: (draws, n), the columns of `draw_weights` of these units.
        level: Confidence of the intervals, in (0, 1).

    Returns:
        The intervals of roc_auc, average_precision, balanced_accuracy, accuracy, accuracy_real and accuracy_fake; None
        where none is defined.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    right = (np.asarray(probabilities) >= threshold) == (labels == 1)
    rates: dict[str, Interval | None] = {}
    trials = {}
    for name, chosen in (("accuracy", labels >= 0), ("accuracy_real", labels == 0), ("accuracy_fake", labels == 1)):
        trials[name] = effective_count(groups[chosen])
        rates[name] = exact_interval(float(right[chosen].mean()), trials[name], level) if chosen.any() else None
    real, fake = rates["accuracy_real"], rates["accuracy_fake"]
    balanced = (
        Interval((real.low + fake.low) / 2, (real.high + fake.high) / 2, "conservative") if real and fake else None
    )
    pairs = min(trials["accuracy_real"], trials["accuracy_fake"])
    return {**_of_ranking(labels, probabilities, weights, pairs, level), "balanced_accuracy": balanced, **rates}


def exact_interval(rate: float, trials: float, level: float = LEVEL) -> Interval:
    """Return the exact interval of a rate (Clopper and Pearson, Biometrika, 1934).

    Args:
        rate: Share of successes, in [0, 1].
        trials: Number of independent trials, above 0; a fraction where it is an effective number, as Korn and Graubard
            (Survey Methodology, 1998) use it for clustered samples.
        level: Confidence of the interval, in (0, 1).
    """
    from scipy.stats import beta

    tail, successes = (1 - level) / 2, rate * trials
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return Interval(low, high, "exact")


def effective_count(groups: np.ndarray) -> float:
    """Return the effective number of independent units, supposing that the units of a group always answer alike.

    Kish's formula (Survey Sampling, 1965): the square of the sum of the groups' sizes over the sum of their squares.

    Args:
        groups: The group of each unit, (n,).

    Returns:
        As many as there are units if each is a group of its own, fewer otherwise; 0 without units.
    """
    sizes = np.unique(groups, return_counts=True)[1].astype(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def _of_ranking(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, pairs: float, level: float
) -> dict[str, Interval | None]:
    if not pairs:
        return {"roc_auc": None, "average_precision": None}
    everything = np.ones((1, len(labels)), np.float32)
    auc = float(_ranking(labels == 1, probabilities, everything)[0][0])
    if auc in (0.0, 1.0):
        return {"roc_auc": exact_interval(auc, pairs, level), "average_precision": None}
    chunk = max(1, AT_ONCE // len(labels))
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [
            _ranking(labels == 1, probabilities, weights[start : start + chunk])
            for start in range(0, len(weights), chunk)
        ]
    result: dict[str, Interval | None] = {}
    for name, values in zip(
        ("roc_auc", "average_precision"), map(np.concatenate, zip(*parts, strict=True)), strict=True
    ):
        values = values[np.isfinite(values)]
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(values) else None
        result[name] = Interval(*ends) if ends else None
    return result


def replicates(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure some units under each row of weights.

    Args:
        labels: int, (n,), 0 real or 1 fake.
        probabilities: float, (n,), of fake.
        threshold: Probability from which the answer is fake.
        weights: (draws, n): how often each unit counts.

    Returns:
        By metric the values, (draws,) each; NaN where a draw leaves one undefined.
    """
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
    called_fake = fakes_above + reals_above
    share = np.divide(fakes_above, called_fake, out=np.zeros_like(called_fake), where=called_fake > 0)
    undefined = (all_fakes == 0) | (all_reals == 0)
    return auc, np.where(undefined, np.nan, (fakes * share).sum(axis=1) / all_fakes)
