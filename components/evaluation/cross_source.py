"""What a detector does on a source that it has never seen: one left out at a time, from features computed once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components import calibration, familiarity
from components.dataset import Dataset, batches
from components.detector import Detector, sigmoid
from components.errors import InputError
from components.evaluation.answers import verdicts
from components.evaluation.metrics import measure
from components.evaluation_result import LeftOutSource, Measures
from components.last_component import NONE, Decoded, decode
from components.progress import follow, say
from components.runtime import backbone_features
from components.units import Units, unit_probabilities, units_of

MOST_ROWS = 4000  # of a split: more change little and cost minutes
DEPTHS = 4
SCORED_AT_ONCE = 6  # rows in memory: a pass over 160 views took 7 GB


def parse_families(text: str) -> dict[str, str]:
    """Read which sources belong together, and are left out together.

    Args:
        text: NAME=SOURCE+SOURCE[,NAME=...], such as "imagen=imagic-imagen+ptp-imagen"; empty for none.

    Returns:
        The family of each source that is named.

    Raises:
        InputError: The text has another form.
    """
    families: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, sources = part.partition("=")
        members = [source.strip() for source in sources.split("+") if source.strip()]
        if not name.strip() or not members:
            raise InputError(
                f"families has {part!r}; write NAME=SOURCE+SOURCE with commas between, such as "
                "imagen=imagic-imagen+ptp-imagen"
            )
        families |= dict.fromkeys(members, name.strip())
    return families


@dataclass(frozen=True)
class _Split:
    """The units of a split, their rows' features, and those of the units."""

    units: Units
    rows: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, network: Any, data: Dataset, units: Units) -> "_Split":
        rows = features(network, data, units.rows)
        return cls(units, rows, familiarity.of_units(rows, units.owner))

    def only(self, mask: np.ndarray) -> "_Split":
        return _Split(self.units.only(mask), self.rows[mask[self.units.owner]], self.features[mask])


def cross_source(
    detector: Detector,
    data: Dataset,
    units: Units,
    families: Mapping[str, str] | None = None,
    seed: int = 0,
    last_component: str = NONE,
) -> list[LeftOutSource] | None:
    """Train a head of sources with and without each source's family, and judge both on that source.

    The features are those of layers that training left as they were, so that nothing in them has seen the source. Where
    the dataset has a validation split, calibration, band and familiarity are fitted on it, without the family as well,
    so that what is answered is what a detector would answer that had never met it.

    Args:
        detector: The trained detector.
        data: The dataset; its training split trains the heads.
        units: The test units.
        families: The family of a source, by its name; a source that is not named is a family of its own.
        seed: Random seed of the choice of training rows, where there are too many.
        last_component: Weights of the autoencoder whose decoded pictures the heads are to read as well, or "none".

    Returns:
        A result for each source whose label has another family. None where training changed every layer.
    """
    network = untouched(detector)
    if network is None:
        say("evaluate", "no leave-one-source-out: training changed every layer, so every feature has seen every source")
        return None
    families = families or {}
    train, validation = (_Split.of(network, data, _few(data, name, seed)) for name in ("train", "validation"))
    test = _Split.of(network, data, units)
    decoded = None
    if last_component != NONE:
        compute, width = backbone_features(network), int(network.output_shape[-1])
        decoded = decode(data, train.units.rows, last_component, compute, width, draws=1, seed=seed, stage="evaluate")
    sources = data.column("source")

    def trained(kept: np.ndarray, held: np.ndarray) -> Any:
        if decoded is None:
            return _judge(train.only(kept), validation.only(held), None, sources)
        rows = train.units.rows[kept[train.units.owner]]
        return _judge(train.only(kept), validation.only(held), decoded.only(np.isin(decoded.rows, rows)), sources)

    judge = trained(np.ones(len(train.units), dtype=bool), np.ones(len(validation.units), dtype=bool))
    seen = judge(test)
    parts = (train, validation, test)
    left_out = []
    names = sorted({(str(name), int(label)) for name, label in zip(units.source, units.label, strict=True)})
    judges: dict[bytes, Any] = {}  # by what is kept: the sources of a family share one
    for name, label in follow(names, "evaluate", "sources left out", len(names)):
        # A source of no family is left out with one label: a folder of clips may stand under both.
        out = families.get(name)
        kept = [
            np.array([families.get(source) != out for source in part.units.source], dtype=bool)
            if out
            else (part.units.source != name) | (part.units.label != label)
            for part in parts
        ]
        if len(set(train.units.label[kept[0]])) < 2 or label not in train.units.label[kept[0]]:
            continue
        key = kept[0].tobytes()
        if key not in judges:
            judges[key] = trained(kept[0], kept[1])
        without = judges[key]
        own = [part.only((part.units.source == name) & (part.units.label == label)) for part in parts]
        others = test.only(kept[2])
        left_out.append(_result(name, label, seen, test, without, own, others))
    return left_out


