"""A tiny dataset, noise that is real and the same with stripes that is fake, and a tiny network that can learn it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from components.dataset import DatasetWriter

SIZE, VIEWS = 32, 2


def write_dataset(directory: Path, labels=(0, 1), rows: int = 24) -> Path:
    """Write it; two thirds of the rows are for training, the others for validation."""
    rng = np.random.default_rng(0)
    stripes = 80 * (np.arange(SIZE) // 2 % 2)[None, :, None]
    with DatasetWriter(directory, (VIEWS, SIZE, SIZE, 3)) as writer:
        for number in range(rows):
            label = labels[number % len(labels)]
            views = rng.normal(90, 10, (VIEWS, 1, 1, 3)) + rng.normal(0, 6, (VIEWS, SIZE, SIZE, 3)) + label * stripes
            split = "train" if number < rows * 2 // 3 else "validation"
            name = f"{number}.png"
            row = {"path": name, "pixel_sha256": name, "group": name, "kind": "picture", "source": "made"}
            writer.append(views.clip(0, 255).astype("uint8"), row | {"label": label, "split": split, "weight": 1.0})
        writer.card.update(view=f"crops{SIZE}x{VIEWS}", sampling="even:8", delivery="as-is", note="made in a test")
    return directory


def network():
    """Return the small backbone with a head, named as training names it."""
    import keras
    from keras import layers

    pixels = keras.Input((SIZE, SIZE, 3))
    top = small(input_tensor=layers.Rescaling(1 / 20, offset=-5.0)(pixels)).output
    features = layers.Identity(name="head_features")(layers.GlobalAveragePooling2D(name="head_pool")(top))
    return keras.Model(pixels, layers.Dense(1, kernel_initializer="zeros", name="head_logit")(features))


def write_weights(path: Path, constructor: str = "MobileNetV2", seed: int = 3) -> Path:
    """Write drawn weights of a backbone, its statistics such that a picture still counts at its top.

    Args:
        path: Of the file, .weights.h5.
        constructor: A name of keras.applications.
        seed: Of the weights.
    """
    import keras

    from components.training import model

    keras.utils.set_random_seed(seed)
    made = getattr(keras.applications, constructor)(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    noise = np.random.default_rng(3).uniform(-1, 1, (64, SIZE, SIZE, 3)).astype("float32")
    model.re_estimate_statistics(made, iter([noise]))  # or a fresh network fades out with depth
    made.save_weights(path)
    return path


def small(include_top: bool = False, weights: None = None, input_tensor=None, input_shape=(SIZE, SIZE, 3)):
    """Build a backbone of four small blocks, as keras.applications builds its networks.

    What training does with a network does not depend on its depth, but one of 150 layers takes ten times as long to
    trace and to convert.
    """
    import keras
    from keras import layers

    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    (pixels,) = keras.utils.get_source_inputs(x)
    for number, width in enumerate((8, 16, 24, 32)):
        x = layers.Conv2D(width, 3, 2, padding="same", use_bias=False, name=f"block_{number}_conv")(x)
        x = layers.BatchNormalization(name=f"block_{number}_norm")(x)
        x = layers.ReLU(name=f"block_{number}_relu")(x)
    return keras.Model(pixels, x)


@contextmanager
def small_backbone() -> Iterator[None]:
    """Let `small` be asked for as a backbone, by the name of "small"."""
    import keras

    from components.settings import SETTINGS
    from components.training.backbones import BACKBONES, Backbone

    kind = Backbone("Small", "signed", "", "", small().count_params())
    asked = replace(SETTINGS["backbone"], choices=(*SETTINGS["backbone"].choices, "small"))
    known = patch.object(keras.applications, "Small", small, create=True)
    with known, patch.dict(BACKBONES, small=kind), patch.dict(SETTINGS, backbone=asked):
        yield
