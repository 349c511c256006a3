"""Fitting: one phase of training with its callbacks, and its progress for a person."""

import contextlib
import ctypes
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from components import source_head
from components.progress import say
from components.runtime import HEAD_SOURCES
from components.source_head import SourceHead
from components.training import workers as workers_of

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
    beat_start: bool = False,
    workers: workers_of.Workers = workers_of.ALONE,
) -> list[dict[str, float]]:
    """Train a compiled model for one phase and leave it with the weights of its best epoch.

    A phase that was cut short goes on from its last whole epoch, to the same weights.

    Args:
        model: Compiled; its trainable layers learn.
        train: A PyDataset with `begin_epoch` and `samples`.
        validation: A PyDataset of the validation rows.
        phase: Its name, for progress and files.
        epochs: At most; EarlyStopping may end sooner.
        patience: Epochs without a better validation loss before EarlyStopping; half of them before ReduceLROnPlateau.
        directory: Where checkpoint and state lie.
        on_epoch: Called with phase, epoch from 0, and the epoch's metrics.
        beat_start: Keep the weights as they are unless an epoch has a better validation loss.
        workers: That fit the model together, each on its part of the batches.

    Returns:
        The metrics of each epoch.
    """
    directory.mkdir(parents=True, exist_ok=True)
    best = directory / f"{phase}.weights.h5"
    state = _State(directory / f"{phase}.npz")
    for file in (best, state.file):
        workers.share(file)  # all go on from where the chief was
    start = None
    if beat_start and not state.file.exists():
        model.evaluate(validation, verbose=0)
        start = workers_of.metrics_of(model, workers)["loss"]
        model.save_weights(best)
    progress = _Progress(train, phase, epochs, on_epoch)
    saver = keras.callbacks.ModelCheckpoint(
        best, monitor="val_loss", save_best_only=True, save_weights_only=True, initial_value_threshold=start
    )
    stopper = keras.callbacks.EarlyStopping(monitor="val_loss", mode="min", patience=patience)
    slower = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", mode="min", factor=PLATEAU_FACTOR, patience=patience // 2
    )
    state.watch(model, progress, {"saver": saver, "stopper": stopper, "slower": slower})
    first = state.restore()
    if first < epochs and not state.stopped:
        with workers.together():
            model.fit(
                train,
                validation_data=validation,
                initial_epoch=first,
                epochs=epochs,
                callbacks=[*workers_of.callbacks(workers), _Memory(), progress, saver, stopper, slower, state],
                verbose=0,
                shuffle=False,
            )
    workers.share(best)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file may hold the optimizer of another phase
        model.load_weights(best)
    return progress.history


class _State(keras.callbacks.Callback):
    """Writes after each epoch all that the next ones depend on; the last callback of the list."""

    REMEMBERED: ClassVar = {
        "saver": ("best",),
        "stopper": ("best", "wait", "best_epoch"),
        "slower": ("best", "wait", "cooldown_counter"),
    }

    def __init__(self, file: Path):
        super().__init__()
        self.file, self.stopped = file, False
        self.marks: dict[str, dict[str, float]] = {}

    def watch(self, model: keras.Model, progress: "_Progress", callbacks: dict[str, Any]) -> None:
        self.watched, self.progress, self.callbacks = model, progress, callbacks

    def _variables(self) -> list[Any]:
        optimizer = self.watched.optimizer
        if not optimizer.built:
            optimizer.build(self.watched.trainable_variables)
        return [*self.watched.variables, *optimizer.variables]

    def restore(self) -> int:
        """Return the epoch to go on with, everything as it was after the one before."""
        if not self.file.exists():
            return 0
        with np.load(self.file) as held:
            state = json.loads(str(held["state"]))
            for number, variable in enumerate(self._variables()):
                variable.assign(held[f"v{number}"])
        self.stopped, self.marks = state["stopped"], state["marks"]
        for epoch, metrics in enumerate(state["history"]):
            self.progress.report(epoch, metrics)
        say("train", f"{self.progress.phase} goes on after epoch {len(state['history'])}")
        return len(state["history"])

    def on_train_begin(self, logs=None):
        for name, marks in self.marks.items():  # the callbacks before have just reset themselves
            for mark, value in marks.items():
                setattr(self.callbacks[name], mark, value)

    def on_epoch_end(self, epoch, logs=None):
        marks = {
            name: {mark: value for mark in wanted if (value := getattr(self.callbacks[name], mark)) is not None}
            for name, wanted in self.REMEMBERED.items()
        }
        state = {"history": self.progress.history, "marks": marks, "stopped": bool(self.watched.stop_training)}
        arrays = {f"v{number}": np.asarray(variable) for number, variable in enumerate(self._variables())}
        part = self.file.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, state=np.array(json.dumps(state, default=float)), **arrays)
        os.replace(part, self.file)