def _few(data: Dataset, split: str, seed: int) -> Units:
    rows = data.rows(split)
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
    return units_of(data, rows)


@dataclass(frozen=True)
class _Answers:
    """What a head says of units: probability of fake; familiarity and verdict, None where they are not known."""

    probability: np.ndarray
    familiarity: np.ndarray | None
    verdict: np.ndarray | None


def _judge(known: _Split, checked: _Split, decoded: Decoded | None, sources: np.ndarray) -> Any:
    """Train a head on training units, and decoded pairs of them; return a function from a split to its answers."""
    features, source, label = known.features[None], known.units.source, known.units.label
    if decoded is not None:
        more, named, labels = decoded.together(sources)
        features = np.concatenate([features, more], axis=1)
        source, label = np.concatenate([source, named]), np.concatenate([label, labels])
    fitted = familiarity.fit(features, source, label, checked.features[None], checked.units)
    if len(set(checked.units.label.tolist())) < 2:
        return lambda part: _Answers(sigmoid(fitted.logits(part.features)), None, None)
    logits = fitted.logits(checked.rows)
    card: dict[str, Any] = {"threshold": calibration.THRESHOLD, "calibration": calibration.fit(checked.units, [logits])}
    probabilities = unit_probabilities(card, checked.units, logits)
    card["abstention"] = calibration.abstention(checked.units.label, probabilities[None], calibration.ERROR_RATE)
    card["familiarity"] = {"threshold": familiarity.LOST}

    def answers(part: _Split) -> _Answers:
        probability = unit_probabilities(card, part.units, fitted.logits(part.rows))
        familiar = fitted.scores(part.features, part.units.kind)[0]
        return _Answers(probability, familiar, verdicts(card, probability, familiar))

    return answers


def _result(
    name: str, label: int, seen: _Answers, test: _Split, without: Any, own: list[_Split], others: _Split
) -> LeftOutSource:
    judged = ((test.units.source == name) & (test.units.label == label)) | (test.units.label != label)
    beside = others.only(others.units.label != label)
    asked = [without(part) for part in own if len(part.units)]
    against = without(beside)
    probability = np.concatenate([part.probability for part in asked])
    labels = np.concatenate([np.full(len(probability), label), beside.units.label])
    unseen = measure(labels, np.concatenate([probability, against.probability]))
    right = ((probability >= calibration.THRESHOLD) == (label == 1)).mean()
    result = LeftOutSource(
        source=name,
        label=("real", "fake")[label],
        n=len(probability),
        seen=_measure(test.units, seen.probability, judged, name),
        unseen=replace(unseen, accuracy=float(right)),
    )
    if against.familiarity is None:
        return result
    familiar = without(others).familiarity
    strange = np.concatenate([part.familiarity for part in asked])
    said = np.concatenate([part.verdict for part in asked])
    known = np.repeat([0, 1], [len(familiar), len(strange)])
    return replace(
        result,
        familiarity_auc=measure(known, 1 - np.concatenate([familiar, strange])).roc_auc,
        wrong=float((said == ("fake", "real")[label]).mean()),
        right=float((said == ("real", "fake")[label]).mean()),
    )


def _measure(units: Units, probabilities: np.ndarray, judged: np.ndarray, name: str) -> Measures:
    own = units.source == name
    right = (probabilities[own] >= calibration.THRESHOLD) == (units.label[own] == 1)
    return replace(measure(units.label[judged], probabilities[judged]), accuracy=float(right.mean()))


def untouched(detector: Detector) -> Any:
    """Return the part of the network that training left as it was, giving average-pooled features.

    Returns:
        A Keras model from pixels to features: what the head reads, where the whole backbone was left as it was, else
        those of several depths below what was changed; None where training changed every layer.
    """
    import keras

    changed = detector.card.get("unfrozen", {}).get("layers", "all")
    if changed == "all":
        return None
    if not changed and any(layer.name == "head_features" for layer in detector.model.layers):
        return keras.Model(detector.model.inputs, detector.model.get_layer("head_features").output)
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
    out = np.empty((len(rows), network.output_shape[-1]), dtype=np.float32)
    runs = list(batches(np.arange(len(rows)), SCORED_AT_ONCE))
    if not len(rows):
        return out
    compute = backbone_features(network)
    for run in follow(runs, "evaluate", "batches of features", len(runs)):
        views = data.views(rows[run])
        flat = views.reshape(-1, *views.shape[2:]).astype("float32")
        out[run] = compute(flat)[0].reshape(len(run), -1, out.shape[1]).mean(axis=1)
    return out
