"""What is fitted on a trained network's features: calibration, abstention band and familiarity."""

from typing import Any

import keras
import numpy as np

from components import calibration, familiarity
from components.dataset import Dataset, batches
from components.progress import follow, say
from components.runtime import backbone_features
from components.units import Units, units_of

ROWS_AT_ONCE = 6


def fit(
    network: keras.Model, dataset: Dataset, features: dict[str, np.ndarray], seed: int
) -> tuple[dict[str, Any], familiarity.Familiarity]:
    """Fit what turns a trained network's answers into verdicts.

    Args:
        network: The trained network.
        dataset: What it was trained on.
        features: Of the rows of "train" and "validation", as far as training kept them: see `of_rows`.
        seed: Of the degradations that are drawn where the dataset keeps no tiers.

    Returns:
        Entries for the card, and the familiarity.
    """
    kept = {name: features[name] if name in features else of_rows(network, dataset, name) for name in _SPLITS}
    units = {name: units_of(dataset, dataset.rows(name)) for name in _SPLITS}
    known, held = (_of_units(dataset, units[name], name, kept[name]) for name in _SPLITS)
    kernel, bias = head_of(network)
    logits = None
    if len(dataset.tiers) > 1:
        order = np.searchsorted(dataset.rows("validation"), units["validation"].rows)
        logits = [(rows @ kernel + bias)[order].astype(np.float32) for rows in kept["validation"]]
    card = calibration.calibrate(network, dataset, logits=logits, seed=seed)
    say("train", f"measuring familiarity by {known.shape[1]:,} training files in {len(known)} deliveries")
    train, validation = units["train"], units["validation"]
    fitted = familiarity.fit(known, train.source, train.label, (kernel, bias), held, validation.kind)
    card["familiarity"] = familiarity.entry(familiarity.LOST, train.source.tolist(), known.shape[1])
    return card, fitted


_SPLITS = ("train", "validation")


def of_rows(network: keras.Model, dataset: Dataset, split: str) -> np.ndarray:
    """Compute what the head reads of the rows of a split, the mean over their views, in every tier.

    Returns:
        float32, (tiers, rows, features).
    """
    compute = backbone_features(network, [network.get_layer("head_features").output])
    rows, tiers = dataset.rows(split), []
    for tier in dataset.tiers:
        parts = []
        runs = list(batches(rows, ROWS_AT_ONCE))
        for run in follow(runs, "train", f"batches of {split} features, {tier}", len(runs)):
            views = dataset.views(run, tier)
            computed = compute(views.reshape(-1, *views.shape[2:]).astype("float32"))[0]
            parts.append(computed.reshape(len(run), views.shape[1], -1).mean(axis=1))
        tiers.append(np.concatenate(parts))
    return np.stack(tiers)


def _of_units(dataset: Dataset, units: Units, split: str, rows: np.ndarray) -> np.ndarray:
    order = np.searchsorted(dataset.rows(split), units.rows)
    return np.stack([familiarity.of_units(tier[order], units.owner) for tier in rows])


def head_of(network: keras.Model) -> tuple[np.ndarray, float]:
    """Return kernel, (features,), and bias of the head on what it reads, the standardisation folded in."""
    kernel, bias = (np.asarray(array, dtype=np.float64) for array in network.get_layer("head_logit").get_weights())
    kernel = kernel[:, 0]
    if any(layer.name == "head_scale" for layer in network.layers):
        layer = network.get_layer("head_scale")
        kernel = kernel / np.sqrt(np.asarray(layer.adapt_variance, dtype=np.float64).ravel())
        return kernel, float(bias[0] - np.asarray(layer.adapt_mean, dtype=np.float64).ravel() @ kernel)
    return kernel, float(bias[0])
