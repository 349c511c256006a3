"""What is measured of a detector's answers: ranking, decisions, calibration.

Labels are 0 real and 1 fake; probabilities are of fake. A measure that the labels leave undefined (a ranking of a
single class) is None, never NaN.
"""

import numpy as np

from components.evaluation_result import Measures

BINS = 10  # of a reliability plot
MOST_BINS = 50
CHANCE_DRAWS = 200  # of the labels that perfect probabilities would bring
CHANCE_LEVEL = 0.95


def measure(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> Measures:
    """Measure a detector's answers on some units.

    Args:
        labels: int, (n,), 0 real or 1 fake.
        probabilities: float, (n,), of fake, in [0, 1].
        threshold: Probability from which the answer is fake.

    Returns:
        Every measure; None for those that the labels leave undefined.
    """
    from sklearn import metrics

    labels = np.asarray(labels, dtype=np.int64)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    answers = (probabilities >= threshold).astype(np.int64)
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    both = n_real > 0 and n_fake > 0
    confusion = metrics.confusion_matrix(labels, answers, labels=[0, 1]) if len(labels) else np.zeros((2, 2), int)
    accuracy_real = confusion[0, 0] / n_real if n_real else None
    accuracy_fake = confusion[1, 1] / n_fake if n_fake else None
    values = {
        "roc_auc": metrics.roc_auc_score(labels, probabilities) if both else None,
        "average_precision": metrics.average_precision_score(labels, probabilities) if both else None,
        "balanced_accuracy": np.mean([accuracy_real, accuracy_fake]) if both else None,
        "accuracy": np.trace(confusion) / len(labels) if len(labels) else None,
        "accuracy_real": accuracy_real,
        "accuracy_fake": accuracy_fake,
        "ece": expected_calibration_error(labels, probabilities),
        "eer": equal_error_rate(labels, probabilities) if both else None,
    }
    known: dict[str, float | None] = {name: None if value is None else float(value) for name, value in values.items()}
    return Measures(n=len(labels), n_real=n_real, n_fake=n_fake, **known, confusion=confusion.tolist())


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the calibration error by ECE-sweep (Roelofs et al., 2022), both labels weighing the same.

    Bins of equal count, as many as leave the share of fakes rising from bin to bin. On a few hundred units, bins of a
    fixed number measure mostly chance: 0.08 for a perfect calibration of 150 units in 10 bins.

    Returns:
        In [0, 1]; None for one label only, where no prior is left to be right about.
    """
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        return None
    order = np.argsort(probabilities, kind="stable")
    labels, probabilities = np.asarray(labels)[order], np.asarray(probabilities, dtype=np.float64)[order]
    weights = 0.5 / counts[labels]
    mass, said, came = (
        np.r_[0.0, np.cumsum(values)] for values in (weights, weights * probabilities, weights * labels)
    )
    error = 0.0
    for bins in range(1, min(len(labels), MOST_BINS) + 1):
        last = np.linspace(0, len(labels), bins + 1).round().astype(int)[1:] - 1
        edges = np.unique(np.r_[0, np.searchsorted(probabilities, probabilities[last], side="right")])  # no tie is cut
        share = np.diff(came[edges]) / np.diff(mass[edges])
        if (np.diff(share) < 0).any():
            break
        error = float(np.abs(np.diff(said[edges]) - np.diff(came[edges])).sum())
    return error


def calibration_by_chance(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> float | None:
    """Return the ECE below which perfect probabilities stay 19 times in 20, on as few units.

    An ECE below it is no evidence against the calibration; one above is. The labels are drawn from the probabilities,
    at the labels' own shares (parametric bootstrap, as in Broecker and Smith, 2007).

    Args:
        labels: int, (n,); their shares alone count.
        probabilities: float, (n,), of fake at equal shares of both labels.
        seed: Random seed of the draws.

    Returns:
        In [0, 1]; None for one label only.
    """
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        return None
    said = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-6, 1 - 1e-6)
    share = said * counts[1] / (said * counts[1] + (1 - said) * counts[0])
    drawn = np.random.default_rng(seed).random((CHANCE_DRAWS, len(said))) < share
    measured = (expected_calibration_error(labels.astype(np.int64), said) for labels in drawn)
    errors = [error for error in measured if error is not None]
    return float(np.quantile(errors, CHANCE_LEVEL)) if errors else None


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, ...]:
    """Compare what was said with what was so, by bins of equal width, both labels weighing the same.

    Returns:
        (units, mean probability, share of fakes), each (bins,); the two last are NaN in an empty bin.
    """
    index = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    weights = 1 / np.bincount(labels, minlength=2)[labels]
    mass = np.bincount(index, weights=weights, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(index, weights=weights * probabilities, minlength=bins) / mass
        came = np.bincount(index, weights=weights * labels, minlength=bins) / mass
    return np.bincount(index, minlength=bins), said, came


def equal_error_rate(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the error rate where as many reals are called fake as fakes real, interpolated on the ROC curve."""
    from sklearn.metrics import roc_curve

    false_fake, true_fake, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    gap = false_fake - (1 - true_fake)  # ascending from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    share = 0.0 if gap[after] == gap[before] else -gap[before] / (gap[after] - gap[before])
    return float(false_fake[before] + share * (false_fake[after] - false_fake[before]))


def roc_points(
    labels: np.ndarray, probabilities: np.ndarray, limit: int = 200
) -> tuple[list[float], list[float], list[float]]:
    """Return the ROC curve in at most `limit` points, as plain finite floats.

    Returns:
        (false positive rates, true positive rates, thresholds), equally long; empty for one class only.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return [], [], []
    curve = roc_curve(labels, probabilities)
    kept = np.unique(np.linspace(0, len(curve[0]) - 1, limit).round().astype(int))
    false_fake, true_fake, thresholds = (np.asarray(values, dtype=np.float64)[kept] for values in curve)
    thresholds[0] = 1.0  # scikit-learn begins with inf
    return false_fake.tolist(), true_fake.tolist(), thresholds.tolist()
