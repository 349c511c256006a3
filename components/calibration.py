"""Contract: how logits become probabilities that can be believed, and when a detector abstains.

All is fitted on validation rows, clean and degraded, at the end of training; what is fitted goes into the card, and
`components.detector` applies it. A probability means: of so many files of which half are fake, that share is fake.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from components.dataset import Dataset, batches
from components.detector import CLIP_TERMS, clip_features, logits_of, sigmoid
from components.media import degradations
from components.progress import say
from components.units import Units, unit_probabilities, units_of

THRESHOLD = 0.5  # of a probability at equal shares of both labels
ROUNDS = 4  # degradations drawn for each validation unit
ERROR_RATE = 0.05  # stated: reals called fake, and fakes called real, outside the abstention band
ROUNDING = 1e-3  # of a probability: room above the highest
SCORED_AT_ONCE = 128  # rows in memory


def calibrate(
    model: Any,
    dataset: Dataset,
    *,
    logits: list[np.ndarray] | None = None,
    rounds: int = ROUNDS,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a detector's calibration, threshold and abstention band on the validation split.

    Args:
        model: From pixels to logits, as in `components.detector`.
        dataset: The dataset that it was trained on.
        logits: Of the validation rows in each tier, in the order of `units_of`, each (rows,), where they are known;
            else the rows are scored as they are and under drawn degradations.
        rounds: Degradations drawn for each picture and clip, besides the clean one.
        error_rate: Share of real media that may be called fake, and of fakes called real; what would go beyond
            becomes "unsure".
        seed: Of the degradations.

    Returns:
        Entries for the card: `threshold`, `calibration` by kind and `abstention`.
    """
    units = units_of(dataset, dataset.rows("validation"))
    say("train", f"calibrating on {len(units):,} pictures and clips of the validation split, clean and degraded")
    if logits is None:
        random = np.random.default_rng(seed)
        conditions = [np.full(len(units), "", dtype=object)]
        for _ in range(rounds):
            conditions.append(np.array([degradations.draw(random, kind) for kind in units.kind], dtype=object))
        logits = [score_under(partial(logits_of, model), dataset, units, names) for names in conditions]
    calibration = fit(units, logits)
    probabilities = np.stack([unit_probabilities({"calibration": calibration}, units, values) for values in logits])
    return {
        "threshold": THRESHOLD,
        "calibration": calibration,
        "abstention": abstention(units.label, probabilities, error_rate),
    }


def score_under(
    score: Callable[[np.ndarray], np.ndarray],
    dataset: Dataset,
    units: Units,
    names: np.ndarray,
) -> np.ndarray:
    """Score the rows of units, each unit under its own degradation.

    Args:
        score: From views, uint8, (rows, views, size, size, 3), to logits, (rows,).
        dataset: Where the rows are.
        units: What is scored.
        names: The degradation of each unit, (units,); an empty one leaves it as it is.

    Returns:
        float32, (rows,), in the order of `units.rows`.
    """
    out = np.empty(len(units.rows), dtype=np.float32)
    of_row = names[units.owner]
    for name in sorted(set(of_row)):
        places = np.flatnonzero(of_row == name)
        for part in batches(places, SCORED_AT_ONCE):
            views = dataset.views(units.rows[part])
            if name:
                views = degradations.apply(name, views.reshape(-1, *views.shape[2:])).reshape(views.shape)
            out[part] = score(views)
    return out


