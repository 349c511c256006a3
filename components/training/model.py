"""Network: backbone, what the head reads, and which layers learn.

The network is one flat graph from pixels in [0, 255] to a logit: each backbone's own preprocessing lies inside it, and
any block boundary of it can be cut.
"""

import hashlib
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from components.errors import InputError
from components.progress import say
from components.runtime import HEAD_SOURCES
from components.settings import DEFAULTS
from components.training import backbones, workers

DOWNLOAD_TIMEOUT_S = 20.0  # without a byte
SCRATCH_MOMENTUM = 0.9  # of BatchNorm: Keras's 0.99 needs some 500 steps to forget its start, a small set has fewer
IMAGENET_STANDARD_DEVIATION = (0.229, 0.224, 0.225)  # of RGB


def build(
    backbone: str = DEFAULTS["backbone"],
    weights: str = DEFAULTS["weights"],
    size: int = 256,
    *,
    depths: int = 1,
    spread: bool = False,
    dropout: float = 0.2,
    sources: tuple[int, int] | None = None,
) -> keras.Model:
    """Build a detector's network.

    Args:
        backbone: A key of `backbones.BACKBONES`.
        weights: "imagenet", "none" (fresh), or a weights file of this backbone without its top, by
            `keras.Model.save_weights` or Keras's own; "PATH#sha256=HEX" pins its content.
        size: Height and width of the input, pixels.
        depths: Number of depths whose average-pooled features the head reads, from the top downwards; several are
            standardised: see `scale`.
        spread: Whether it reads their standard deviation over the picture as well.
        dropout: Before the last layer, in [0, 1).
        sources: How many real and how many fake sources the head scores: see `components.source_head`; None for a head
            of one score.

    Returns:
        A model from float pixels in [0, 255], (batch, size, size, 3), to logits, (batch, 1), not compiled.

    Raises:
        InputError: The backbone is not known, or its weights cannot be had or do not fit.
    """
    if backbone not in backbones.BACKBONES:
        raise InputError(f"backbone {backbone!r} is not known; choose one of {', '.join(backbones.BACKBONES)}")
    kind = backbones.BACKBONES[backbone]
    pixels = keras.Input((size, size, 3), name="pixels")
    constructor = getattr(keras.applications, kind.constructor)
    base = constructor(include_top=False, weights=None, input_tensor=_preprocess(pixels, kind.preprocessing))
    for layer in base.layers:
        if isinstance(layer, layers.Dropout):  # stochastic depth: noise in frozen features, harm in short training
            layer.rate = 0.0
        if weights == "none" and isinstance(layer, layers.BatchNormalization):
            layer.momentum = SCRATCH_MOMENTUM
    if weights != "none":
        _load(base, backbone, weights)
    return keras.Model(pixels, _head(taps(base, depths), spread, dropout, sources), name=backbone)


def _head(read: list[Any], spread: bool, dropout: float, sources: tuple[int, int] | None) -> Any:
    pool = layers.GlobalAveragePooling2D
    pooled = [pool(name=f"head_pool_{tap.name}")(tap.output) for tap in read]
    if spread:
        for tap, mean in zip(read, list(pooled), strict=True):
            # Of the distance from the mean: the mean square less the squared mean loses most of its digits where a
            # channel hardly varies, and then two engines differ by more than the export allows.
            apart = keras.ops.cast(tap.output, "float32") - keras.ops.reshape(mean, (-1, 1, 1, mean.shape[-1]))
            square = pool(name=f"head_pool_square_{tap.name}")(keras.ops.square(apart))
            pooled.append(keras.ops.sqrt(square + 1e-6))
    if len(pooled) == 1:
        features = layers.Identity(name="head_features")(pooled[0])
    else:
        features = layers.Concatenate(name="head_features")(pooled)
        features = layers.Normalization(name="head_scale")(features)
    features = layers.Dropout(dropout, name="head_dropout")(features)
    # From zero: with thousands of standardised features a drawn start would be louder than what they say.
    if sources is None:
        return layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="head_logit")(features)
    real, fake = (
        layers.Dense(count, kernel_initializer="zeros", dtype="float32", name=name)(features)
        for name, count in zip(HEAD_SOURCES, sources, strict=True)
    )
    odds = [keras.ops.logsumexp(scores, axis=1, keepdims=True) for scores in (fake, real)]
    return layers.Subtract(dtype="float32", name="head_logit")(odds)


