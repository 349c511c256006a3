"""Stage: from a dataset to a trained detector."""

import importlib
import itertools
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components import containers, detector, home, registry
from components.dataset import LABELS, Dataset, batches
from components.errors import InputError
from components.progress import say
from components.training import curves, data, fit, model


@dataclass(frozen=True)
class Settings:
    """What a training is asked for; each default with its reason.

    Attributes:
        backbone: EfficientNetB0: the mission's.
        weights: "imagenet", "none" (all layers from scratch), or a file.
        recipe: "plain" is the mission's: the head reads the top of the backbone.
        epochs: Of phase 1, the backbone frozen; from scratch the two phases are one, of both numbers together.
        fine_tune_epochs: Of phase 2.
        unfreeze_layers: Layers that learn in phase 2, rounded outward to whole blocks.
        batch_size: 32 fits any GPU and gives a small set enough steps.
        learning_rate: Of Adam in phase 1 and from scratch.
        fine_tune_learning_rate: A tenth: pretrained weights are to be adjusted, not replaced.
        dropout: Before the last layer, as EfficientNetB0 has it.
        augment: Draw rotation, flip, zoom, brightness and contrast anew in every epoch.
        seed: Of order, augmentation, dropout and fresh weights: the same seed gives the same detector.
    """

    backbone: str = "efficientnetb0"
    weights: str = "imagenet"
    recipe: str = "plain"
    epochs: int = 10
    fine_tune_epochs: int = 10
    unfreeze_layers: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    fine_tune_learning_rate: float = 1e-4
    dropout: float = 0.2
    augment: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.recipe not in RECIPES:
            raise InputError(f"recipe {self.recipe!r} is not known; choose one of {', '.join(RECIPES)}")
        for name in ("epochs", "batch_size", "unfreeze_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


RECIPES = {"plain": 1, "depths": 4}  # depths whose features the head reads


def train(
    dataset: Path, output: Path, *, report: Path | None = None, work: Path | None = None, **settings: Any
) -> dict[str, Any]:
    """Train a detector and record the run in MLflow.

    Args:
        dataset: A dataset directory with train and validation rows.
        output: Where the detector's directory shall lie.
        report: Where the page with the learning curves shall lie, if wanted.
        work: Where checkpoints lie meanwhile; a place in the run home if not given.
        **settings: As in `Settings`.

    Returns:
        The detector's card.

    Raises:
        InputError: The dataset or a setting cannot be used, or weights or the tracking server cannot be had.
    """
    wanted = Settings(**settings)
    rows = Dataset(dataset)
    data.check(rows)
    keras.utils.set_random_seed(wanted.seed)
    work = Path(work or home.run_home() / "training" / Path(output).name)
    network = model.build(
        wanted.backbone,
        wanted.weights,
        rows.view_shape[1],
        depths=RECIPES[wanted.recipe],
        dropout=wanted.dropout,
    )
    card = _card(rows, wanted)
    tags = {"commit": card["commit"], "dataset": rows.digest, **card["versions"]}
    with registry.TrackedRun(name=f"train {wanted.backbone}") as run:
        run.log(params=card["settings"] | {"view": card["view"], "sampling": card["sampling"]}, tags=tags)
        card["mlflow_run"] = run.run_id
        history, card["unfrozen"] = _phases(network, rows, wanted, work, _recorder(run))
        card |= _threshold(network, rows)
        card["epochs"] = {phase: len(metrics) for phase, metrics in history.items()}
        card = detector.save(output, network, card)
        run.log_file(Path(output) / "card.json")
        if report:
            Path(report).write_text(curves.render(history, card))
            run.log_file(report)
    balanced = card["validation"]["balanced_accuracy"]
    say("train", f"done: validation balanced accuracy {balanced:.3f}, threshold {card['threshold']:.2f}")
    return card


def _recorder(run: registry.TrackedRun) -> Callable[[str, int, dict[str, float]], None]:
    steps = itertools.count()  # one count over all phases
    return lambda phase, epoch, metrics: run.log(metrics=metrics, step=next(steps))


def _phases(network: Any, rows: Dataset, wanted: Settings, work: Path, on_epoch: Callable) -> tuple[dict, dict]:
    augment = data.augmenter(wanted.seed) if wanted.augment else None
    train_batches = data.Batches(rows, rows.rows("train"), wanted.batch_size, wanted.seed, augment)
    validation = data.Batches(rows, rows.rows("validation"), wanted.batch_size)

    def phase(name: str, epochs: int, patience: int = fit.PATIENCE) -> list[dict[str, float]]:
        return fit.fit(
            network,
            train_batches,
            validation,
            phase=name,
            epochs=epochs,
            patience=patience,
            directory=work,
            on_epoch=on_epoch,
        )

    if wanted.weights == "none":
        model.unfreeze_all(network, wanted.learning_rate)
        history = {"scratch": phase("scratch", wanted.epochs + wanted.fine_tune_epochs, fit.SCRATCH_PATIENCE)}
        steady = data.Batches(rows, rows.rows("train"), wanted.batch_size, wanted.seed)
        model.re_estimate_statistics(network, (steady[number][0] for number in range(len(steady))))
        return history, {"layers": "all", "blocks": "all"}
    model.freeze(network, wanted.learning_rate)
    history = {"head": phase("head", wanted.epochs)}
    if not wanted.fine_tune_epochs:
        return history, {"layers": []}
    names = model.unfreeze(network, wanted.unfreeze_layers, wanted.fine_tune_learning_rate)
    say("train", f"unfrozen from {names[0]} on: {wanted.unfreeze_layers} layers, rounded out to whole blocks")
    history["fine-tune"] = phase("fine-tune", wanted.fine_tune_epochs)
    return history, {"asked": wanted.unfreeze_layers, "layers": names}


def _threshold(network: Any, rows: Dataset) -> dict[str, Any]:
    chosen = rows.rows("validation")
    label = rows.column("label")[chosen]
    logit = np.concatenate([detector.logits_of(network, rows.views(part)) for part in batches(chosen, 64)])
    probability = 1 / (1 + np.exp(-logit.astype("float64")))
    threshold = fit.best_threshold(probability, label)
    correct = (probability >= threshold) == (label == 1)
    balanced = (correct[label == 0].mean() + correct[label == 1].mean()) / 2
    return {"threshold": threshold, "validation": {"rows": len(chosen), "balanced_accuracy": float(balanced)}}


def _card(rows: Dataset, wanted: Settings) -> dict[str, Any]:
    return {
        "backbone": wanted.backbone,
        "weights": model.describe(wanted.weights),
        "recipe": wanted.recipe,
        "settings": asdict(wanted) | {"weights": Path(wanted.weights).name},
        "view": rows.card.get("view", ""),
        "view_shape": list(rows.view_shape),
        "sampling": rows.card.get("sampling", ""),
        "delivery": rows.card.get("delivery", ""),
        "labels": list(LABELS),
        "calibration": {},
        "dataset_digest": rows.digest,
        "note": rows.card.get("note", ""),
        "commit": _commit(),
        "versions": {
            "ai-vs-real": containers.VERSION,
            "python": platform.python_version(),
            "keras": metadata.version("keras"),
            "backend": f"{keras.backend.backend()} {_backend_version()}",
        },
    }


def _backend_version() -> str:
    return importlib.import_module(keras.backend.backend()).__version__


def _commit() -> str:
    """Return the commit of the code: GIT_COMMIT where an image sets it, else git's answer, else empty."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return (
            os.environ.get("GIT_COMMIT") or subprocess.check_output(asked, text=True, stderr=subprocess.DEVNULL).strip()
        )
    except (OSError, subprocess.SubprocessError):
        return ""
