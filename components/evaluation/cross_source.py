"""What a detector does on a source that it has never seen: one left out at a time, from features computed once."""

from dataclasses import replace
from typing import Any

import numpy as np

from components.dataset import Dataset, batches
from components.detector import Detector
from components.evaluation.metrics import measure
from components.evaluation_result import LeftOutSource, Measures
from components.progress import follow, say
from components.units import Units

MOST_ROWS = 4000  # of the training split: more change little and cost minutes
DEPTHS = 4
SCORED_AT_ONCE = 32  # rows in memory


def cross_source(detector: Detector, data: Dataset, units: Units, seed: int = 0) -> list[LeftOutSource] | None:
    """Train a linear head with and without each source, and judge both on that source.

    The features are those of layers that training left as they were, so that nothing in them has seen the source.

    Args:
        detector: The trained detector.
        data: The dataset; its training split trains the heads.
        units: The test units.
        seed: Random seed of the choice of training rows, where there are too many.

    Returns:
        A result for each source whose label has another one. None where training changed every layer.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = untouched(detector)
    if network is None:
        say("evaluate", "no leave-one-source-out: training changed every layer, so every feature has seen every source")
        return None
    rows = data.rows("train")
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
    label, source = data.column("label")[rows], data.column("source")[rows]
    known, asked = features(network, data, rows), features(network, data, units.rows)

    def answers(chosen: np.ndarray) -> np.ndarray:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=200))
        logits = head.fit(known[chosen], label[chosen]).decision_function(asked)
        mean = np.bincount(units.owner, weights=logits) / np.bincount(units.owner)
        return 1 / (1 + np.exp(-mean))

    with_all = answers(np.ones(len(rows), dtype=bool))
    left_out = []
    for name in sorted(set(units.source)):
        own = int(units.label[units.source == name][0])
        left = source != name
        if not (left & (label == own)).any() or left.all():
            continue
        judged = (units.source == name) | (units.label != own)
        without = answers(left)
        left_out.append(
            LeftOutSource(
                source=name,
                label=("real", "fake")[own],
                n=int((units.source == name).sum()),
                seen=_measure(units, with_all, judged, name),
                unseen=_measure(units, without, judged, name),
            )
        )
    return left_out


def _measure(units: Units, probabilities: np.ndarray, judged: np.ndarray, name: str) -> Measures:
    own = units.source == name
    right = (probabilities[own] >= 0.5) == (units.label[own] == 1)
    return replace(measure(units.label[judged], probabilities[judged]), accuracy=float(right.mean()))


def untouched(detector: Detector) -> Any:
    """Return the part of the network that training left as it was, giving average-pooled features of several depths.

    Returns:
        A Keras model from pixels to features; None where training changed every layer.
    """
    import keras

    changed = detector.card.get("unfrozen", {}).get("layers", "all")
    if changed == "all":
        return None
    by_resolution = {}
    for layer in detector.model.layers:
        if layer.name in changed or layer.name.startswith("head_"):
            break
        shape = layer.output.shape
        if len(shape) == 4 and shape[1] < detector.model.input_shape[1]:
            by_resolution[shape[1]] = layer.output
    taps = [keras.layers.GlobalAveragePooling2D()(output) for output in list(by_resolution.values())[-DEPTHS:]]
    return keras.Model(detector.model.inputs, keras.layers.Concatenate()(taps) if len(taps) > 1 else taps[0])


def features(network: Any, data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Compute the features of rows, averaged over their views: float32, (rows, features)."""
    out = []
    runs = list(batches(rows, SCORED_AT_ONCE))
    for run in follow(runs, "evaluate", "batches of features", len(runs)):
        views = data.views(run)
        flat = views.reshape(-1, *views.shape[2:]).astype("float32")
        values = np.asarray(network.predict_on_batch(flat))
        out.append(values.reshape(len(run), -1, values.shape[-1]).mean(axis=1))
    return np.concatenate(out)
