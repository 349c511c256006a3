"""The phases of training: from scratch, the head alone, the last layers; each from pixels or from activations."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.dataset import Dataset, batches
from components.detector import logits_of
from components.last_component import NONE, Decoded, decode
from components.progress import say
from components.source_head import Classes, SourceHead, source_weights
from components.training import cache, data, devices, fit, model
from components.training import workers as workers_of
from components.training.recipes import recipe_for

OnEpoch = Callable[[str, int, dict[str, float]], None]


class Phases:
    """One training: the network, its data, and where it keeps what it needs to go on.

    Args:
        network: What `model.build` made.
        rows: The dataset.
        wanted: The settings, as in `train.Settings`, none left open.
        work: Where checkpoints and activations lie.
        on_epoch: Called with phase, epoch and metrics.
        team: The devices that train, in whose scope the network was built. Activations to keep are computed by the
            first alone: they wait for the processor, which augments.
        workers: The processes that train. Each computes activations to keep for its part of the views, and is given
            those of the others; what is solved of them is solved in each.
    """

    def __init__(
        self,
        network: keras.Model,
        rows: Dataset,
        wanted: Any,
        work: Path,
        on_epoch: OnEpoch,
        team: devices.Team = devices.ALONE,
        workers: workers_of.Workers = workers_of.ALONE,
    ):
        self.network, self.rows, self.wanted, self.work, self.on_epoch = network, rows, wanted, work, on_epoch
        self.recipe, self.team, self.workers = recipe_for(wanted.recipe, wanted.weights), team, workers
        self.history: dict[str, list[dict[str, float]]] = {}
        self.depths: list[dict[str, Any]] = []
        self.features: dict[str, np.ndarray] = {}
        self.decoded: Decoded | None = None
        self.validation = data.Batches(
            rows,
            rows.rows("validation"),
            wanted.batch_size,
            seed=wanted.seed,
            degrade=1.0,
            parts=team.count,
            together=workers,
        )
        self.train = self._views(wanted.augment, wanted.training_degradations, workers)

    def _views(self, augment: bool, degrade: float, workers: workers_of.Workers) -> data.Batches:
        wanted = self.wanted
        return data.Batches(
            self.rows,
            self.rows.rows("train"),
            wanted.batch_size,
            seed=wanted.seed,
            shuffle=True,
            augment=augment,
            degrade=degrade,
            parts=self.team.count,
            together=workers,
        )

    def run(self) -> dict[str, Any]:
        """Train, and return what a card says of it: what was unfrozen, and whether activations were kept."""
        wanted = self.wanted
        if wanted.weights == "none":
            return self._scratch()
        names = model.unfreeze(self.network, wanted.unfreeze_layers, wanted.fine_tune_learning_rate)
        low = model.boundary(self.network)
        model.freeze(self.network, wanted.learning_rate)
        draws = wanted.draws if wanted.augment or wanted.training_degradations else 1
        needed = cache.size_of(low, draws * self.train.samples + self.validation.samples)
        cached = wanted.activation_cache and self.workers.all(self.fits(needed))
        if not wanted.fine_tune_epochs:
            low, names = model.boundary(self.network), []
        kept = self._keep(low, draws) if cached and (wanted.fine_tune_epochs or not self.recipe.solved) else None
        self._head(low, kept, draws)
        if wanted.fine_tune_epochs:
            model.unfreeze(self.network, wanted.unfreeze_layers, wanted.fine_tune_learning_rate)
            say("train", f"unfrozen from {names[0]} on: {wanted.unfreeze_layers} layers, rounded out to whole blocks")
            self._fit("fine-tune", wanted.fine_tune_epochs, low, kept, draws, beat_start=True)
            self.features = {}  # those of the head before this phase
        return {
            "unfrozen": {"asked": wanted.unfreeze_layers, "layers": names},
            "activation_cache": cached,
            "draws": draws,
        }

    def _scratch(self) -> dict[str, Any]:
        wanted = self.wanted
        with self.team.scope():
            model.unfreeze_all(self.network, wanted.learning_rate)
            model.compile_for_training(self.network, wanted.learning_rate, self.workers)
            self.history["scratch"] = fit.fit(
                self.network,
                self.train,
                self.validation,
                phase="scratch",
                epochs=wanted.epochs + wanted.fine_tune_epochs,
                patience=fit.SCRATCH_PATIENCE,
                directory=self.work,
                on_epoch=self.on_epoch,
                workers=self.workers,
            )
        steady = self._views(augment=False, degrade=0.0, workers=workers_of.ALONE)
        model.re_estimate_statistics(self.network, (steady[number][0] for number in range(len(steady))))
        return {"unfrozen": {"layers": "all"}, "activation_cache": False, "draws": 0}

    def best(self) -> dict[str, float]:
        """Return loss and ROC AUC on validation of the epoch whose weights the network has."""
        epochs = [metrics for phase in self.history.values() for metrics in phase]
        best = min(epochs, key=lambda metrics: metrics["val_loss"])
        return {"loss": best["val_loss"], "auc": best["val_auc"]}

    def measure(self) -> dict[str, float]:
        """Return loss and ROC AUC on validation of the network as it computes now, in any precision."""
        held = self.validation
        parts = batches(np.arange(held.samples), held.batch_size)
        logit = np.concatenate([logits_of(self.network, held.pixels(part)[:, None]) for part in parts])
        loss = np.mean(held.weight * (np.logaddexp(0, logit) - held.label * logit))
        return {"loss": float(loss), "auc": data.roc_auc(held.label, logit)}

    def fits(self, needed: int) -> bool:
        """Say whether activations of so many bytes may be kept."""
        self.work.mkdir(parents=True, exist_ok=True)
        room = min(self.wanted.cache_gigabytes * 1e9, shutil.disk_usage(self.work).free / 2)
        if needed > room:
            say("train", f"activations would take {needed / 1e9:.1f} GB, {room / 1e9:.1f} GB are free: going without")
        return needed <= room

    def _keep(self, tensors: list[Any], draws: int) -> tuple[cache.Activations, cache.Activations]:
        lower = cache.Lower(self.network.inputs, tensors)
        return (
            cache.from_pixels(self.work / "train", lower, self.train, draws, "training views"),
            cache.from_pixels(self.work / "validation", lower, self.validation, 1, "validation views"),
        )

    def _head(self, low: list[Any], kept: tuple | None, draws: int) -> None:
        if self.recipe.solved:
            self._solve(low, kept, draws)
            return
        if kept and self.wanted.fine_tune_epochs:
            high = model.boundary(self.network)
            lower = cache.Lower(low, high)
            pairs = zip(("train", "validation"), kept, (self.train, self.validation), strict=True)
            kept = tuple(self._raise(f"{name}-head", lower, activations, source) for name, activations, source in pairs)
            low = high
        self._fit("head", self.wanted.epochs, low, kept, draws)

    def _raise(self, name: str, lower: cache.Lower, kept: cache.Activations, source: data.Batches) -> cache.Activations:
        """Compute activations from kept ones, which are the inputs of `lower`."""
        count = len(kept.arrays[0])

        def batches(_: int) -> Any:
            for start in range(0, count, source.batch_size):
                yield [array[start : start + source.batch_size] for array in kept.arrays]

        return cache.compute(self.work / name, lower, 1, count, batches)

    def _solve(self, low: list[Any], kept: tuple | None, draws: int) -> None:
        began = time.monotonic()
        features = [self.network.get_layer("head_features").output]
        conditions = len(self.rows.tiers)
        if kept and self.wanted.fine_tune_epochs:
            lower = cache.Lower(low, features)
            train = self._raise("train-head", lower, kept[0], self.train)
            validation = self._raise("validation-head", lower, kept[1], self.validation)
            conditions = 1
        else:
            lower = cache.Lower(self.network.inputs, features)
            train, validation = (
                cache.from_pixels(self.work / f"{name}-head", lower, source, count, f"{name} views")
                for name, source, count in (("train", self.train, draws), ("validation", self.validation, conditions))
            )
        self.validation.begin_epoch(0)
        views = train.arrays[0]
        say("train", f"solving the head: {features[0].shape[-1]:,} features of {len(views):,} views")
        model.scale(self.network, np.array_split(views, max(1, len(views) // 256)))
        label = np.tile(self.train.label, draws)
        source = self.rows.column("source")[self.train.row]
        classes = data.classes(self.rows, self.wanted.last_component)
        place = np.tile(classes.places(source, self.train.label), draws)
        every = self.rows.view_shape[0]
        scaled = self._scaled(views)
        if self.wanted.last_component != NONE:
            self.decoded = self._decode(lower, draws)
            scaled, label, place, weight = self._with_decoded(scaled, label, place, classes, draws)
        else:
            weight = np.tile(source_weights(source, self.train.label, self.train.weight) / every, draws)
        head = fit.solve_head(self.network, scaled, place, classes.labels, weight, draws, self.wanted.consistency)
        held = self._scaled(validation.arrays[0][: self.validation.samples])
        metrics: dict[str, float] = {}
        for prefix, rows, answer in (("", scaled, label), ("val_", held, self.validation.label)):
            logit = head.logits(rows)
            metrics |= {f"{prefix}loss": float(np.mean(np.logaddexp(0, logit) - answer * logit))}
            metrics |= {f"{prefix}auc": data.roc_auc(answer, logit)}
        metrics["seconds"] = time.monotonic() - began
        del scaled
        self.features = {
            name: _averaged(kept.arrays[0], every).reshape(count, -1, features[0].shape[-1])
            for name, kept, count in (("train", train, draws), ("validation", validation, conditions))
        }
        for name, views_of, count in (("train", train, draws), ("validation", validation, conditions)):
            said = np.concatenate([head.logits(self._scaled(part)) for part in np.array_split(views_of.arrays[0], 16)])
            self.features[f"{name}_logits"] = said.reshape(count, -1, every).mean(axis=-1).astype(np.float32)
        known = self._scaled(self.features["train"].reshape(-1, features[0].shape[-1]))
        own = slice(0, len(views), every)  # of the dataset's views alone
        self.depths = self._ablate(known, _averaged(held, every), place[own], weight[own] * every, head)
        self.history["head"] = [metrics]
        self.on_epoch("head", 0, metrics)
        say("train", f"head solved: validation loss {metrics['val_loss']:.3f}, AUC {metrics['val_auc']:.3f}")

    def _decode(self, lower: cache.Lower, draws: int) -> Decoded:
        kept, rows = self.work / "decoded.npz", self.rows.rows("train")
        if kept.is_file():
            with np.load(kept) as file:
                return Decoded(file["rows"], file["features"])
        width = int(lower.tensors[0].shape[-1])
        text, seed = self.wanted.last_component, self.wanted.seed
        decoded = decode(self.rows, rows, text, lower, width, draws=draws, seed=seed, stage="train")
        part = kept.with_name(".decoded.part.npz")
        np.savez(part, allow_pickle=False, rows=decoded.rows, features=decoded.features)
        os.replace(part, kept)
        return decoded

    def _with_decoded(
        self,
        scaled: np.ndarray,
        label: np.ndarray,
        place: np.ndarray,
        classes: Classes,
        draws: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Add the pairs to features, labels and classes, and weigh all rows: all views of a row as one of its pair."""
        assert self.decoded is not None
        features, source, of_pair = self.decoded.together(self.rows.column("source"))
        every = self.rows.view_shape[0]
        rows = self.train.row[::every]
        sources = np.concatenate([self.rows.column("source")[rows], source])
        labels = np.concatenate([self.train.label[::every], of_pair])
        own = self.train.weight[::every]
        of_rows = own[np.searchsorted(rows, self.decoded.rows)]  # both pictures of a pair as their row
        shares = source_weights(sources, labels, np.concatenate([own, of_rows, of_rows]))
        each = np.repeat(shares[: len(rows)] / every, every)
        return (
            np.concatenate([scaled, self._scaled(features.reshape(-1, features.shape[-1]))]),
            np.concatenate([label, np.tile(of_pair, draws)]),
            np.concatenate([place, np.tile(classes.places(source, of_pair), draws)]),
            np.concatenate([np.tile(each, draws), np.tile(shares[len(rows) :], draws)]),
        )

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        # As the layer `head_scale` does it, but in NumPy and in place: TensorFlow would copy gigabytes.
        layer = self.network.get_layer("head_scale")
        mean, deviation = np.asarray(layer.adapt_mean), np.sqrt(np.asarray(layer.adapt_variance))
        out = np.array(features, dtype=np.float32)
        out -= mean
        out /= deviation
        return out

    def _ablate(
        self, train: np.ndarray, validation: np.ndarray, place: np.ndarray, weight: np.ndarray, head: SourceHead
    ) -> list[dict[str, Any]]:
        """Solve the head on each depth alone, and measure all of them together: what the head's answer rests on."""
        pools = [layer for layer in self.network.layers if layer.name.startswith("head_pool_")]
        pools = [layer for layer in pools if not layer.name.startswith("head_pool_square_")]
        widths = [tensor.shape[-1] for tensor in self.network.get_layer("head_features").input]
        depth = np.repeat(np.arange(len(widths)) % len(pools), widths)
        label = self.validation.label[:: self.rows.view_shape[0]]
        depths = []
        for number, pool in enumerate(pools):
            own = depth == number
            alone = fit.solved(train[:, own], place, head.labels, weight)
            about = {"layer": pool.name.removeprefix("head_pool_"), "pixels": pool.input.shape[1]}
            auc = data.roc_auc(label, alone.logits(validation[:, own]))
            depths.append(about | {"features": int(own.sum()), "auc": auc})
        return [*depths, {"features": len(depth), "auc": data.roc_auc(label, head.logits(validation))}]

    def _fit(
        self, phase: str, epochs: int, low: list[Any], kept: tuple | None, draws: int, beat_start: bool = False
    ) -> None:
        train, validation = self.train, self.validation
        if kept:
            train = cache.CachedBatches(train, kept[0], draws)
            validation = cache.CachedBatches(validation, kept[1])
        with self.team.scope():
            learner = keras.Model(low, self.network.outputs) if kept else self.network
            model.compile_for_training(learner, float(self.network.optimizer.learning_rate), self.workers)
            self.history[phase] = fit.fit(
                learner,
                train,
                validation,
                phase=phase,
                epochs=epochs,
                patience=fit.PATIENCE,
                directory=self.work,
                on_epoch=self.on_epoch,
                beat_start=beat_start,
                workers=self.workers,
            )


def _averaged(features: np.ndarray, every: int) -> np.ndarray:
    """Average the features of the views of each row: (rows * every, features) to (rows, features), float32."""
    out = np.empty((len(features) // every, features.shape[1]), dtype=np.float32)
    for start in range(0, len(out), 256):
        part = np.asarray(features[start * every : (start + 256) * every])
        out[start : start + 256] = part.reshape(-1, every, features.shape[1]).mean(axis=1)
    return out
