"""What is gained by not answering everything: risk against coverage, and the abstention band at work."""

import numpy as np

from components.evaluation.metrics import measure
from components.evaluation_result import Band, Banded, ClipAnswers, RiskCoverage

POINTS = 60  # of a stored curve


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray, threshold: float, band: Band) -> RiskCoverage:
    """Answer the surest first and follow the share of wrong answers (El-Yaniv and Wiener, 2010).

    Args:
        labels: int, (n,).
        probabilities: float, (n,), of fake.
        threshold: Probability from which the answer is fake.
        band: The probabilities between which the detector itself gives no answer.

    Returns:
        The curve, its key values, and what the band does.
    """
    wrong = ((probabilities >= threshold) != (labels == 1)).astype(float)
    order = np.argsort(-np.abs(probabilities - threshold), kind="stable")
    error = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    kept = np.unique(np.linspace(0, len(order) - 1, POINTS).round().astype(int))
    full, most = float(error[-1]), float(error[max(0, int(np.ceil(0.8 * len(order))) - 1)])
    return RiskCoverage(
        coverage=coverage[kept].tolist(),
        error=error[kept].tolist(),
        error_full=full,
        error_at_80=most,
        ratio_80=most / full if full else None,
        area=float(error.mean()),
        banded=with_band(labels, probabilities, band),
    )


def with_band(labels: np.ndarray, probabilities: np.ndarray, band: Band) -> Banded:
    """Measure the answers when those inside the abstention band are "unsure".

    Args:
        labels: int, (n,).
        probabilities: float, (n,), of fake.
        band: The probabilities between which there is no answer.

    Returns:
        The share answered, the error among the answers, and the rates of both labels.
    """
    fake, real = probabilities >= band.high, probabilities < band.low
    answered = fake | real
    wrong = np.where(labels == 1, real, fake)

    def share(values: np.ndarray, among: np.ndarray) -> float | None:
        return float(values[among].mean()) if among.any() else None

    return Banded(
        coverage=float(answered.mean()),
        error=share(wrong, answered),
        false_positive_rate=share(fake, labels == 0),
        true_positive_rate=share(fake, labels == 1),
        unsure_real=share(~answered, labels == 0),
        unsure_fake=share(~answered, labels == 1),
    )


def compare_clips(labels: np.ndarray, aggregated: np.ndarray, averaged: np.ndarray, threshold: float) -> ClipAnswers:
    """Measure clips by their own aggregate and by the mean of their frames' probabilities.

    Args:
        labels: int, (clips,).
        aggregated: float, (clips,): probabilities of fake by the calibrated aggregate.
        averaged: float, (clips,): the mean of the frames' probabilities of fake.
        threshold: Probability from which the answer is fake.
    """
    return ClipAnswers(aggregate=measure(labels, aggregated, threshold), mean=measure(labels, averaged, threshold))
