"""Contract: how familiar a file is to a detector, from the features that its head reads.

Fitted at the end of training on training files, clean and delivered; its threshold is chosen on validation files for
a stated share of familiar media lost. `familiarity.npz` lies beside the card, whose entry `familiarity` sums it up.

The features are standardised, averaged over the views of a file, and brought to their first principal components; there
each source has a centre, and all sources share one covariance (Lee et al., arXiv 1807.03888). A file is familiar

- if it is near enough to a centre: its distance is one that validation files have;
- and if it is by enough nearer to a source of the label that the head says than to any of the other label.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FILE = "familiarity.npz"
COMPONENTS = 64
SHRINKAGE = 0.1  # of the pooled covariance towards a ball: some sources have a dozen files
LOST = 0.08  # stated: share of familiar media that is called unfamiliar
FEW = 20  # units of a kind, below which all kinds share one scale
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
        raw, nearest = self._raw(features)
        scores = np.empty(len(raw))
        for kind in KINDS:
            chosen = kinds == kind
            scores[chosen] = _share(self.arrays[f"both_{kind}"], self._both(raw[chosen], kind))
        return scores, self.arrays["sources"][nearest]

    def _both(self, raw: np.ndarray, kind: str) -> np.ndarray:
        # The smaller of two shares: a file is as familiar as the worse of both says.
        return np.minimum(*(_share(self.arrays[f"{name}_{kind}"], raw[:, n]) for n, name in enumerate(_TERMS)))

    def _raw(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        held = self.arrays
        logits = features @ held["kernel"] + held["bias"]
        placed = (features @ held["projection"] - held["centre"]) @ held["whitening"]
        apart = np.linalg.norm(placed[:, None] - held["centres"], axis=-1)
        real, fake = (apart[:, held["labels"] == label].min(axis=1) for label in (0, 1))
        margin = np.where(logits > 0, real - fake, fake - real)
        return np.stack([-apart.min(axis=1), margin], axis=1), apart.argmin(axis=1)


_TERMS = ("near", "margin")


def fit(
    known: np.ndarray,
    source: np.ndarray,
    label: np.ndarray,
    head: tuple[np.ndarray, float],
    validation: np.ndarray,
    kinds: np.ndarray,
    lost: float = LOST,
) -> Familiarity:
    """Fit what familiar is.

    Args:
        known: Features of the training files, each the mean over a file's views, (conditions, files, features).
        source: Of the training files, (files,).
        label: Of the training files, 0 real, 1 fake; both occur.
        head: Kernel, (features,), and bias of the detector's head on these features.
        validation: Features of the validation files under the same conditions, (conditions, units, features).
        kinds: picture or clip, of the validation files.
        lost: Share of familiar media that may be called unfamiliar.
    """
    rows = np.concatenate(known).astype(np.float32)
    of_row, label_of = np.tile(source, len(known)), np.tile(label, len(known))
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
    projection = _principal((rows - mean) / deviation) / deviation[:, None]
    centre = mean @ projection
    placed = rows @ projection - centre
    names = sorted({(name, int(value)) for name, value in zip(of_row, label_of, strict=True)})
    members = [(of_row == name) & (label_of == value) for name, value in names]
    centres = np.stack([placed[chosen].mean(axis=0) for chosen in members])
    within = placed - centres[np.argmax(np.stack(members), axis=0)]
    covariance = within.T @ within / len(within)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    arrays = {
        "projection": projection.astype(np.float32),
        "centre": centre,
        "whitening": whitening,
        "centres": centres @ whitening,
        "sources": np.array([name for name, _ in names]),
        "labels": np.array([value for _, value in names]),
        "kernel": np.asarray(head[0], np.float32),
        "bias": np.float64(head[1]),
        "threshold": np.float64(lost),
    }
    fitted = Familiarity(arrays)
    raw = np.concatenate([fitted._raw(tier)[0] for tier in validation])
    kind_of = np.tile(kinds, len(validation))
    for kind in KINDS:
        own = raw[kind_of == kind] if (kinds == kind).sum() >= FEW else raw
        for number, name in enumerate(_TERMS):
            arrays[f"{name}_{kind}"] = np.sort(own[:, number])
        fitted.arrays = arrays
        arrays[f"both_{kind}"] = np.sort(fitted._both(own, kind))
    return Familiarity(arrays)


def _principal(rows: np.ndarray) -> np.ndarray:
    """Return the first principal directions, (features, components), of centred rows."""
    from sklearn.utils.extmath import randomized_svd

    count = min(COMPONENTS, min(rows.shape) - 1)
    return randomized_svd(rows, max(1, count), n_iter=4, random_state=0)[2].T.astype(np.float64)


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
        "method": f"{COMPONENTS} principal components, source centres, pooled covariance; distance and margin",
        "threshold": lost,
        "share_lost": lost,
        "sources": sorted(set(sources)),
        "fitted_on": known,
    }
