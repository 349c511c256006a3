"""Contract: how familiar a file is to a detector, from the features that its head reads.

Fitted at the end of training on training files, clean and delivered; its threshold is chosen on validation files for
a stated share of familiar media lost. `familiarity.npz` lies beside the card, whose entry `familiarity` sums it up.

The features are standardised and averaged over the views of a file. A head of their sources is solved, and in their
first principal components each source has a centre, and all sources share one covariance (Lee et al., arXiv
1807.03888). Five signals speak for a file: how sure the head is; how near it is to a centre; by how much nearer to a
source of the label that the head says than to any of the other; how high the sources' scores are together; and whether
the head says fake. How much each counts is learnt by leaving sources out: the whole is fitted without some of the
sources, again and again, and the signals are weighed to tell what is then answered rightly of known sources from what
is answered wrongly of those left out.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.source_head import Classes, SourceHead, log_sum, logits_of_scores, solve, source_weights

if TYPE_CHECKING:
    from components.units import Units

FILE = "familiarity.npz"
COMPONENTS = 64
BASIS = 1024  # files whose features span the space in which all is fitted: more change little
SHRINKAGE = 0.1  # of the pooled covariance towards a ball: some sources have a dozen files
FOLDS = 8  # parts of the sources that are left out in turn
AGAIN = 20  # iterations of a head without some sources, from the whole one
LOST = 0.08  # stated: share of familiar media that is called unfamiliar
FEW = 20  # units of a kind, below which all kinds share one scale
SIGNALS = ("sure", "near", "margin", "scores", "fake")
EVEN = (1.0, 1.0, 1.0, 0.0, 0.0)  # how much each counts where too few sources are there to leave any out
ERRORS = 0.3  # weight of the wrong answers on known sources beside those on sources left out
KINDS = ("picture", "clip")


@dataclass(frozen=True)
class Measured:
    """How familiar one file is.

    Attributes:
        score: Share of validation files that are no more familiar, [0, 1].
        threshold: The score below which a file is unfamiliar.
        nearest: The source whose centre is nearest.
    """

    score: float
    threshold: float
    nearest: str

    @property
    def familiar(self) -> bool:
        """Whether the file is like enough to the training media for a verdict."""
        return self.score >= self.threshold


class Familiarity:
    """What was fitted; see `fit` for the arrays.

    Args:
        arrays: By name.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = dict(arrays)

    @classmethod
    def read(cls, directory: str | Path) -> "Familiarity":
        """Read what lies beside a detector's card."""
        with np.load(Path(directory) / FILE) as held:
            return cls(dict(held))

    def save(self, directory: str | Path) -> None:
        """Write it beside a detector's card, there whole or not at all."""
        part = Path(directory) / f".{FILE}.part.npz"
        np.savez(part, allow_pickle=False, **self.arrays)
        os.replace(part, Path(directory) / FILE)

    @property
    def threshold(self) -> float:
        """The score below which a file is unfamiliar."""
        return float(self.arrays["threshold"])

    def measure(self, features: np.ndarray, kind: str = "picture") -> Measured:
        """Measure one file.

        Args:
            features: What the head reads, the mean over the file's views and, of a clip, its frames, (features,).
            kind: picture or clip.
        """
        scores, nearest = self.scores(features[None], np.array([kind], dtype=object))
        return Measured(float(scores[0]), self.threshold, str(nearest[0]))

    def scores(self, features: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Measure many files.

        Args:
            features: (files, features).
            kinds: picture or clip, (files,).

        Returns:
            Scores, float64, (files,), and the nearest sources, (files,).
        """
        raw, nearest = self._raw(np.asarray(features))
        scores = np.empty(len(raw))
        for kind in KINDS:
            chosen = kinds == kind
            scores[chosen] = _share(self.arrays[f"known_{kind}"], raw[chosen])
        return scores, self.arrays["sources"][nearest]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logit of fake that its own head gives, (files,); see `scores`."""
        held = self.arrays
        return SourceHead(held["kernel"], held["bias"], held["labels"]).logits(features)

    def _raw(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        held = self.arrays
        scores = features @ held["kernel"] + held["bias"]
        placed = (features @ held["projection"] - held["centre"]) @ held["whitening"]
        signals, nearest = _signals(scores, placed, held["centres"], held["labels"])
        return (signals - held["signal_mean"]) / held["signal_deviation"] @ held["signal_weight"], nearest


def _signals(
    scores: np.ndarray, placed: np.ndarray, centres: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what speaks for each file, (files, signals), and the nearest class, (files,)."""
    logits = logits_of_scores(scores, labels)
    apart = np.sqrt(np.maximum(np.square(placed[:, None] - centres).sum(axis=-1), 0))
    real, fake = (apart[:, labels == label].min(axis=1) for label in (0, 1))
    margin = np.where(logits > 0, real - fake, fake - real)
    return (
        np.stack([np.abs(logits), -apart.min(axis=1), margin, log_sum(scores), (logits > 0) * 1.0], axis=1),
        apart.argmin(axis=1),
    )


@dataclass(frozen=True)
class _Space:
    """A head of sources and their centres, in the space of the basis."""

    head: SourceHead
    whitening: np.ndarray
    centres: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, place: np.ndarray, names: np.ndarray, labels: np.ndarray, start: Any) -> "_Space":
        weight = source_weights(names[place], labels[place])
        again = {"start": start, "iterations": AGAIN} if start else {}
        head = solve(rows, place, labels, weight, **again)
        few = rows[:, :COMPONENTS].astype(np.float64)
        centres = np.stack([few[place == number].mean(axis=0) for number in range(len(labels))])
        within = few - centres[place]
        covariance = within.T @ within / len(within)
        covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(head, whitening, centres @ whitening)

    def without(self, kept: np.ndarray) -> SourceHead:
        return SourceHead(self.head.kernel[:, kept], self.head.bias[kept], self.head.labels[kept])

    def signals(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the signals of rows, and whether fake is said of them."""
        scores = self.head.scores(rows)
        placed = rows[:, :COMPONENTS] @ self.whitening
        signals, _ = _signals(scores, placed, self.centres, self.head.labels)
        return signals, logits_of_scores(scores, self.head.labels) > 0


def fit(
    known: np.ndarray,
    source: np.ndarray,
    label: np.ndarray,
    validation: np.ndarray,
    held: "Units",
    lost: float = LOST,
) -> Familiarity:
    """Fit what familiar is.

    Args:
        known: Features of the training files, each the mean over a file's views, (conditions, files, features).
        source: Of the training files, (files,).
        label: 0 real, 1 fake, of the training files; both occur.
        validation: Features of the validation files under the same conditions, (conditions, units, features).
        held: The validation files.
        lost: Share of familiar media that may be called unfamiliar.
    """
    classes = Classes.of(source, label)
    names, labels = np.array(classes.names), classes.labels
    place = np.tile(classes.places(source, label), len(known))
    rows = np.concatenate(known).astype(np.float32)
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
    basis = _basis((rows - mean) / deviation) / deviation[:, None]
    centre = mean @ basis
    placed = rows @ basis - centre
    whole = _Space.of(placed, place, names, labels, None)
    checked = np.concatenate(validation).astype(np.float32) @ basis - centre
    of_checked = np.tile(classes.places(held.source, held.label), len(validation))
    mean_of, deviation_of, weight = _weigh(
        whole, placed, place, checked, of_checked, np.tile(held.label, len(validation)), names
    )
    arrays = {
        "projection": basis[:, :COMPONENTS],
        "centre": centre[:COMPONENTS],
        "whitening": whole.whitening,
        "centres": whole.centres,
        "sources": names,
        "labels": labels,
        "kernel": basis @ whole.head.kernel,
        "bias": whole.head.bias - centre @ whole.head.kernel,
        "signal_mean": mean_of,
        "signal_deviation": deviation_of,
        "signal_weight": weight,
        "threshold": np.float64(lost),
    }
    raw = np.concatenate([Familiarity(arrays)._raw(tier)[0] for tier in validation])
    kind_of = np.tile(held.kind, len(validation))
    for kind in KINDS:
        arrays[f"known_{kind}"] = np.sort(raw[kind_of == kind] if (held.kind == kind).sum() >= FEW else raw)
    return Familiarity(arrays)


def _weigh(
    whole: _Space,
    placed: np.ndarray,
    place: np.ndarray,
    checked: np.ndarray,
    of_checked: np.ndarray,
    label_of: np.ndarray,
    names: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Learn how much each signal counts, by leaving sources out: mean and deviation of the signals, and weights."""
    from sklearn.linear_model import LogisticRegression

    labels = whole.head.labels
    fold = _folds(place, labels)
    tables, good, weights = [], [], []
    for number in range(FOLDS):
        kept = fold != number
        if kept.all():
            continue
        known = kept[place]
        part = _Space.of(
            placed[known], (np.cumsum(kept) - 1)[place[known]], names[kept], labels[kept], whole.without(kept)
        )
        table, fake = part.signals(placed[~known])
        wrong = fake != (labels[place[~known]] == 1)
        tables.append(table[wrong])
        good.append(np.zeros(wrong.sum()))
        weights.append(1 / np.bincount(place, minlength=len(labels))[place[~known]][wrong])
        # Known files, by a head that has not seen some sources either: the same number of sources spoke of both.
        asked = kept[of_checked] & (of_checked >= 0) & ((np.arange(len(of_checked)) % FOLDS) == number)
        table, fake = part.signals(checked[asked])
        right = fake == (label_of[asked] == 1)
        tables.append(table)
        good.append(right * 1.0)
        weights.append(np.where(right, 1.0, ERRORS))
    target = np.concatenate(good) if good else np.zeros(0)
    if len(set(target)) < 2:
        table, _ = whole.signals(checked if len(checked) else placed)
        return table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6), np.array(EVEN)
    table, weight = np.concatenate(tables), np.concatenate(weights)
    for value in (0, 1):
        weight[target == value] *= len(target) / 2 / weight[target == value].sum()
    mean, deviation = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6)
    mix = LogisticRegression(C=1.0).fit((table - mean) / deviation, target, weight)
    return mean, deviation, mix.coef_[0]


def _folds(place: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the fold in which each class is left out, (classes,); -1 for the only class of a label."""
    fold = np.full(len(labels), -1)
    size = np.bincount(place, minlength=len(labels))
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        if len(own) > 1:
            fold[own[np.argsort(-size[own], kind="stable")]] = np.arange(len(own)) % min(FOLDS, len(own))
    return fold


def _basis(rows: np.ndarray) -> np.ndarray:
    """Return directions that span some of the rows, by falling variance of all of them, (features, directions)."""
    few = np.random.default_rng(0).permutation(len(rows))[:BASIS]
    span = np.linalg.qr(rows[few].T)[0]
    inside = rows @ span
    turn = np.linalg.eigh(inside.T @ inside)[1][:, ::-1]
    return (span @ turn).astype(np.float32)


def _share(held: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share of `held`, ascending, that is at most each value."""
    return np.searchsorted(held, values, side="right") / len(held)


def of_units(features: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Average the features of rows over their units: (rows, features) and (rows,) to (units, features), float32."""
    count = np.bincount(owner)
    out = np.zeros((len(count), features.shape[1]), dtype=np.float64)
    np.add.at(out, owner, features)
    return (out / count[:, None]).astype(np.float32)


def entry(lost: float, sources: Sequence[str], known: int) -> dict[str, Any]:
    """Return what a card says of it."""
    return {
        "method": "a head of the sources and their centres; five signals weighed by leaving sources out",
        "threshold": lost,
        "share_lost": lost,
        "sources": sorted(set(sources)),
        "fitted_on": known,
    }
