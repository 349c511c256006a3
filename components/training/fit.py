"""Fitting: one phase of training with its callbacks, and its progress for a person."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.progress import say

PATIENCE = 4  # epochs without a better validation loss before a phase ends
SCRATCH_PATIENCE = 8  # from scratch validation jumps, as BatchNorm's statistics lag behind the weights
PLATEAU_FACTOR = 0.3  # of the learning rate, after half the patience


def fit(
    model: keras.Model,
    train: Any,
    validation: Any,
    *,
    phase: str,
    epochs: int,
    patience: int,
    directory: Path,
    on_epoch: Callable[[str, int, dict[str, float]], None],
) -> list[dict[str, float]]:
    """Train a compiled model for one phase and leave it with the weights of its best epoch.

    Args:
        model: Compiled; its trainable layers learn.
        train: A PyDataset with `begin_epoch` and `samples`.
        validation: A PyDataset of the validation rows.
        phase: Its name, for progress and files.
        epochs: At most; EarlyStopping may end sooner.
        patience: Epochs without a better validation loss before EarlyStopping; half of them before ReduceLROnPlateau.
        directory: Where the checkpoint goes.
        on_epoch: Called with phase, epoch from 0, and the epoch's metrics.

    Returns:
        The metrics of each epoch.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / f"{phase}.weights.h5"
    history: list[dict[str, float]] = []
    callbacks = [
        _Progress(train, phase, epochs, history, on_epoch),
        keras.callbacks.ModelCheckpoint(checkpoint, monitor="val_loss", save_best_only=True, save_weights_only=True),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=PLATEAU_FACTOR, patience=patience // 2),
    ]
    model.fit(train, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False)
    model.load_weights(checkpoint)
    return history


class _Progress(keras.callbacks.Callback):
    def __init__(self, train: Any, phase: str, epochs: int, history: list, on_epoch: Callable):
        super().__init__()
        self.train, self.phase, self.epochs, self.history, self.on_epoch = train, phase, epochs, history, on_epoch

    def on_train_begin(self, logs=None):
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self.train.begin_epoch(epoch)
        self.epoch_began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        metrics = {name: float(value) for name, value in logs.items()} | {"seconds": now - self.epoch_began}
        self.history.append(metrics)
        self.on_epoch(self.phase, epoch, metrics)
        rate = self.train.samples / metrics["seconds"]
        left = (now - self.began) / (epoch + 1) * (self.epochs - epoch - 1)
        say(
            "train",
            f"{self.phase} {epoch + 1}/{self.epochs}: loss {metrics['loss']:.3f}, "
            f"validation loss {metrics['val_loss']:.3f}, AUC {metrics['val_auc']:.3f}, "
            f"{rate:,.0f} images/s, at most {left:,.0f} s left",
        )


def best_threshold(probability: np.ndarray, label: np.ndarray) -> float:
    """Return the probability of fake from which to say fake, for the best balanced accuracy.

    It lies halfway between two neighbouring scores; of equally good ones the one nearest 0.5 is taken.

    Args:
        probability: In [0, 1], (rows,).
        label: 0 real, 1 fake, (rows,).
    """
    scores = np.unique(np.concatenate([[0.0], probability.astype("float64"), [1.0]]))
    candidates = (scores[1:] + scores[:-1]) / 2
    real, fake = np.sort(probability[label == 0]), np.sort(probability[label == 1])
    kept = np.searchsorted(real, candidates) / len(real) + 1 - np.searchsorted(fake, candidates) / len(fake)
    best = candidates[kept >= kept.max() - 1e-9]
    return float(best[np.argmin(np.abs(best - 0.5))])