class _Memory(keras.callbacks.Callback):
    """Lets the C library keep what is freed, for the next step to take.

    TensorFlow's generator dataset, by which Keras feeds batches, has glibc give back all above 128 KiB
    (tensorflow/core/kernels/data/generator_dataset_op.cc, from 2.21 on). Each step then has its pages given and zeroed
    anew: an epoch of EfficientNetB0 from scratch, 96 pixels, on two cores, takes 23 s in place of 8 s.
    """

    TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:  # the dataset is made by now
            with contextlib.suppress(OSError, AttributeError):  # another C library
                library = ctypes.CDLL(None)
                library.mallopt(self.TRIM_THRESHOLD, 1 << 30)
                library.mallopt(self.MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes


class _Progress(keras.callbacks.Callback):
    def __init__(self, train: Any, phase: str, epochs: int, on_epoch: Callable):
        super().__init__()
        self.train, self.phase, self.epochs, self.on_epoch = train, phase, epochs, on_epoch
        self.history: list[dict[str, float]] = []

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        self.history.append(metrics)
        self.on_epoch(self.phase, epoch, metrics)

    def on_epoch_begin(self, epoch, logs=None):
        self.train.begin_epoch(epoch)
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        metrics = {name: float(value) for name, value in logs.items()}
        metrics["seconds"] = time.monotonic() - self.began
        self.report(epoch, metrics)
        left = np.mean([epoch_metrics["seconds"] for epoch_metrics in self.history[-3:]]) * (self.epochs - epoch - 1)
        say(
            "train",
            f"{self.phase} {epoch + 1}/{self.epochs}: loss {metrics['loss']:.3f}, "
            f"validation loss {metrics['val_loss']:.3f}, AUC {metrics['val_auc']:.3f}, "
            f"{self.train.samples / metrics['seconds']:,.0f} images/s, at most {left:,.0f} s left",
        )


def solve_head(
    network: keras.Model,
    features: np.ndarray,
    place: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    draws: int,
    consistency: float,
) -> SourceHead:
    """Set the last layers to the solution of `solved`, and return it.

    The problem is convex, and with thousands of features of a few thousand views Adam is far from its solution after
    ten epochs.

    Args:
        network: With layers `head_scale`, `runtime.HEAD_SOURCES` and `head_logit`.
        features: As in `solved`, with the five that follow.
        place: The class of each sample, (samples,).
        labels: 0 real, 1 fake, of each class, ascending.
        weight: Of the samples, (samples,).
        draws: Draws of the same views.
        consistency: How strongly the draws of one view are pulled together.
    """
    head = solved(features, place, labels, weight, draws, consistency)
    for label, name in enumerate(HEAD_SOURCES):
        own = labels == label
        network.get_layer(name).set_weights([head.kernel[:, own], head.bias[own]])
    return head


def solved(
    features: np.ndarray,
    place: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    draws: int = 1,
    consistency: float = 0.0,
) -> SourceHead:
    """Solve the head of the sources, the draws of a view pulled together where that is asked for.

    Args:
        features: Standardised float32, (draws * samples, features), draw by draw.
        place: The class of each row, (rows,).
        labels: 0 real, 1 fake, of each class.
        weight: Of each row in the loss.
        draws: Draws of the same views; of several the first is the one that the others are compared with.
        consistency: Weight of half the squared difference between the scores of a view in two draws, in units of one
            view's loss. At 0 the draws are independent samples.
    """
    from scipy.linalg import solve_triangular

    root = None
    if consistency:
        # A quadratic penalty is a ridge in other coordinates: w'Pw = u'u where P = RR' and w = R'^-1 u.
        first, *others = np.split(features, draws)
        apart = np.concatenate([other - first for other in others])
        penalty = consistency * source_head.STRENGTH * (apart.T @ apart)
        penalty[np.diag_indices_from(penalty)] += 1.0
        root = np.linalg.cholesky(penalty)
        features = solve_triangular(root, features.T, lower=True).T
    head = source_head.solve(features, place, labels, weight)
    if root is None:
        return head
    kernel = solve_triangular(root, head.kernel, lower=True, trans="T").astype(np.float32)
    return SourceHead(kernel, head.bias, head.labels)
