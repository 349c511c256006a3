"""Contract: a trained detector on disk.

A directory with `model.keras`, which takes float pixels in [0, 255], shape (batch, size, size, 3), and gives one logit,
shape (batch, 1), positive for fake; and `card.json`: view and sampling policy, backbone, label order, threshold,
calibration, versions, digests. The directory is written under a temporary name and renamed when it is whole.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components import outputs
from components.errors import InputError
from components.familiarity import Familiarity

FORMAT = 1
CLIP_TERMS = ("slope", "above", "below", "spread", "intercept")  # the weights of `clip_features`


class Detector:
    """A trained detector, loaded for scoring.

    Args:
        directory: Where `model.keras` and `card.json` lie.

    Raises:
        InputError: The directory holds no whole detector of this format.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.card = read_card(self.directory)
        import keras  # here, so that reading a card costs no TensorFlow

        self.model = keras.saving.load_model(self.directory / "model.keras", compile=False)

    @property
    def threshold(self) -> float:
        """The probability of fake from which the answer is fake, in (0, 1)."""
        return float(self.card["threshold"])

    def logits(self, views: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Score rows of views before calibration.

        Args:
            views: uint8, (rows, views, size, size, 3).
            batch_size: Views in one forward pass.

        Returns:
            float32, (rows,): the mean of the views' logits, positive for fake.
        """
        return logits_of(self.model, views, batch_size)

    def probabilities(self, views: np.ndarray, kind: str = "picture", batch_size: int = 64) -> np.ndarray:
        """Score rows of views: the calibrated probability of fake, float32, (rows,), in [0, 1]."""
        return self.calibrate(self.logits(views, batch_size), kind)

    def clip_probability(self, logits: np.ndarray) -> float:
        """Turn the logits of one video's frames, (frames,), into the calibrated probability that it is fake."""
        return clip_probability(self.card, logits)

    def calibrate(self, logits: np.ndarray, kind: str = "picture") -> np.ndarray:
        """Turn logits into probabilities of fake with the card's calibration for a kind (picture, frame)."""
        return calibrated(self.card, logits, kind)

    def verdict(self, probability: float) -> str:
        """Say "real", "fake" or, inside the card's abstention band, "unsure"."""
        band = self.card.get("abstention", {"low": self.threshold, "high": self.threshold})
        if band["low"] <= probability < band["high"]:
            return "unsure"
        return "fake" if probability >= band["high"] else "real"


def calibrated(card: Mapping[str, Any], logits: np.ndarray, kind: str = "picture") -> np.ndarray:
    """Turn logits into probabilities of fake with a card's calibration for a kind (picture, frame), float32."""
    fitted = card.get("calibration", {}).get(kind, {"slope": 1.0, "intercept": 0.0})
    return sigmoid(fitted["slope"] * logits + fitted["intercept"]).astype("float32")


def clip_probability(card: Mapping[str, Any], logits: np.ndarray) -> float:
    """Turn the logits of one video's frames, (frames,), into the probability that it is fake, with a card's weights."""
    fitted = dict.fromkeys(CLIP_TERMS, 0.0) | {"slope": 1.0} | card.get("calibration", {}).get("clip", {})
    return float(sigmoid(clip_features(logits) @ np.array([fitted[name] for name in CLIP_TERMS])))


def clip_features(logits: np.ndarray) -> np.ndarray:
    """Return what a clip's verdict reads of its frames' logits: mean, maximum above and minimum below it, spread, 1."""
    logits = np.asarray(logits, dtype=np.float64)
    mean = logits.mean()
    return np.array([mean, logits.max() - mean, mean - logits.min(), logits.std(), 1.0])


def sigmoid(logits: np.ndarray | float) -> np.ndarray:
    """Return 1 / (1 + exp(-logits)), float64, also where the exponential would overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64)))


def logits_of(model: Any, views: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Score rows of views, uint8, (rows, views, size, size, 3): the mean of the views' logits, float32, (rows,)."""
    rows, count = views.shape[:2]
    flat = views.reshape(rows * count, *views.shape[2:])
    forward = _forward(model)
    parts = [
        np.asarray(forward(flat[start : start + batch_size].astype("float32")))
        for start in range(0, len(flat), batch_size)
    ]
    return np.concatenate(parts).reshape(rows, count).mean(axis=1).astype("float32")


def _forward(model: Any) -> Callable[[np.ndarray], Any]:
    # TensorFlow would trace the network anew for each size of batch, at seconds each.
    import keras

    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch
    if not hasattr(model, "forward_any_batch"):
        import tensorflow as tf

        pixels = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        model.forward_any_batch = tf.function(lambda batch: model(batch, training=False), input_signature=[pixels])
    return model.forward_any_batch


def read_card(directory: str | Path) -> dict[str, Any]:
    """Return a detector's card, without loading its model."""
    directory = Path(directory)
    if not (directory / "card.json").is_file() or not (directory / "model.keras").is_file():
        raise InputError(
            f"{directory} is not a detector: it needs model.keras and card.json; make one with ai-vs-real train"
        )
    card = json.loads((directory / "card.json").read_text())
    if card.get("format") != FORMAT:
        raise InputError(
            f"{directory}/card.json has format {card.get('format')!r}, this version reads {FORMAT}; train again"
        )
    return card


def save(
    directory: str | Path,
    model: Any,
    card: dict[str, Any],
    familiarity: Familiarity | None = None,
    *,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Write a detector and return its card, completed with the format and the digest of all that a verdict depends on.

    Args:
        directory: Where it shall lie; see `outputs.written`.
        model: A Keras model from (batch, size, size, 3) pixels to (batch, 1) logits.
        card: What DESIGN calls the card; `format` and `digest` are added.
        familiarity: What says how familiar a file is, where it was fitted.
        overwrite: Whether a detector that is there may be replaced.
    """
    with outputs.written(directory, outputs.DETECTOR, overwrite=overwrite) as part:
        model.save(part / "model.keras")
        if familiarity:
            familiarity.save(part)
        card = {**card, "format": FORMAT, "digest": _digest(model, card)}
        (part / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))
    return card


def _digest(model: Any, card: dict[str, Any]) -> str:
    # Of all that a verdict depends on. Of the weights, not of the file: a .keras file is a zip and carries its time.
    policies = {
        key: card.get(key)
        for key in ("view", "sampling", "delivery", "threshold", "calibration", "abstention", "familiarity")
    }
    digest = hashlib.sha256(json.dumps(policies, sort_keys=True).encode() + model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
