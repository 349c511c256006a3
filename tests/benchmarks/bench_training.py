"""Training on kept activations against the plain recipe, and what each recipe reaches."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.dataset import Dataset, DatasetWriter
from components.detector import logits_of
from components.training import data, fit, model, phases, train

SIZE, CROP, EPOCHS, BATCH = 256, 224, 10, 32
WEIGHTS = "weights/mobilenetv2_1.0_imagenet_notop.weights.h5"  # beside the media folder


def rows(media: Path | None, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the benchmark; none where there are no media or no weights beside them."""
    if media is None or not (Path(media).parent / WEIGHTS).is_file():
        return
    weights = str(Path(media).parent / WEIGHTS)
    files = [
        (path, label) for label, place in enumerate(("real/ffhq", "fake/stylegan2")) for path in _media(media, place)
    ]
    plain_seconds, plain_auc = _plain(files, weights)
    began = time.monotonic()
    resized = _write(work / "resized", files, 1, lambda picture: _resize(picture)[None])
    network, test = _train(resized, weights, work, recipe="plain")
    seconds = time.monotonic() - began
    yield {
        "name": "both phases on kept activations",
        "baseline": f"decode every epoch, two fits: {plain_seconds:.0f} s, AUC {plain_auc:.3f}",
        "ours": f"{seconds:.0f} s with decoding, AUC {test:.3f}",
        "ratio": plain_seconds / seconds,
        "goal": ">= 5x, AUC not lower by more than 0.005",
        "met": plain_seconds >= 5 * seconds and test >= plain_auc - 0.005,
    }
    del network
    crops = _write(work / "crops", files, 5, _corners)
    for name, more in (
        ("top of the backbone", {"recipe": "plain"}),
        ("eight depths", {"recipe": "deep", "degrade": 0.0}),
    ):
        _, found = _train(crops, weights, work, fine_tune_epochs=0, augment=False, **more)
        yield {
            "name": f"ROC AUC as delivered, five native crops, {name}",
            "baseline": f"plain recipe, resized: {plain_auc:.3f}",
            "ours": f"{found:.3f}",
            "ratio": (1 - plain_auc) / (1 - found),
            "goal": ">= 0.985" if name == "eight depths" else "stated",
            "met": found >= 0.985 or name != "eight depths",
        }


def _media(media: Path, place: str) -> list[Path]:
    return sorted((Path(media) / place).iterdir())


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def _resize(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _corners(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[0] - CROP, picture.shape[1] - CROP
    places = ((0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2))
    return np.stack([picture[y : y + CROP, x : x + CROP] for y, x in places])


def _split(count: int) -> np.ndarray:
    place = np.random.default_rng(0).permutation(count) / count
    return np.where(place < 0.7, "train", np.where(place < 0.85, "validation", "test"))


def _write(directory: Path, files: list, views: int, view: Any) -> Dataset:
    size = SIZE if views == 1 else CROP
    with DatasetWriter(directory, (views, size, size, 3)) as writer:
        for (path, label), split in zip(files, _split(len(files)), strict=True):
            row = {"path": path.name, "pixel_sha256": path.name, "group": path.name, "kind": "picture", "weight": 1.0}
            writer.append(np.ascontiguousarray(view(_read(path))), row | {"label": label, "split": str(split)})
    return Dataset(directory)


def _train(dataset: Dataset, weights: str, work: Path, **more: Any) -> tuple[Any, float]:
    import keras

    wanted = train.Settings(backbone="mobilenetv2", weights=weights, **more)
    recipe = phases.RECIPES[wanted.recipe]
    keras.utils.set_random_seed(0)
    network = model.build("mobilenetv2", weights, dataset.view_shape[1], depths=recipe.depths, spread=recipe.spread)
    kept = work / f"kept-{wanted.key(dataset.digest)}"
    phases.Phases(network, dataset, wanted, kept, lambda *_: None).run()
    test = dataset.rows("test")
    return network, data.roc_auc(dataset.column("label")[test], logits_of(network, dataset.views(test)))


def _plain(files: list, weights: str) -> tuple[float, float]:
    """Train by the plain recipe: decode in every epoch, augmentation in the model, two fits of the nested base."""
    import keras

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
    base = keras.applications.MobileNetV2(include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3))
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
            layers.Rescaling(1 / 127.5, offset=-1),
            base,
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    for rate in (1e-3, 1e-4):
        network.compile(
            keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False
        )
        stop = keras.callbacks.EarlyStopping(patience=fit.PATIENCE, restore_best_weights=True)
        network.fit(sets[0], validation_data=sets[1], epochs=EPOCHS, verbose=0, callbacks=[stop])
        base.trainable = True
        for layer in base.layers:
            layer.trainable = layer in base.layers[-20:] and not isinstance(layer, layers.BatchNormalization)
    seconds = time.monotonic() - began
    logit = network.predict(sets[2], verbose=0)[:, 0]
    return seconds, data.roc_auc(label[split == "test"], logit)