def fit(units: Units, logits: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Fit the calibration of each kind by logistic regression (Platt, 1999), both labels weighing the same.

    The fit of pictures leans towards the logits as they are, that of frames towards pictures, that of clips towards
    the mean of their frames: by as much as one unit's evidence, so that a few clips correct little and many much.

    Args:
        units: The validation units.
        logits: Of their rows, (rows,), under each condition; every condition counts alike.

    Returns:
        For "picture" and "frame" a slope and an intercept; for "clip" the weights of `CLIP_TERMS`.
    """
    scale = float(np.concatenate(logits).std()) or 1.0
    of_picture = units.kind[units.owner] == "picture"
    clips = np.flatnonzero(units.kind == "clip")

    def rows(chosen: np.ndarray, lean: Sequence[float] | np.ndarray) -> np.ndarray:
        owner = units.owner[chosen]
        features = [np.stack([values[chosen] / scale, np.ones(len(owner))], axis=1) for values in logits]
        return _fit_logistic(features, units.label[owner], 1 / np.bincount(units.owner)[owner], lean)

    def together(lean: list[float]) -> np.ndarray:
        features = [[clip_features(values[units.owner == clip] / scale) for clip in clips] for values in logits]
        return _fit_logistic(features, units.label[clips], np.ones(len(clips)), lean)

    picture = rows(of_picture, [scale, 0.0])
    frame = rows(~of_picture, picture)
    clip = together([frame[0], 0.0, 0.0, 0.0, frame[1]]) / [scale, scale, scale, scale, 1.0]
    return {
        "picture": {"slope": float(picture[0] / scale), "intercept": float(picture[1])},
        "frame": {"slope": float(frame[0] / scale), "intercept": float(frame[1])},
        "clip": dict(zip(CLIP_TERMS, clip.tolist(), strict=True)),
    }


def _fit_logistic(features: list[Any], labels: np.ndarray, shares: np.ndarray, lean: Any) -> np.ndarray:
    """Fit the weights of features that lean towards `lean`.

    Args:
        features: (rows, terms) under each condition.
        labels: (rows,).
        shares: Of a row in its unit's evidence, (rows,).
        lean: (terms,).
    """
    from scipy.optimize import minimize

    lean = np.asarray(lean, dtype=np.float64)
    if len(set(labels)) < 2:
        return lean
    each = np.where(labels == 1, shares / shares[labels == 1].sum(), shares / shares[labels == 0].sum())
    weights = np.tile(each * shares.sum() / (2 * len(features)), len(features))
    signs = np.tile(2.0 * labels - 1, len(features))
    table = np.concatenate([np.asarray(part, dtype=np.float64) for part in features])

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        margin, away = signs * (table @ vector), vector - lean
        slope = away - (weights * signs * sigmoid(-margin)) @ table
        return float(weights @ np.logaddexp(0, -margin) + away @ away / 2), slope

    return minimize(loss, lean, jac=True, method="BFGS").x


def abstention(labels: np.ndarray, probabilities: np.ndarray, error_rate: float) -> dict[str, float]:
    """Choose the band of probabilities in which the answer is "unsure".

    Args:
        labels: int, (units,).
        probabilities: float, (conditions, units), of fake.
        error_rate: Share of each label that may end on the wrong side of the band.

    Returns:
        `low` and `high` (below low: real; from high on: fake), and the stated rates.
    """
    real, fake = probabilities[:, labels == 0], probabilities[:, labels == 1]
    return {
        "low": float(min(THRESHOLD, 1 - _edge(1 - fake, error_rate))),
        "high": float(max(THRESHOLD, _edge(real, error_rate))),
        "false_positive_rate": error_rate,
        "false_negative_rate": error_rate,
    }


def _edge(probabilities: np.ndarray, rate: float) -> float:
    """Return the probability that a share of `rate` of new ones will exceed (as in split conformal prediction)."""
    count = probabilities.shape[1]  # the conditions of one unit are not new evidence
    if not count:
        return THRESHOLD
    level = min(1.0, (1 - rate) * (count + 1) / count)
    reached = np.quantile(probabilities, level, method="higher")
    above = probabilities[probabilities > reached]
    # Half-way to the next: an edge on a file itself would leave its verdict to the last bit of a sum.
    return float((reached + (above.min() if len(above) else min(1.0, reached + ROUNDING))) / 2)
