"""What is gained by not answering everything: risk against coverage, and the abstention band at work."""

from typing import Any

import numpy as np

from components.evaluation.metrics import measure

POINTS = 60  # of a stored curve


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, Any]:
    """Answer the surest first and follow the share of wrong answers (El-Yaniv and Wiener, 2010).

    Args:
        labels: int, (n,).
        probabilities: float, (n,), of fake.
        threshold: Probability from which the answer is fake.

    Returns:
        The curve as `coverage` and `error`; the error at full coverage and at 0.8; the second over the first (None
        where no error is made), and the area under the curve.
    """
    wrong = ((probabilities >= threshold) != (labels == 1)).astype(float)
    order = np.argsort(-np.abs(probabilities - threshold), kind="stable")
    error = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    kept = np.unique(np.linspace(0, len(order) - 1, POINTS).round().astype(int))
    full, most = float(error[-1]), float(error[max(0, int(np.ceil(0.8 * len(order))) - 1)])
    return {
        "coverage": coverage[kept].tolist(),
        "error": error[kept].tolist(),
        "error_full": full,
        "error_at_80": most,
        "ratio_80": most / full if full else None,
        "area": float(error.mean()),
    }


def with_band(labels: np.ndarray, probabilities: np.ndarray, band: dict[str, float]) -> dict[str, Any]:
    """Measure the answers when those inside the abstention band are left out.

    Returns:
        `coverage` (share answered), `error` (of the answered), and of all reals and fakes: `false_positive_rate` (reals
        called fake), `true_positive_rate` (fakes called fake), `inconclusive_real`, `inconclusive_fake`.
    """
    fake, real = probabilities >= band["high"], probabilities < band["low"]
    answered = fake | real
    wrong = np.where(labels == 1, real, fake)

    def share(values: np.ndarray, among: np.ndarray) -> float | None:
        return float(values[among].mean()) if among.any() else None

    return {
        "coverage": float(answered.mean()),
        "error": share(wrong, answered),
        "false_positive_rate": share(fake, labels == 0),
        "true_positive_rate": share(fake, labels == 1),
        "inconclusive_real": share(~answered, labels == 0),
        "inconclusive_fake": share(~answered, labels == 1),
    }


def compare_clips(labels: np.ndarray, aggregated: np.ndarray, averaged: np.ndarray, threshold: float) -> dict[str, Any]:
    """Measure clips by their own aggregate and by the mean of their frames' probabilities."""
    return {"aggregate": measure(labels, aggregated, threshold), "mean": measure(labels, averaged, threshold)}
