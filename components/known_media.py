"""Contract: the media a detector was trained on, by perceptual hash: a small table shipped with the detector.

With it a verdict can say "this file was in training", where a probability would be a memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.dataset import LABELS, Dataset

FILE = "known_media.parquet"
NEAR = 10  # bits of 64 up to which two pictures are shown as near; unrelated ones differ in about 32
SAME = 4  # bits up to which a file is called the same: what recompression and scaling change


@dataclass(frozen=True)
class Known:
    """A file of the training media that is near to another.

    Attributes:
        path: As the training media's manifest names it.
        label: real or fake.
        source: Camera or generator.
        split: train or validation.
        distance: Bits of 64 in which the perceptual hashes differ, 0 for the same picture.
    """

    path: str
    label: str
    source: str
    split: str
    distance: int


def write(directory: str | Path, dataset: Dataset) -> None:
    """Write the perceptual hash of every training and validation row beside a detector.

    Args:
        directory: Where the detector lies.
        dataset: What it was trained on.
    """
    chosen = np.concatenate([dataset.rows("train"), dataset.rows("validation")])
    columns = {
        "perceptual_hash": dataset.manifest["perceptual_hash"].take(chosen),
        "path": pa.array(dataset.column("path")[chosen]).dictionary_encode(),
        "label": pa.array([LABELS[label] for label in dataset.column("label")[chosen]]).dictionary_encode(),
        "source": pa.array(dataset.column("source")[chosen]).dictionary_encode(),
        "split": pa.array(dataset.column("split")[chosen]).dictionary_encode(),
    }
    part = Path(directory) / f".{FILE}.part"
    hashed = pa.table(columns).filter(pc.field("perceptual_hash").is_valid())  # not every row has one
    pq.write_table(hashed, part, compression="zstd")
    part.replace(Path(directory) / FILE)


class KnownMedia:
    """The table of a detector, loaded for looking files up.

    Args:
        directory: Where the detector lies; one without a table knows no media.
    """

    def __init__(self, directory: str | Path):
        path = Path(directory) / FILE
        self._table = pq.read_table(path) if path.is_file() else None
        self._hashes = np.asarray(self._table["perceptual_hash"]) if self._table is not None else np.empty(0, "uint64")

    def __len__(self) -> int:
        return len(self._hashes)

    def nearest(self, hashes: Sequence[int], count: int = 3) -> list[Known]:
        """Return the nearest training media of a file, the nearest first, none further than `NEAR`.

        Args:
            hashes: Perceptual hashes of the picture, or of the frames of a video.
            count: At most so many files.
        """
        if self._table is None or not hashes:
            return []
        # A flat picture's hash has few bits and is near to every other flat one: it identifies nothing.
        telling = [value for value in hashes if 16 <= int(value).bit_count() <= 48]
        best = np.full(len(self._hashes), 64, np.uint8)
        for value in telling:
            np.minimum(best, np.bitwise_count(self._hashes ^ np.uint64(value)), out=best)
        known: dict[str, Known] = {}
        for place in np.argsort(best, kind="stable"):
            if best[place] > NEAR or len(known) == count:
                break
            row: dict[str, Any] = self._table.slice(int(place), 1).to_pylist()[0]
            row.pop("perceptual_hash")
            known.setdefault(row["path"], Known(**row, distance=int(best[place])))
        return list(known.values())
