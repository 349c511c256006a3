"""Contract: what is judged. A picture is a unit, and so are all the frames of one video together (a clip)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from components.dataset import Dataset
from components.detector import calibrated, clip_probability

NOT_FOR_VIDEOS = "Not for videos"  # begins a detector's limits that say nothing of pictures


@dataclass(frozen=True)
class Units:
    """The units of some rows of a dataset; all arrays are (units,).

    Attributes:
        rows: The dataset's rows that are scored, unit by unit, int64, (rows,).
        owner: The unit of each of these rows, int64, (rows,).
        path: The file, as the manifest names it.
        label: 0 real, 1 fake.
        kind: picture or clip.
        source: Camera or generator.
        group: What must not cross a split, and what the bootstrap draws.
        short_side: Of the original, pixels.
    """

    rows: np.ndarray
    owner: np.ndarray
    path: np.ndarray
    label: np.ndarray
    kind: np.ndarray
    source: np.ndarray
    group: np.ndarray
    short_side: np.ndarray

    def __len__(self) -> int:
        return len(self.path)

    def rows_of(self, unit: int) -> np.ndarray:
        """Return the dataset's rows of one unit."""
        return self.rows[self.owner == unit]

    def only(self, mask: np.ndarray) -> "Units":
        """Return the units of a mask, with their rows, both in the same order as before."""
        chosen = {field.name: getattr(self, field.name)[mask] for field in fields(self)[2:]}
        kept = mask[self.owner]
        return Units(rows=self.rows[kept], owner=(np.cumsum(mask) - 1)[self.owner[kept]], **chosen)


def units_of(dataset: Dataset, rows: np.ndarray) -> Units:
    """Group rows into units, in the order of each unit's first row."""
    kind, path = dataset.column("kind")[rows], dataset.column("path")[rows]
    names = [f"{name}\0{row if sort == 'picture' else ''}" for name, sort, row in zip(path, kind, rows, strict=True)]
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    lead = rows[first[order]]
    owner = place[inverse]
    by_unit = np.argsort(owner, kind="stable")
    return Units(
        rows=np.asarray(rows, dtype=np.int64)[by_unit],
        owner=owner[by_unit],
        path=dataset.column("path")[lead],
        label=dataset.column("label")[lead].astype(np.int64),
        kind=np.where(dataset.column("kind")[lead] == "picture", "picture", "clip").astype(object),
        source=dataset.column("source")[lead],
        group=dataset.column("group")[lead],
        short_side=np.minimum(dataset.column("width")[lead], dataset.column("height")[lead]),
    )


def unit_probabilities(card: Mapping[str, Any], units: Units, logits: np.ndarray) -> np.ndarray:
    """Turn the logits of rows into each unit's probability of fake, by a detector's card; float64, (units,)."""
    out = np.empty(len(units))
    pictures = units.kind[units.owner] == "picture"
    out[units.owner[pictures]] = calibrated(card, logits[pictures], "picture")
    for clip in np.flatnonzero(units.kind == "clip"):
        out[clip] = clip_probability(card, logits[units.owner == clip])
    return out
