"""Stage: from a dataset to a trained detector."""

import fcntl
import hashlib
import importlib
import itertools
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from components import containers, detector, home, known_media, runtime, tracking
from components.dataset import LABELS, Dataset
from components.errors import InputError
from components.progress import say
from components.revision import cluster_pipeline, revision
from components.settings import DEFAULTS, check, names_of
from components.training import curves, data, devices, known, model, phases, recipes
from components.training import workers as workers_of


@dataclass(frozen=True)
class Settings:
    """What a training is asked for: the settings of the stage, and what only code sets.

    Attributes:
        backbone: As in `components.settings`, and so are weights, recipe, epochs, fine_tune_epochs, unfreeze_layers,
            batch_size, learning_rate, draws, training_degradations, consistency, last_component, activation_cache,
            precision and seed. What is below 0 there, the recipe's own, is resolved here.
        fine_tune_learning_rate: Learning rate of phase 2; 0 for the recipe's own.
        dropout: Rate before the last layer, in [0, 1); EfficientNetB0 has 0.2.
        augment: Whether rotation, flip, zoom, brightness and contrast are drawn; None for the recipe's own.
        cache_gigabytes: Space that kept activations may take on disk, at most half of what is free.
    """

    backbone: str = DEFAULTS["backbone"]
    weights: str = DEFAULTS["weights"]
    recipe: str = DEFAULTS["recipe"]
    epochs: int = DEFAULTS["epochs"]
    fine_tune_epochs: int = DEFAULTS["fine_tune_epochs"]
    unfreeze_layers: int = DEFAULTS["unfreeze_layers"]
    batch_size: int = DEFAULTS["batch_size"]
    learning_rate: float = DEFAULTS["learning_rate"]
    fine_tune_learning_rate: float = 0.0
    dropout: float = 0.2
    augment: bool | None = None
    training_degradations: float = DEFAULTS["training_degradations"]
    activation_cache: bool = DEFAULTS["activation_cache"]
    consistency: float = DEFAULTS["consistency"]
    draws: int = DEFAULTS["draws"]
    last_component: str = DEFAULTS["last_component"]
    cache_gigabytes: float = 8.0
    precision: str = DEFAULTS["precision"]
    seed: int = DEFAULTS["seed"]

    def __post_init__(self):
        check({name: getattr(self, name) for name in names_of("train")})
        own = recipes.recipe_for(self.recipe, self.weights)
        resolved = recipes.resolved(asdict(self))
        if self.fine_tune_learning_rate <= 0:
            resolved["fine_tune_learning_rate"] = own.fine_tune_learning_rate
        if self.augment is None:
            resolved["augment"] = own.augment
        resolved["precision"] = devices.resolve(self.precision)
        for name, value in resolved.items():
            object.__setattr__(self, name, value)

    def key(self, dataset_digest: str) -> str:
        """Return a name for the work of this training: equal for equal settings, data, code version and backend."""
        text = json.dumps([asdict(self), dataset_digest, containers.VERSION, keras.backend.backend()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(
    dataset: str | Path,
    output: str | Path,
    *,
    report: str | Path | None = None,
    data_page: str | Path | None = None,
    work: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a detector and record the run in MLflow.

    A training that was killed goes on where it was when it is started again with the same arguments. Where TF_CONFIG
    names several workers, each of them calls this, with its own device and the same dataset; the first one writes.

    Args:
        dataset: A dataset directory with train and validation rows.
        output: Where the detector's directory shall lie.
        report: Where the page with the learning curves shall lie, if wanted.
        data_page: The page that preprocessing wrote of the dataset, to be kept with the run, if there is one.
        work: Where checkpoints and activations lie meanwhile; the run home's `training` if not given.
        **settings: As in `Settings`.

    Returns:
        The detector's card; empty in a worker that is not the first.

    Raises:
        InputError: The dataset or a setting cannot be used, weights or the tracking server cannot be had, or the same
            training is under way in another process, or the workers cannot share it.
        RuntimeError: Another worker was lost.
    """
    wanted = Settings(**settings)
    workers = workers_of.join(wanted.batch_size)
    rows = Dataset(dataset)
    data.check(rows)
    key = wanted.key(rows.digest)
    workers.agree(key)
    work = workers_of.work_of(home.work_place("training", work) / key, workers)
    keras.utils.clear_session()  # layers are numbered anew: the names are part of the detector's digest
    keras.utils.set_random_seed(wanted.seed)
    recipe = recipes.recipe_for(wanted.recipe, wanted.weights)
    team = devices.team(devices.accelerators(), wanted.batch_size) if workers.count == 1 else devices.ALONE
    with team.scope():
        network = model.build(
            wanted.backbone,
            wanted.weights,
            rows.view_shape[1],
            depths=recipe.depths,
            spread=recipe.spread,
            dropout=wanted.dropout,
            sources=data.classes(rows, wanted.last_component).counts if recipe.solved else None,
        )
    card = _card(rows, wanted) | {"devices": devices.kinds()[: team.count] * workers.count}
    say("train", f"in {wanted.precision} on {', '.join(card['devices'])}")
    if not workers.chief:
        with _alone(work), devices.computing(network, wanted.precision):
            phases.Phases(network, rows, wanted, work, lambda *_: None, team, workers).run()
        shutil.rmtree(work, ignore_errors=True)
        say("train", f"worker {workers.index} of {workers.count} is done; the first one writes the detector")
        return {}
    tags = {**_revision_tags(card), "dataset": rows.digest, "data_version": rows.version, **card["versions"]}
    with _alone(work), tracking.TrackedRun(name=f"train {wanted.backbone}") as run:
        run.log(params=card["settings"] | {"view": card["view"], "sampling": card["sampling"]}, tags=tags)
        card["mlflow_run"] = run.run_id
        training = phases.Phases(network, rows, wanted, work, _recorder(run), team, workers)
        with devices.computing(network, wanted.precision):
            card |= training.run()
        fitted, familiar = known.fit(network, rows, training.features, wanted.seed, training.decoded)
        card |= fitted
        card["depths"] = training.depths
        card["epochs"] = {phase: len(metrics) for phase, metrics in training.history.items()}
        card["validation"] = training.best() if wanted.precision == "float32" else training.measure()
        card = detector.save(output, network, card, familiar)
        known_media.write(output, rows)
        if keras.backend.backend() == "tensorflow":
            card = runtime.export(output, network, runtime.validation_units(rows))
        run.log_file(Path(output) / "card.json")
        profile = json.dumps(rows.card.get("counts", {}))[:60_000]
        run.log_dataset("dataset", rows.digest, str(dataset), "training", profile)
        if data_page:
            run.log_file(Path(data_page), "pages/data.html")
        if report:
            Path(report).write_text(curves.render(training.history, card))
            run.log_file(Path(report), "pages/training.html")
    shutil.rmtree(work, ignore_errors=True)
    say("train", f"done: validation AUC {card['validation']['auc']:.3f}, detector {card['digest'][:12]}")
    return card


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep a second training with the same arguments from writing into the first one's files."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which ends with the process, however it ends
        except OSError as error:
            raise InputError(
                f"the same training is under way in another process, which works in {work}; wait for it"
            ) from error
        yield


def _recorder(run: tracking.TrackedRun) -> phases.OnEpoch:
    steps = itertools.count()  # one count over all phases
    return lambda phase, epoch, metrics: run.log(metrics=metrics, step=next(steps))


def _card(rows: Dataset, wanted: Settings) -> dict[str, Any]:
    return {
        "backbone": wanted.backbone,
        "weights": model.describe(wanted.weights),
        "recipe": wanted.recipe,
        "settings": asdict(wanted)
        | {name: Path(getattr(wanted, name).partition("#")[0]).name for name in ("weights", "last_component")},
        "view": rows.card.get("view", ""),
        "view_shape": list(rows.view_shape),
        "sampling": rows.card.get("sampling", ""),
        "delivery": rows.card.get("delivery", ""),
        "tiers": rows.tiers,
        "labels": list(LABELS),
        "dataset_digest": rows.digest,
        "note": rows.card.get("note", ""),
        "data_version": rows.version,
        "revision": revision().document(),
        "pipeline": cluster_pipeline(),
        "versions": {
            "ai-vs-real": containers.VERSION,
            "python": platform.python_version(),
            "keras": metadata.version("keras"),
            "backend": f"{keras.backend.backend()} {_backend_version()}",
        },
    }


def _revision_tags(card: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in card["revision"].items() if value not in ("", None)}


def _backend_version() -> str:
    return importlib.import_module(keras.backend.backend()).__version__