def _preprocess(pixels: Any, how: str) -> Any:
    if how == "signed":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocess")(pixels)
    if how == "caffe":
        mean = layers.Normalization(mean=[123.68, 116.779, 103.939], variance=[1.0, 1.0, 1.0], name="preprocess")
        return keras.ops.flip(mean(pixels), axis=-1)
    return pixels


def taps(base: keras.Model, depths: int) -> list[Any]:
    """Return the layers that the head reads, from fine to coarse; the last is the top of the backbone.

    Going up, a depth ends with the last layer of its resolution and width, where the width is greater than any below:
    in MobileNetV2 and EfficientNetB0 these are eight, each the expanded activations of the last block of a stage.
    """
    ends: dict[tuple[int, int], Any] = {}
    widest = 0
    for layer in base.layers:
        shape = layer.output.shape
        place = (shape[1], shape[-1])
        if len(shape) == 4 and (place in ends or shape[-1] > widest) and not isinstance(layer, layers.ZeroPadding2D):
            ends[place] = layer
            widest = max(widest, shape[-1])
    return list(ends.values())[-depths:]


def scale(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set the standardisation of the head's features from what they are over some batches.

    Args:
        model: What `build` returned.
        batches: The features before `head_scale`, (batch, features).
    """
    layer = model.get_layer("head_scale")
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        batch = np.asarray(batch, dtype=np.float64)
        count, total, squares = count + len(batch), total + batch.sum(axis=0), squares + np.square(batch).sum(axis=0)
    mean = total / count
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(np.maximum(squares / count - np.square(mean), 1e-6))
    layer.finalize_state()


def boundary(model: keras.Model) -> list[Any]:
    """Return the tensors at which what does not change in training ends and what does begins.

    An operation does not change where nothing in it learns, it draws nothing, and none before it does either.
    """
    still: set[int] = set()
    crossing: dict[int, Any] = {}
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            still.add(id(operation.output))
            continue
        read = keras.tree.flatten(operation.input)
        draws = isinstance(operation, layers.Dropout) and operation.rate > 0
        learns = draws or bool(getattr(operation, "trainable_weights", []))
        if not learns and all(id(tensor) in still for tensor in read):
            still.add(id(operation.output))
        else:
            crossing |= {id(tensor): tensor for tensor in read if id(tensor) in still}
    return list(crossing.values())


def head_layers(model: keras.Model) -> list[Any]:
    """Return the layers after the backbone."""
    return [layer for layer in model.layers if layer.name.startswith("head_")]


def backbone_layers(model: keras.Model) -> list[Any]:
    """Return the layers of the backbone, in order, with the input and the preprocessing."""
    return [layer for layer in model.layers if not layer.name.startswith("head_")]


def freeze(model: keras.Model, learning_rate: float) -> None:
    """Let only the head learn, and recompile."""
    for layer in backbone_layers(model):
        layer.trainable = False
    compile_for_training(model, learning_rate)


def unfreeze(model: keras.Model, count: int, learning_rate: float) -> list[str]:
    """Let the last layers of the backbone learn, rounded outward to whole blocks, and recompile.

    BatchNorm stays frozen: its statistics are of millions of pictures, ours would be of hundreds.

    Args:
        model: What `build` returned.
        count: Number of layers, from the top of the backbone downwards.
        learning_rate: Of Adam.

    Returns:
        The names of the unfrozen layers, lowest first, BatchNorm left out.
    """
    chosen = backbone_layers(model)
    start = block_start(chosen, count)
    names = []
    for number, layer in enumerate(chosen):
        layer.trainable = number >= start and not isinstance(layer, layers.BatchNormalization)
        if layer.trainable:
            names.append(layer.name)
    compile_for_training(model, learning_rate)
    return names


def unfreeze_all(model: keras.Model, learning_rate: float) -> None:
    """Let every layer learn, BatchNorm too, as training from scratch needs, and recompile."""
    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
    compile_for_training(model, learning_rate)


def block_start(chosen: list[Any], count: int) -> int:
    """Return the index of the first of the last `count` layers, moved down to the first layer of its block."""
    start = max(0, len(chosen) - count)
    while start > 0 and _block(chosen[start]) is not None and _block(chosen[start]) == _block(chosen[start - 1]):
        start -= 1
    return start


def _block(layer: Any) -> str | None:
    match = re.match(r"(block_?\d+[a-z]?|conv\d+_block\d+|expanded_conv)_", layer.name)
    return match and match[1]


def compile_for_training(model: keras.Model, learning_rate: float, together: workers.Workers = workers.ALONE) -> None:
    """Compile with Adam and the binary cross-entropy of the logit.

    Args:
        model: What `build` returned, or its upper part.
        learning_rate: Of Adam.
        together: The workers over which gradients are averaged; XLA cannot compile what they exchange.
    """
    optimizer = keras.optimizers.Adam(learning_rate)
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # Keras does it by itself only where the model's own policy is mixed_float16; ours is set layer by layer.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=together.averaging(optimizer),
        jit_compile="auto" if together.count == 1 else False,
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        weighted_metrics=[],
        metrics=[
            keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy"),
            keras.metrics.AUC(from_logits=True, name="auc"),
        ],
    )


def re_estimate_statistics(model: keras.Model, batches: Iterator[np.ndarray]) -> None:
    """Replace BatchNorm's moving averages by the plain averages over some batches.

    After a short training from scratch the moving averages lag behind the weights, and the network in inference is
    another than the one that was trained.

    Args:
        model: A network with every layer trainable.
        batches: Pixels in [0, 255], float32, (batch, size, size, 3).
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for number, pixels in enumerate(batches):
        for norm in norms:
            norm.momentum = number / (number + 1)
        model(pixels, training=True)
    for norm in norms:
        norm.momentum = SCRATCH_MOMENTUM


def _load(base: keras.Model, backbone: str, weights: str) -> None:
    path = _download(backbone) if weights == "imagenet" else backbones.given_file(weights)
    try:
        count = backbones.parameters_in(path)
        if count != base.count_params():
            raise ValueError(f"it holds {count:,} parameters, the backbone has {base.count_params():,}")
        base.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"weights file {path} does not fit {backbone} without its top ({reason}); "
            "give a file of the same architecture, by --weights, or its --backbone"
        ) from error
    for layer in base.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            _fold_deviation(layer)


