"""Contract: the last component of a generator: real pictures that an autoencoder has passed, as fakes of equal content.

A latent generator ends in a decoder, and what it makes bears that decoder's trace. A real picture that goes through the
encoder and the decoder comes back with the trace and with its own content, so that a head which tells the two apart can
have learnt nothing but the trace (arXiv 2601.20461). Both pictures of a pair are degraded in the same way; otherwise
the head would learn only that the decoded one has no JPEG block grid.

The weights file is an `.npz` of a tiny autoencoder in the layout of TAESD: arrays named `encoder.N.weight`,
`encoder.N.conv.0.weight` and so on, as PyTorch orders their axes. Nothing here imports Keras before it computes.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.dataset import Dataset
from components.errors import InputError
from components.media import degradations
from components.pinned_file import pinned_file
from components.progress import follow

NONE = "none"
SOURCE = "last component"  # the name of the decoded pictures among the sources
MOST = 1000  # pictures that are decoded: a third of a second each on two cores
LATENT_BOUND = 3.0  # between which the decoder's first step keeps the latent picture, by a hyperbolic tangent
GROUPS = 4  # of the group normalisation
HALVES = ("encoder", "decoder")
BLOCK = re.compile(r"(conv\.[024]|skip|pool\.[013])\.(weight|bias)")


@dataclass(frozen=True)
class Decoded:
    """The features of real crops and of the same crops decoded, each pair delivered alike.

    Attributes:
        rows: The dataset's rows whose crops these are, (pairs,).
        features: float32, (draws, 2, pairs, features): first those of the crops, then those of the decoded ones.
    """

    rows: np.ndarray
    features: np.ndarray

    def only(self, kept: np.ndarray) -> "Decoded":
        """Return some of the pairs, by a mask, (pairs,)."""
        return Decoded(self.rows[kept], self.features[:, :, kept])

    def together(self, source: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return both halves as files of their own: features, (draws, 2 * pairs, features), sources and labels.

        Args:
            source: Of each row of the dataset.
        """
        draws, halves, pairs, width = self.features.shape
        named = np.concatenate([source[self.rows], np.full(pairs, SOURCE, dtype=object)])
        return self.features.reshape(draws, halves * pairs, width), named, np.repeat([0, 1], pairs)


def check(text: str) -> None:
    """Check that a file holds an autoencoder; "none" is accepted.

    Args:
        text: As in `read`, or "none".

    Raises:
        InputError: It does not.
    """
    if text != NONE:
        read(text)


