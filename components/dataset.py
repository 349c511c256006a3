"""Contract: a dataset on disk.

A directory with

- `dataset.json`: the card: format version, view and sampling policy, counts, digest;
- `manifest.parquet`: one row for each picture or video frame, in the order of the shards;
- `shards/*.npy`: uint8 views of shape (rows, tiers * views, size, size, 3), few and large, read by row: those of the
  file as it is, then those of the file as each further tier of `components.media.degradations` delivers it;
- `rejections.parquet`: every file that was left out, by name and reason.

The directory is written under a temporary name and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import InputError
from components.media.degradation_names import CLEAN

FORMAT = 2
LABELS = ("real", "fake")
SPLITS = ("train", "validation", "test")
SHARD_BYTES = 256 * 1024 * 1024
ROWS_AT_ONCE = 4096  # of a manifest as dicts, which take five times the memory of columns

MANIFEST = pa.schema(
    [
        ("content_sha256", pa.string()),  # of the file's bytes
        ("pixel_sha256", pa.string()),  # of this row's decoded pixels, before the view
        ("path", pa.string()),  # as given
        ("label", pa.int8()),  # 0 real, 1 fake
        ("kind", pa.string()),  # picture, frame
        ("source", pa.string()),  # camera or generator where known, else the folder's name
        ("group", pa.string()),  # what must not cross a split
        ("time_s", pa.float64()),  # of the frame in its video, seconds; null for a picture
        ("width", pa.int32()),  # of the original, upright, pixels
        ("height", pa.int32()),
        ("format", pa.string()),  # the container: JPEG, PNG, mp4, ...
        ("bytes", pa.int64()),
        ("codec", pa.string()),  # of a video stream; empty for a picture
        ("bitrate", pa.float64()),  # bits a second; null for a picture
        ("frame_rate", pa.float64()),  # frames a second; null for a picture
        ("jpeg_quality", pa.float64()),  # estimated from the quantisation tables; null without them
        ("has_exif", pa.bool_()),
        ("perceptual_hash", pa.uint64()),  # 64-bit DCT hash of the decoded pixels
        ("thumbnail", pa.binary(32 * 32)),  # uint8 gray, of the decoded pixels, before delivery and view
        ("deliveries", pa.list_(pa.string())),  # what each tier did to the file, as CHAIN=STEPS; empty for clean
        ("weight", pa.float32()),  # of the row in training
        ("split", pa.string()),  # train, validation, test; empty before the split
    ]
)
REJECTIONS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.int8()),
        ("source", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


class Dataset:
    """A dataset on disk, opened for reading.

    Args:
        directory: Where the dataset lies.

    Raises:
        InputError: The directory holds no whole dataset of this format.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        card = self.directory / "dataset.json"
        if not card.is_file():
            raise InputError(
                f"{self.directory} is not a dataset: it has no dataset.json; make one with ai-vs-real preprocess"
            )
        self.card: dict[str, Any] = json.loads(card.read_text())
        if self.card.get("format") != FORMAT:
            raise InputError(
                f"{card} has format {self.card.get('format')!r}, this version reads {FORMAT}; make it again"
            )
        self.manifest: pa.Table = pq.read_table(self.directory / "manifest.parquet")
        # Mapped only to learn where the rows lie: pages touched through a map would count as this process's memory.
        maps = [np.load(self.directory / "shards" / name, mmap_mode="r") for name in self.card["shards"]]
        self._shards = [(Path(shard.filename), shard.offset) for shard in maps]
        self._starts = np.cumsum([0, *(len(shard) for shard in maps)])

    def __len__(self) -> int:
        return self.manifest.num_rows

    @property
    def digest(self) -> str:
        """The sha256 of the manifest and the policies: equal digests mean equal rows in equal order."""
        return self.card["digest"]

    @property
    def version(self) -> str:
        """Its name as a data version, 12 hexadecimal digits: of all that is in it but where its media lay."""
        digest = hashlib.sha256(self.digest.encode())
        for name in ("manifest.parquet", "rejections.parquet"):
            digest.update((self.directory / name).read_bytes())
        card = {name: value for name, value in self.card.items() if name != "media"}
        digest.update(json.dumps(card, sort_keys=True).encode())
        return digest.hexdigest()[:12]

    @property
    def view_shape(self) -> tuple[int, int, int, int]:
        """(views, size, size, 3)."""
        return tuple(self.card["view_shape"])

    @property
    def tiers(self) -> list[str]:
        """The tiers in which each file is stored; the first is "clean"."""
        return list(self.card["tiers"])

    @property
    def rejections(self) -> pa.Table:
        """The files that were left out, by name and reason."""
        return pq.read_table(self.directory / "rejections.parquet")

    def column(self, name: str) -> np.ndarray:
        """Return one manifest column as an array; nulls of a number become NaN."""
        return self.manifest.column(name).to_numpy(zero_copy_only=False)

    def rows(self, split: str) -> np.ndarray:
        """Return the indices of the rows of one split, ascending, int64."""
        return np.flatnonzero(self.column("split") == split)

    def views(self, indices: Sequence[int] | np.ndarray, tier: str = CLEAN) -> np.ndarray:
        """Return the views of some rows in one tier, uint8, (len(indices), views, size, size, 3)."""
        return self._read(indices, self.tiers.index(tier), 1)

    def stored(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the views of some rows in every tier, uint8, (len(indices), tiers * views, size, size, 3)."""
        return self._read(indices, 0, len(self.tiers))

    def _read(self, indices: Sequence[int] | np.ndarray, first: int, count: int) -> np.ndarray:
        # Only these rows and tiers.
        indices = np.asarray(indices, dtype=np.int64)
        views, *shape = self.view_shape
        out = np.empty((len(indices), count * views, *shape), dtype=np.uint8)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        tier_bytes = int(np.prod(self.view_shape))
        for number in np.unique(shards):
            path, offset = self._shards[number]
            with open(path, "rb", buffering=0) as file:
                for place in np.flatnonzero(shards == number):
                    row = int(indices[place] - self._starts[number])
                    file.seek(offset + (row * len(self.tiers) + first) * tier_bytes)
                    file.readinto(out[place].data)
        return out


class DatasetWriter:
    """Writes a dataset row by row in constant memory; the directory appears when it is whole.

    Use as a context manager: leaving it by an exception removes what was written.

    Args:
        directory: Where the dataset shall lie; replaced if a dataset is there.
        view_shape: (views, size, size, 3).
        tiers: In which tiers each file is stored; the first is "clean".
        shard_bytes: Size at which the next shard is begun, bytes.
    """

    def __init__(
        self,
        directory: str | Path,
        view_shape: Sequence[int],
        tiers: Sequence[str] = (CLEAN,),
        *,
        shard_bytes: int = SHARD_BYTES,
    ):
        self.directory = Path(directory)
        self.view_shape, self.tiers = tuple(int(n) for n in view_shape), list(tiers)
        self._stored_shape = (len(self.tiers) * self.view_shape[0], *self.view_shape[1:])
        self.shard_rows = max(1, shard_bytes // int(np.prod(self._stored_shape)))
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._part = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}.", dir=self.directory.parent))
        (self._part / "shards").mkdir()
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._rejections: list[dict[str, Any]] = []
        self._shards: list[tuple[str, int]] = []
        self._file = None
        self.card: dict[str, Any] = {}

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._close()
        else:
            if self._file:
                self._file.close()
            shutil.rmtree(self._part, ignore_errors=True)

    def append(self, views: np.ndarray, row: Mapping[str, Any]) -> None:
        """Add one row: its views, uint8, (tiers * views, size, size, 3), tier by tier, and its manifest entry."""
        if views.shape != self._stored_shape or views.dtype != np.uint8:
            raise ValueError(f"views are {views.dtype} {views.shape}, expected uint8 {self._stored_shape}")
        if self._file is None or self._shards[-1][1] == self.shard_rows:
            self._begin_shard()
        self._file.write(np.ascontiguousarray(views).data)
        name, rows = self._shards[-1]
        self._shards[-1] = (name, rows + 1)
        self._rows.append({name: row.get(name) for name in MANIFEST.names})
        if len(self._rows) == ROWS_AT_ONCE:
            self._gather()

    def reject(self, path: str, label: int | None, source: str, reason: str, detail: str = "") -> None:
        """Record one file that was left out: a short reason to count by, and the detail."""
        self._rejections.append(dict(path=path, label=label, source=source, reason=reason, detail=detail))

    def _gather(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=MANIFEST))
        self._rows = []

    def _begin_shard(self) -> None:
        self._end_shard()
        name = f"{len(self._shards):05d}.npy"
        self._file = open(self._part / "shards" / name, "wb")  # noqa: SIM115 (closed by _end_shard)
        self._shards.append((name, 0))
        self._write_header(0)

    def _write_header(self, rows: int) -> None:
        # numpy leaves room in the header for the first axis to grow, so it can be written again in place.
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._stored_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._write_header(self._shards[-1][1])
            self._file.close()
            self._file = None

    def _close(self) -> None:
        self._end_shard()
        self._gather()
        manifest, self._tables = pa.concat_tables(self._tables), []
        pq.write_table(manifest, self._part / "manifest.parquet")
        pq.write_table(pa.Table.from_pylist(self._rejections, schema=REJECTIONS), self._part / "rejections.parquet")
        card = {"format": FORMAT, "view_shape": list(self.view_shape), "tiers": self.tiers}
        card |= {"shards": [name for name, _ in self._shards]}
        card |= {"rows": manifest.num_rows, "rejected": len(self._rejections), **self.card}
        card["digest"] = digest_of(manifest, {key: card.get(key) for key in ("view", "delivery", "sampling", "tiers")})
        (self._part / "dataset.json").write_text(json.dumps(card, indent=1, sort_keys=True))
        if self.directory.exists():
            shutil.rmtree(self.directory)
        os.chmod(self._part, 0o755)  # mkdtemp makes it private; other users of a shared volume must read it
        os.rename(self._part, self.directory)


def digest_of(manifest: pa.Table, policies: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's rows, in order, and of the policies that made its pixels."""
    digest = hashlib.sha256(json.dumps(policies, sort_keys=True).encode())
    for column in ("pixel_sha256", "label", "group", "split", "time_s"):
        digest.update(json.dumps(manifest.column(column).to_pylist()).encode())
    return digest.hexdigest()


def batches(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut indices into runs of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def counts(manifest: pa.Table, *columns: str) -> Iterable[dict[str, Any]]:
    """Count the manifest's rows by some columns, as dicts of these columns and `count`."""
    table = manifest.group_by(list(columns)).aggregate([([], "count_all")]).rename_columns([*columns, "count"])
    return table.sort_by([(name, "ascending") for name in columns]).to_pylist()