def _fold_deviation(layer: Any) -> None:
    # Keras's EfficientNet with weights="imagenet" has one more Rescaling, by 1/sqrt(standard deviation), after this
    # layer. Put into the variance, the graph is the same whatever the weights. A fresh layer has mean 0: left alone.
    mean, variance = np.asarray(layer.adapt_mean), np.asarray(layer.adapt_variance)
    if np.allclose(variance, np.square(IMAGENET_STANDARD_DEVIATION), rtol=0.02) and mean.any():
        layer.adapt_variance.assign(variance * np.asarray(IMAGENET_STANDARD_DEVIATION, "float32"))
    layer.finalize_state()


def _download(backbone: str) -> str:
    kind = backbones.BACKBONES[backbone]
    try:
        with _bounded(DOWNLOAD_TIMEOUT_S):
            return keras.utils.get_file(kind.file, kind.url, cache_subdir="models", file_hash=kind.md5 or None)
    except Exception as error:  # get_file raises bare Exception
        raise backbones.unavailable(backbone) from error


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def describe(weights: str) -> dict[str, str]:
    """Return what a card says of the weights that training started from."""
    if weights in ("imagenet", "none"):
        say("train", "from scratch: all layers learn" if weights == "none" else "from ImageNet weights")
        return {"name": weights}
    path = Path(weights.partition("#sha256=")[0])
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
