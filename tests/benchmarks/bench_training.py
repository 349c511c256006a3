"""Training on kept activations against the plain recipe: the same pictures, split, seed and epochs at most."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from components.dataset import Dataset, DatasetWriter
from components.detector import logits_of
from components.training import data, fit, model, phases, train

SIZE, EPOCHS, BATCH = 256, 10, 32
WEIGHTS = "weights/mobilenetv2_1.0_imagenet_notop.weights.h5"  # beside the media folder


def rows(media: Path | None, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the benchmark; none where there are no media or no weights beside them."""
    if media is None or not (Path(media).parent / WEIGHTS).is_file():
        return
    files = [
        (path, label) for label, place in enumerate(("real/ffhq", "fake/stylegan2")) for path in _media(media, place)
    ]
    yield _row("mobilenetv2", "MobileNetV2", str(Path(media).parent / WEIGHTS), files, work, 5.0, lost=0.005)
    fresh = work / "efficientnetb0.weights.h5"  # a saved backbone; what it learnt is no matter for the time of an epoch
    fit.PATIENCE = EPOCHS  # it learns little, and where each side would stop early would be chance
    keras.applications.EfficientNetB0(include_top=False, weights=None).save_weights(fresh)
    yield _row("efficientnetb0", "EfficientNetB0", str(fresh), files, work, 4.5, lost=1.0)  # AUC by chance


def _row(backbone: str, constructor: str, weights: str, files: list, work: Path, goal: float, lost: float) -> dict:
    plain_seconds, plain_auc, plain_epochs = _plain(constructor, weights, files)
    began = time.monotonic()
    resized = _write(work / f"resized-{backbone}", files)
    auc, epochs = _train(resized, backbone, weights, work)
    seconds = time.monotonic() - began
    return {
        "name": f"both phases on kept activations, {backbone}",
        "baseline": f"decode every epoch, two fits: {plain_seconds:.0f} s, {plain_epochs} epochs, AUC {plain_auc:.3f}",
        "ours": f"{seconds:.0f} s with decoding, {epochs} epochs, AUC {auc:.3f}",
        "ratio": plain_seconds / seconds,
        "goal": f">= {goal:g}x" + (f", AUC not lower by more than {lost:g}" if lost < 1 else ""),
        "met": plain_seconds >= goal * seconds and auc >= plain_auc - lost,
    }


def _media(media: Path, place: str) -> list[Path]:
    return sorted((Path(media) / place).iterdir())


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def _resize(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _split(count: int) -> np.ndarray:
    place = np.random.default_rng(0).permutation(count) / count
    return np.where(place < 0.7, "train", np.where(place < 0.85, "validation", "test"))


def _write(directory: Path, files: list) -> Dataset:
    with DatasetWriter(directory, (1, SIZE, SIZE, 3)) as writer:
        for (path, label), split in zip(files, _split(len(files)), strict=True):
            row = {"path": path.name, "pixel_sha256": path.name, "group": path.name, "kind": "picture", "weight": 1.0}
            writer.append(np.ascontiguousarray(_resize(_read(path))[None]), row | {"label": label, "split": str(split)})
    return Dataset(directory)


def _train(dataset: Dataset, backbone: str, weights: str, work: Path) -> tuple[float, int]:
    wanted = train.Settings(backbone=backbone, weights=weights, recipe="plain")
    keras.utils.set_random_seed(0)
    network = model.build(backbone, weights, SIZE)
    training = phases.Phases(network, dataset, wanted, work / f"kept-{backbone}", lambda *_: None)
    training.run()
    test = dataset.rows("test")
    auc = data.roc_auc(dataset.column("label")[test], logits_of(network, dataset.views(test)))
    return auc, sum(len(epochs) for epochs in training.history.values())


def _plain(constructor: str, weights: str, files: list) -> tuple[float, float, int]:
    """Train by the plain recipe: decode in every epoch, augmentation in the model, two fits of the nested base."""
    keras.utils.set_random_seed(0)
    began = time.monotonic()
    label = np.array([label for _, label in files], "float32")
    split = _split(len(files))

    class Decoded(keras.utils.PyDataset):
        def __init__(self, chosen: np.ndarray):
            super().__init__()
            self.chosen = chosen

        def __len__(self) -> int:
            return -(-len(self.chosen) // BATCH)

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            part = self.chosen[number * BATCH : (number + 1) * BATCH]
            return np.stack([_resize(_read(files[n][0])) for n in part]).astype("float32"), label[part, None]

    order = np.random.default_rng(1).permutation(np.flatnonzero(split == "train"))
    sets = Decoded(order), Decoded(np.flatnonzero(split == "validation")), Decoded(np.flatnonzero(split == "test"))
    base = getattr(keras.applications, constructor)(include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3))
    base.trainable = False
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.03),
            layers.RandomZoom(0.1),
            layers.RandomBrightness(0.1),
            layers.RandomContrast(0.1),
            *([layers.Rescaling(1 / 127.5, offset=-1)] if constructor == "MobileNetV2" else []),
            base,
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    epochs = 0
    for rate in (1e-3, 1e-4):
        network.compile(
            keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False
        )
        stop = keras.callbacks.EarlyStopping(patience=fit.PATIENCE, restore_best_weights=True)
        done = network.fit(sets[0], validation_data=sets[1], epochs=EPOCHS, verbose=0, callbacks=[stop])
        epochs += len(done.epoch)
        base.trainable = True
        for layer in base.layers:
            layer.trainable = layer in base.layers[-20:] and not isinstance(layer, layers.BatchNormalization)
    seconds = time.monotonic() - began
    logit = network.predict(sets[2], verbose=0)[:, 0]
    return seconds, data.roc_auc(label[split == "test"], logit), epochs