def read(text: str) -> dict[str, np.ndarray]:
    """Read an autoencoder's arrays, float32, by name.

    Args:
        text: The path of the file, or "PATH#sha256=HEX", which pins its content.

    Raises:
        InputError: The file is missing, has changed since it was pinned, or holds no autoencoder of that layout.
    """
    path = pinned_file("last_component", text, "none, or the path of an autoencoder's .npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: np.asarray(file[name], np.float32) for name in file.files}
        _follow_channels(held)
    except (ValueError, OSError, EOFError, KeyError, AttributeError, IndexError, zipfile.BadZipFile) as error:
        reason = f"array {error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0][:200]
        raise InputError(
            f"{path} holds no tiny autoencoder ({reason}); give an .npz file in the layout of TAESD, or leave out "
            "--last-component"
        ) from None
    return held


def network(held: Mapping[str, np.ndarray], size: int) -> Any:
    """Build the autoencoder.

    Args:
        held: Its arrays, as `read` returns them.
        size: Height and width of the pictures, pixels, divisible as often as the encoder halves them.

    Returns:
        A Keras model from pixels in [0, 255], (batch, size, size, 3), to the same, rounded to whole numbers.
    """
    import keras
    from keras import ops

    halvings = sum(kind == "step" for kind, _ in _layers(held, "encoder"))
    if size % 2**halvings:
        raise InputError(
            f"the autoencoder of last_component halves a picture {halvings} times, and the view is {size} pixels wide; "
            f"choose a --view whose size is a multiple of {2**halvings}"
        )
    pixels = keras.Input((size, size, 3), name="pixels")
    values: Any = pixels / 255.0
    for kind, name in _layers(held, "encoder"):
        values = _block(held, name, values) if kind == "block" else _conv(held, name, values, 1 + (kind == "step"))
    values = ops.tanh(values / LATENT_BOUND) * LATENT_BOUND
    for place, (kind, name) in enumerate(_layers(held, "decoder")):
        if kind == "block":
            values = _block(held, name, values)
            continue
        if kind == "step":
            values = keras.layers.UpSampling2D(2, interpolation="nearest")(values)
        values = _conv(held, name, values)
        values = values if place else ops.relu(values)
    return keras.Model(pixels, ops.round(ops.clip(values, 0.0, 1.0) * 255.0), name="last_component")


def decode(
    dataset: Dataset,
    rows: np.ndarray,
    text: str,
    compute: Callable[[np.ndarray], list[np.ndarray]],
    width: int,
    *,
    draws: int,
    seed: int,
    stage: str,
) -> Decoded:
    """Pass a crop of each real row through the autoencoder, and compute the features of both, delivered alike.

    Args:
        dataset: Where the rows are.
        rows: Of which the real ones are taken; of more than `MOST`, as many as that by chance.
        text: As in `read`.
        compute: From pixels, float32, (batch, size, size, 3), to features, as `runtime.backbone_features` returns it.
        width: Number of features.
        draws: How often each pair is delivered: in the first draw recompressed at most, then degraded.
        seed: Random seed of crops and deliveries.
        stage: Which stage says how far it is.

    Raises:
        InputError: The autoencoder cannot be used.
    """
    from components.runtime import backbone_features

    real = rows[dataset.column("label")[rows] == 0]
    if len(real) > MOST:
        real = np.sort(np.random.default_rng(seed).choice(real, MOST, replace=False))
    views, size = dataset.view_shape[:2]
    through = backbone_features(network(read(text), size))
    features = np.empty((draws, 2, len(real), width), dtype=np.float32)
    for place, row in enumerate(follow(real.tolist(), stage, "real pictures through the last component", len(real))):
        random = np.random.default_rng([seed, row])
        crop = dataset.views([row])[0, int(random.integers(views))]
        pair = np.stack([crop, through(crop[None].astype("float32"))[0][0].astype(np.uint8)])
        for draw in range(draws):
            features[draw, :, place] = compute(degradations.apply(_delivery(random, draw), pair).astype("float32"))[0]
    return Decoded(real, features)


def _delivery(random: np.random.Generator, draw: int) -> str:
    if not draw:
        return f"jpeg:{random.integers(80, 99)}"
    return f"{degradations.draw(random)}+jpeg:{random.integers(50, 95)}"


def _layers(held: Mapping[str, np.ndarray], half: str) -> list[tuple[str, str]]:
    """Return the layers of a half in order: their kind and name.

    A `conv` keeps the size; a `step`, which has no bias, halves or doubles it; a `block` is residual.
    """
    numbers = sorted({int(name.split(".")[1]) for name in held if name.startswith(f"{half}.")})
    kinds = []
    for number in numbers:
        name = f"{half}.{number}"
        kind = "block" if f"{name}.weight" not in held else "conv" if f"{name}.bias" in held else "step"
        kinds.append((kind, name))
    return kinds


def _follow_channels(held: Mapping[str, np.ndarray]) -> None:
    """Follow the number of channels from the picture to the picture, and fail where two layers do not fit."""
    for name in held:
        half, number, rest = name.split(".", 2)
        if half not in HALVES or not number.isdecimal() or not (rest in ("weight", "bias") or BLOCK.fullmatch(rest)):
            raise ValueError(f"unknown array {name[:80]!r}")
    steps, channels = [], 3
    for half in HALVES:
        layers = _layers(held, half)
        if not layers or layers[0][0] != "conv" or layers[-1][0] != "conv":
            raise ValueError(f"its {half} does not begin and end with a convolution")
        steps.append(sum(kind == "step" for kind, _ in layers))
        for kind, name in layers:
            parts = ["conv.0", "conv.2", "conv.4"] if kind == "block" else [""]
            start = channels
            for part in parts:
                channels = _fitting(held, f"{name}.{part}".rstrip("."), channels)
            if kind == "block" and f"{name}.skip.weight" in held:
                start = _fitting(held, f"{name}.skip", start)
            if kind == "block" and start != channels:
                raise ValueError(f"{name} ends with {channels} channels beside {start}")
    if channels != 3 or steps[0] != steps[1]:
        raise ValueError(f"its decoder ends with {channels} channels, {steps[1]} doublings after {steps[0]} halvings")


def _fitting(held: Mapping[str, np.ndarray], name: str, channels: int) -> int:
    weight = held[f"{name}.weight"]
    if weight.ndim != 4 or weight.shape[1] != channels or weight.shape[2:] not in ((1, 1), (3, 3)):
        raise ValueError(f"{name}.weight has the shape {weight.shape} behind {channels} channels")
    return int(weight.shape[0])


def _conv(held: Mapping[str, np.ndarray], name: str, values: Any, stride: int = 1) -> Any:
    from keras import layers

    weight, bias = held[f"{name}.weight"].transpose(2, 3, 1, 0), held.get(f"{name}.bias")
    if weight.shape[0] == 3:  # on all sides alike, which Keras's own padding of a strided convolution is not
        values = layers.ZeroPadding2D(1)(values)
    layer = layers.Conv2D(weight.shape[-1], weight.shape[0], strides=stride, use_bias=bias is not None)
    made = layer(values)
    layer.set_weights([weight] if bias is None else [weight, bias])
    return made


def _block(held: Mapping[str, np.ndarray], name: str, values: Any) -> Any:
    from keras import layers, ops

    if f"{name}.pool.0.weight" in held:
        norm = layers.GroupNormalization(GROUPS, epsilon=1e-5)
        pooled = norm(_conv(held, f"{name}.pool.0", values))
        norm.set_weights([held[f"{name}.pool.1.weight"], held[f"{name}.pool.1.bias"]])
        values = values + _conv(held, f"{name}.pool.3", ops.relu(pooled))
    made = ops.relu(_conv(held, f"{name}.conv.0", values))
    made = _conv(held, f"{name}.conv.4", ops.relu(_conv(held, f"{name}.conv.2", made)))
    beside = _conv(held, f"{name}.skip", values) if f"{name}.skip.weight" in held else values
    return ops.relu(made + beside)
