"""What is measured of a detector's answers: ranking, decisions, calibration.

Labels are 0 real and 1 fake; probabilities are of fake. A measure that the labels leave undefined (a ranking of one
class) is None, never NaN.
"""

from typing import Any

import numpy as np

BINS = 10


def measure(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> dict[str, Any]:
    """Measure a detector's answers on some units.

    Args:
        labels: int, (n,), 0 real or 1 fake.
        probabilities: float, (n,), of fake, in [0, 1].
        threshold: Probability from which the answer is fake.

    Returns:
        Counts, ROC AUC, average precision, accuracies, ECE, EER (plain floats, or None where undefined) and the
        confusion [[true real, false fake], [false real, true fake]].
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
        "balanced_accuracy": (accuracy_real + accuracy_fake) / 2 if both else None,
        "accuracy": np.trace(confusion) / len(labels) if len(labels) else None,
        "accuracy_real": accuracy_real,
        "accuracy_fake": accuracy_fake,
        "ece": expected_calibration_error(labels, probabilities) if len(labels) else None,
        "eer": equal_error_rate(labels, probabilities) if both else None,
    }
    values = {name: None if value is None else float(value) for name, value in values.items()}
    return {"n": len(labels), "n_real": n_real, "n_fake": n_fake, **values, "confusion": confusion.tolist()}


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Return the ECE (Naeini et al., 2015) over bins of equal width of the probability of fake, in [0, 1]."""
    counts, said, came = reliability(labels, probabilities, bins)
    filled = counts > 0
    return float(np.abs(said - came)[filled] @ counts[filled] / counts.sum())


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, ...]:
    """Compare what was said with what was so, by bins of equal width.

    Returns:
        (counts, mean probability, fraction of fake), each (bins,); the two last are NaN in an empty bin.
    """
    index = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(index, weights=probabilities, minlength=bins) / counts
        came = np.bincount(index, weights=labels, minlength=bins) / counts
    return counts, said, came


def equal_error_rate(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the error rate where as many reals are called fake as fakes real, interpolated on the ROC curve."""
    from sklearn.metrics import roc_curve

    false_fake, true_fake, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    gap = false_fake - (1 - true_fake)  # ascending from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    share = 0.0 if gap[after] == gap[before] else -gap[before] / (gap[after] - gap[before])
    return float(false_fake[before] + share * (false_fake[after] - false_fake[before]))


def roc_points(labels: np.ndarray, probabilities: np.ndarray, limit: int = 200) -> tuple[list[float], ...]:
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
