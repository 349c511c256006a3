"""Contract: a trained detector on disk.

A directory with `model.keras`, which takes float pixels in [0, 255], shape (batch, size, size, 3), and gives one logit,
shape (batch, 1), positive for fake; and `card.json`: view and sampling policy, backbone, label order, threshold,
calibration, versions, digests. The directory is written under a temporary name and renamed when it is whole.
"""

import hashlib
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components import outputs
from components.errors import InputError
from components.familiarity import Familiarity

FORMAT = 1
CARD_BYTES = 16 * 1024 * 1024  # of a card; it holds the training history too
CONFIG_BYTES = 16 * 1024 * 1024  # of a network's configuration; that of EfficientNetB0 has half a megabyte
# What the configuration of a network of ours may name, by the module of Keras that has it.
CLASSES = {
    "keras": "DTypePolicy",
    "keras.initializers": "GlorotUniform Ones VarianceScaling Zeros",
    "keras.layers": "Activation Add BatchNormalization Concatenate Conv2D Dense DepthwiseConv2D Dropout "
    "Identity "
    "GlobalAveragePooling2D InputLayer MaxPooling2D Multiply Normalization ReLU Rescaling Reshape "
    "Subtract ZeroPadding2D",
    "keras.src.models.functional": "Functional",
    "keras.src.ops.core": "Cast",
    "keras.src.ops.math": "Logsumexp",
    "keras.src.ops.numpy": "Add Flip Maximum Reshape Sqrt Square Subtract",
    None: "__keras_tensor__",
}
CLIP_TERMS = ("slope", "above", "below", "spread", "intercept")  # the weights of `clip_features`


class Detector:
    """A trained detector.

    Args:
        directory: Where `model.keras` and `card.json` lie.

    Raises:
        InputError: The directory holds no whole detector of this format.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.card = read_card(self.directory)
        check_archive(self.directory / "model.keras")

    @cached_property
    def model(self) -> Any:
        """The Keras model, loaded when it is first asked for: the light runtime's answers need no TensorFlow.

        Raises:
            InputError: Keras cannot load it.
        """
        import keras

        try:
            return keras.saving.load_model(self.directory / "model.keras", compile=False, safe_mode=True)
        except Exception as error:  # Keras raises anything on a file that is not what it should be
            raise _unfit(self.directory, f"model.keras cannot be loaded ({type(error).__name__})") from error

    @property
    def exported(self) -> bool:
        """Whether the light runtime answers for it: it was exported, with the answers that Keras gives."""
        return bool(self.card.get("runtime", {}).get("holds"))

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
    return _finite(sigmoid(fitted["slope"] * logits + fitted["intercept"])).astype("float32")


def clip_probability(card: Mapping[str, Any], logits: np.ndarray) -> float:
    """Turn the logits of one video's frames, (frames,), into the probability that it is fake, with a card's weights."""
    fitted = dict.fromkeys(CLIP_TERMS, 0.0) | {"slope": 1.0} | card.get("calibration", {}).get("clip", {})
    return float(_finite(sigmoid(clip_features(logits) @ np.array([fitted[name] for name in CLIP_TERMS]))))


def _finite(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as they are; what is not finite is none, and must never become a verdict.

    Raises:
        InputError: One is not finite, so the network's weights or its calibration are damaged.
    """
    if not np.isfinite(probabilities).all():
        raise InputError("the detector gives a probability that is no finite number; fetch it or train it again")
    return probabilities


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
    try:
        with open(directory / "card.json", encoding="utf-8") as file:
            text = file.read(CARD_BYTES + 1)
        if len(text) > CARD_BYTES:
            raise ValueError(f"longer than {CARD_BYTES:,} characters")
        card = json.loads(text, parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise _unfit(directory, f"card.json cannot be read ({error})") from error
    if not isinstance(card, dict):
        raise _unfit(directory, "card.json holds no object")
    if card.get("format") != FORMAT:
        raise InputError(
            f"{directory}/card.json has format {card.get('format')!r}, this version reads {FORMAT}; train again"
        )
    _check_card(directory, card)
    return card


def _unfit(directory: Path, what: str) -> InputError:
    return InputError(f"detector {directory} is not one to trust: {' '.join(what.split())}; fetch it or train it again")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _check_card(directory: Path, card: dict[str, Any]) -> None:
    """Check all of a card that a verdict is computed from.

    Raises:
        InputError: An entry is missing, of another type, not finite or out of its range.
    """

    def number(where: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        value = where.get(name) if isinstance(where, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _unfit(directory, f"{name} on its card is {value!r}, not a finite number")
        if not low <= value <= high:
            raise _unfit(directory, f"{name} on its card is {value!r}, not from {low:g} to {high:g}")
        return value

    for name in ("digest", "view"):
        if not isinstance(card.get(name), str):
            raise _unfit(directory, f"{name} on its card is {card.get(name)!r}")
    for name in ("sampling", "delivery", "note", "backbone"):
        if not isinstance(card.get(name, ""), str):
            raise _unfit(directory, f"{name} on its card is {card[name]!r}")
    number(card, "threshold", 0, 1)
    calibration = card.get("calibration", {})
    if not isinstance(calibration, dict):
        raise _unfit(directory, f"calibration on its card is {calibration!r}")
    for kind, fitted in calibration.items():
        for name in CLIP_TERMS if kind == "clip" else ("slope", "intercept"):
            if name in ("slope", "intercept") or (isinstance(fitted, dict) and name in fitted):
                number(fitted, name)
    if "abstention" in card:
        low, high = (number(card["abstention"], name, 0, 1) for name in ("low", "high"))
        if low > high:
            raise _unfit(directory, f"its band of abstention runs from {low:g} to {high:g}")


def check_archive(path: Path) -> None:
    """Check, before Keras builds anything of it, that a .keras file is a network of layers such as we write.

    Raises:
        InputError: It is no such archive, its configuration is too long, or it names any other class.
    """
    directory = path.parent
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if sorted(entries) != ["config.json", "metadata.json", "model.weights.h5"]:
                raise _unfit(directory, f"model.keras holds {', '.join(sorted(entries))[:200]}")
            for name in ("config.json", "metadata.json"):
                if entries[name].file_size > CONFIG_BYTES:
                    raise _unfit(directory, f"{name} in model.keras unpacks to more than {CONFIG_BYTES:,} bytes")
            weights = entries["model.weights.h5"]
            if weights.file_size > 2 * weights.compress_size + CONFIG_BYTES:
                raise _unfit(directory, "the weights in model.keras unpack to more than twice their size")
            with archive.open("config.json") as file:
                config = json.loads(file.read(CONFIG_BYTES + 1))
    except InputError:
        raise
    # RuntimeError is that of encrypted entries, of unknown compression, and of a configuration nested too deeply.
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise _unfit(directory, f"model.keras cannot be read ({type(error).__name__})") from error
    for part in _objects(config):
        if "class_name" in part:
            named, module, registered = (part.get(key) for key in ("class_name", "module", "registered_name"))
            allowed = CLASSES.get(module, "").split() if module is None or isinstance(module, str) else []
            if named not in allowed or registered not in (None, named):
                raise _unfit(directory, f"model.keras holds {module}.{named}"[:200] + ", which no detector of ours has")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


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
        import keras

        # Not compiled: optimizer, loss and metrics are of training, and `check_archive` knows none of them.
        keras.Model(model.inputs, model.outputs, name=model.name).save(part / "model.keras")
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
