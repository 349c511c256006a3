"""What is fitted on a trained network's features: calibration, abstention band and familiarity."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from components import calibration, familiarity
from components.dataset import Dataset, batches
from components.last_component import Decoded
from components.progress import follow, say
from components.runtime import backbone_features
from components.units import Units, units_of

ROWS_AT_ONCE = 6


def fit(
    network: keras.Model,
    dataset: Dataset,
    features: dict[str, np.ndarray],
    seed: int,
    decoded: Decoded | None = None,
) -> tuple[dict[str, Any], familiarity.Familiarity]:
    """Fit what turns a trained network's answers into verdicts.

    Args:
        network: The trained network.
        dataset: What it was trained on.
        features: Of the rows of "train" and "validation", and as "train_logits" and "validation_logits" what the head
            says of them, see `of_rows`; empty where training kept none.
        seed: Of the degradations that are drawn where the dataset keeps no tiers.
        decoded: What the head has read of decoded pictures, if there are any.

    Returns:
        Entries for the card, and the familiarity.
    """
    if features:
        computed = {name: (features[name], features[f"{name}_logits"]) for name in _SPLITS}
    else:
        compute = backbone_features(network, [network.get_layer("head_features").output, network.outputs[0]])
        computed = {name: of_rows(compute, dataset, name) for name in _SPLITS}
    units = {name: units_of(dataset, dataset.rows(name)) for name in _SPLITS}
    known, held = (_of_units(dataset, units[name], name, computed[name][0]) for name in _SPLITS)
    logits = None
    if len(dataset.tiers) > 1:
        order = np.searchsorted(dataset.rows("validation"), units["validation"].rows)
        logits = [tier[order] for tier in computed["validation"][1]]
    card = calibration.calibrate(network, dataset, logits=logits, seed=seed)
    say("train", f"measuring familiarity by {known.shape[1]:,} training files in {len(known)} deliveries")
    train, validation = units["train"], units["validation"]
    source, label = train.source, train.label
    if decoded is not None:
        more, sources, labels = decoded.together(dataset.column("source"))
        places = np.arange(len(known)) % len(more)  # a condition that was not drawn of the pairs has an earlier draw
        known = np.concatenate([known, more[places]], axis=1)
        source, label = np.concatenate([source, sources]), np.concatenate([label, labels])
    fitted = familiarity.fit(known, source, label, held, validation)
    card["familiarity"] = familiarity.entry(familiarity.LOST, train.source.tolist(), known.shape[1])
    return card, fitted


_SPLITS = ("train", "validation")


def of_rows(
    compute: Callable[[np.ndarray], list[np.ndarray]], dataset: Dataset, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Compute what the head reads of the rows of a split and what it says, the means over their views, in every tier.

    Args:
        compute: From pixels to features and logits, as `runtime.backbone_features` returns it.
        dataset: Where the rows are.
        split: Its name.

    Returns:
        Features, float32, (tiers, rows, features), and logits, float32, (tiers, rows).
    """
    rows, features, logits = dataset.rows(split), [], []
    for tier in dataset.tiers:
        read, said = [], []
        runs = list(batches(rows, ROWS_AT_ONCE))
        for run in follow(runs, "train", f"batches of {split} features, {tier}", len(runs)):
            views = dataset.views(run, tier)
            computed = compute(views.reshape(-1, *views.shape[2:]).astype("float32"))
            read.append(computed[0].reshape(len(run), views.shape[1], -1).mean(axis=1))
            said.append(computed[1].reshape(len(run), views.shape[1]).mean(axis=1))
        features.append(np.concatenate(read))
        logits.append(np.concatenate(said))
    return np.stack(features), np.stack(logits)


def _of_units(dataset: Dataset, units: Units, split: str, rows: np.ndarray) -> np.ndarray:
    order = np.searchsorted(dataset.rows(split), units.rows)
    return np.stack([familiarity.of_units(tier[order], units.owner) for tier in rows])
