"""Data of training: rows of a dataset as batches of pixels, labels and weights, in an order drawn per epoch."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from components.dataset import LABELS, Dataset
from components.errors import InputError
from components.last_component import MOST, NONE, SOURCE
from components.media import degradations
from components.source_head import Classes
from components.training import workers

KEPT = 0.5  # share of views that are not augmented
Augment = Callable[[np.ndarray], np.ndarray]


def augmenter(seed: int) -> Augment:
    """Return the five augmentations, Keras layers for the data path: they are no part of a saved model.

    Traces of a generator lie in single pixels, and interpolation wipes them out. So rotation and zoom move pixels
    without mixing them, and a share of the views stays as it is.

    Args:
        seed: The draws depend on it and on the calls before.

    Returns:
        A function from float32 pixels in [0, 255], (batch, size, size, 3), to the same, drawn anew at each call.
    """
    augment = keras.Sequential(
        [
            layers.RandomFlip("horizontal", seed=seed),
            layers.RandomRotation(0.03, fill_mode="reflect", interpolation="nearest", seed=seed + 1),
            layers.RandomZoom(0.1, fill_mode="reflect", interpolation="nearest", seed=seed + 2),
            layers.RandomBrightness(0.1, value_range=(0.0, 255.0), seed=seed + 3),
            layers.RandomContrast(0.1, value_range=(0.0, 255.0), seed=seed + 4),
        ],
        name="augmentation",
    )
    rng = np.random.default_rng(seed)

    def draw(pixels: np.ndarray) -> np.ndarray:
        kept = rng.random((len(pixels), 1, 1, 1)) < KEPT
        return np.where(kept, pixels, np.asarray(augment(pixels, training=True)))

    return draw


class Batches(keras.utils.PyDataset):
    """The views of some rows, each view a sample, read from the shards in the order needed.

    Epoch 0 shows every view as it is; the further ones augment and degrade: where the dataset keeps its files in tiers,
    they take turns among the delivered ones, else single degradations are drawn for the views. Order, degradations and
    augmentation of an epoch depend on the seed and the epoch alone, so a run that was cut short goes on as if it had
    not been.

    Args:
        dataset: Where the rows are.
        rows: Their indices.
        batch_size: Samples in a batch.
        seed: Of all that is drawn.
        shuffle: Draw the order anew in each epoch.
        augment: Augment the views.
        degrade: Share of the views that is degraded, [0, 1], of both labels alike.
        parts: Every batch divides into so many equal ones: the last is filled up with samples of the epoch's start.
        together: The workers of which this process has its part of each batch, and draws for it on its own.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        augment: bool = False,
        degrade: float = 0.0,
        parts: int = 1,
        together: workers.Workers = workers.ALONE,
    ):
        super().__init__(workers=1)
        self.dataset, self.batch_size, self.parts = dataset, batch_size, parts * together.count
        self.together = together
        self.seed, self.shuffle, self.augment, self.degrade = seed, shuffle, augment, degrade
        views = dataset.view_shape[0]
        self.row = np.repeat(rows, views)
        self.view = np.tile(np.arange(views), len(rows))
        self.kind = dataset.column("kind")[self.row]
        self.label = dataset.column("label")[self.row].astype("float32")
        self.weight = dataset.column("weight")[self.row].astype("float32")
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch, and begin its augmentation."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.row)) if self.shuffle else np.arange(len(self.row))
        self.order = np.resize(order, -(-len(order) // self.parts) * self.parts)  # which repeats from the start
        rng = rng if self.together.chief else np.random.default_rng([self.seed, epoch, self.together.index])
        self.degrading = rng.spawn(1)[0]
        self.share = self.degrade if epoch else 0.0
        delivered = self.dataset.tiers[1:]
        self.tier = delivered[(epoch - 1) % len(delivered)] if delivered and self.share else ""
        self.augmentation = augmenter(int(rng.integers(2**31))) if self.augment and epoch else None

    @property
    def samples(self) -> int:
        """Number of views in an epoch."""
        return len(self.row)

    def __len__(self) -> int:
        return -(-len(self.row) // self.batch_size)

    def chosen(self, number: int) -> np.ndarray:
        """Return the samples of a batch; of several workers, this one's part of them."""
        return self.together.part(self.order[number * self.batch_size : (number + 1) * self.batch_size])

    def pixels(self, chosen: np.ndarray) -> np.ndarray:
        """Return the pixels of some samples, float32, (samples, size, size, 3)."""
        rows, places = np.unique(self.row[chosen], return_inverse=True)
        views = self.dataset.views(rows)[places, self.view[chosen]]
        if self.tier:
            taken = self.degrading.random(len(chosen)) < self.share
            delivered = self.dataset.views(rows, self.tier)[places, self.view[chosen]]
            views = np.where(taken[:, None, None, None], delivered, views)
        elif self.share:
            views = degraded(views, self.kind[chosen], self.share, self.degrading)
        pixels = views.astype("float32")
        return pixels if self.augmentation is None else self.augmentation(pixels)

    def answers(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, (samples, 1), and weights, (samples,), of some samples."""
        return self.label[chosen, None], self.weight[chosen]

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = self.chosen(number)
        return self.pixels(chosen), *self.answers(chosen)


def degraded(views: np.ndarray, kinds: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Degrade a share of views, each in its own way; H.264, a process each, at one strength for all of a batch."""
    drawn = [degradations.draw(rng, kind) if rng.random() < share else "" for kind in kinds]
    video = next((name for name in drawn if name.startswith("h264")), "")
    names = np.array([video if name.startswith("h264") else name for name in drawn], dtype=object)
    views = views.copy()
    for name in sorted(set(names) - {""}):
        views[names == name] = degradations.apply(name, views[names == name])
    return views


def classes(dataset: Dataset, last_component: str = NONE) -> Classes:
    """Return the sources of the training rows, as a head scores them, with that of decoded pictures if there are any.

    Args:
        dataset: Where the rows are.
        last_component: The setting.
    """
    rows = dataset.rows("train")
    source, label = dataset.column("source")[rows], dataset.column("label")[rows]
    if last_component != NONE:
        real = int((label == 0).sum())
        source = np.concatenate([source, np.full(min(real, MOST), SOURCE, dtype=object)])
        label = np.concatenate([label, np.ones(min(real, MOST), label.dtype)])
    return Classes.of(source, label)


def check(dataset: Dataset) -> None:
    """Refuse a dataset that nothing can be learnt from: both labels are needed in training and in validation."""
    labels = dataset.column("label")
    for split in ("train", "validation"):
        rows = dataset.rows(split)
        for number, name in enumerate(LABELS):
            if not np.any(labels[rows] == number):
                raise InputError(
                    f"{dataset.directory} has {len(rows)} rows in the {split} split and none of them is {name}; "
                    "training needs both labels in training and validation: give more media"
                )


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a fake scores above a real, ties counting half."""
    real, fake = np.sort(score[label == 0]), score[label == 1]
    below = np.searchsorted(real, fake, side="left") + np.searchsorted(real, fake, side="right")
    return float(below.mean() / 2 / len(real))
