"""Fitting: one phase of training with its callbacks, and its progress for a person."""

import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from components.progress import say

PATIENCE = 4  # epochs without a better validation loss before a phase ends
SCRATCH_PATIENCE = 8  # from scratch validation jumps, as BatchNorm's statistics lag behind the weights
SOLVER_C = 0.01  # weak enough to use thousands of features, strong enough for a few thousand views; from the ablation
SOLVER_ITERATIONS = 100
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

    Returns:
        The metrics of each epoch.
    """
    directory.mkdir(parents=True, exist_ok=True)
    best = directory / f"{phase}.weights.h5"
    state = _State(directory / f"{phase}.npz")
    start = None
    if beat_start and not state.file.exists():
        start = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
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
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=first,
            epochs=epochs,
            callbacks=[progress, saver, stopper, slower, state],
            verbose=0,
            shuffle=False,
        )
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
    network: keras.Model, features: np.ndarray, label: np.ndarray, weight: np.ndarray, draws: int, consistency: float
) -> None:
    """Set the last layer to the solution of `logistic`.

    The problem is convex, and with thousands of features of a few thousand views Adam is far from its solution after
    ten epochs: on native crops of the reference media, ROC AUC 0.967 against 0.993.

    Args:
        network: With layers `head_scale` and `head_logit`.
        features: As in `logistic`, with the three that follow.
        label: 0 real, 1 fake, (samples,).
        weight: Of the samples, (samples,).
        draws: Draws of the same views.
        consistency: How strongly the draws of one view are pulled together.
    """
    kernel, bias = logistic(features, label, weight, draws, consistency)
    network.get_layer("head_logit").set_weights([kernel[:, None], bias])


def logistic(
    features: np.ndarray, label: np.ndarray, weight: np.ndarray, draws: int = 1, consistency: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the regularised logistic regression of features, by L-BFGS.

    Args:
        features: Standardised float32, (draws * samples, features), draw by draw.
        label: 0 real, 1 fake, of each row.
        weight: Of each row in the loss.
        draws: Draws of the same views; of several the first is the one that the others are compared with.
        consistency: Weight of half the squared difference between the logits of a view in two draws, in units of one
            view's loss. At 0 the draws are independent samples.

    Returns:
        Kernel, float32, (features,), and bias, float32, (1,).
    """
    from scipy.linalg import solve_triangular
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(C=SOLVER_C, max_iter=SOLVER_ITERATIONS)
    root = None
    if consistency:
        # A quadratic penalty is a ridge in other coordinates: w'Pw = u'u where P = RR' and w = R'^-1 u.
        first, *others = np.split(features, draws)
        apart = np.concatenate([other - first for other in others])
        penalty = consistency * SOLVER_C * (apart.T @ apart)
        penalty[np.diag_indices_from(penalty)] += 1.0
        root = np.linalg.cholesky(penalty)
        features = solve_triangular(root, features.T, lower=True).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped at max_iter is meant
        solver.fit(features, label, weight)
    kernel = solver.coef_[0]
    if root is not None:
        kernel = solve_triangular(root, kernel, lower=True, trans="T")
    return kernel.astype("float32"), solver.intercept_.astype("float32")
