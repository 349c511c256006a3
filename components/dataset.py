"""Contract: a dataset on disk.

A directory with

- `dataset.json`: the card: format version, view and sampling policy, counts, digest;
- `manifest.parquet`: one row for each picture or video frame, in the order of the shards;
- `shards/*.npy`: uint8 views of shape (rows, tiers * views, size, size, 3), few and large, read by row: those of the
  file as it is, then those of the file as each further tier of `components.media.degradations` delivers it;
- `rejections.parquet`: every file that was left out, by name and reason.

The directory is written under a temporary name and renamed when it is whole. The card holds a fast checksum (XXH3, 128
bits) of the rows of each shard and of the other files, and its digest covers rows and pixels. All are verified when a
process first opens the dataset, which costs one reading of its files: some 10 GB/s of a core where they are in memory,
else the speed of the disk.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from components import outputs
from components.errors import InputError
from components.media.degradation_names import CLEAN

FORMAT = 3
POLICIES = ("view", "delivery", "sampling", "tiers")  # what made the pixels
READ_BYTES = 8 * 1024 * 1024
LABELS = ("real", "fake")
SPLITS = ("train", "validation", "test")
SHARD_BYTES = 256 * 1024 * 1024
ROWS_AT_ONCE = 4096  # of a manifest as dicts, which take five times the memory of columns
THUMBNAIL = 32  # side, pixels
DIGESTED = ("pixel_sha256", "label", "group", "split", "time_s")

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
        ("thumbnail", pa.binary(THUMBNAIL**2)),  # uint8 gray, of the decoded pixels, before delivery and view
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


IN_MEMORY = pa.schema([field for field in MANIFEST if field.name != "thumbnail"])  # which are most of a manifest


class Dataset:
    """A dataset on disk, opened for reading; its `manifest` has every column but the thumbnails.

    Args:
        directory: Where the dataset lies.

    Raises:
        InputError: The directory holds no whole dataset of this format.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / "dataset.json").is_file():
            raise InputError(
                f"{self.directory} is not a dataset: it has no dataset.json; make one with ai-vs-real preprocess"
            )
        self.card = _read_card(self.directory)
        with _whole(self.directory):
            self._shards, counts = _shards(self.directory, self.card)
            self._starts = np.cumsum([0, *counts])
            _verify(self.directory, self.card, self._shards)
            self.manifest = _table(self.directory / "manifest.parquet", IN_MEMORY)
            self._check_manifest()

    def _check_manifest(self) -> None:
        rows = self.manifest.num_rows
        if rows != self._starts[-1] or rows != self.card["rows"]:
            raise ValueError(
                f"{rows} rows in the manifest, {self._starts[-1]} in shards, {self.card['rows']} on the card"
            )
        if not np.isin(self.column("label"), range(len(LABELS))).all():
            raise ValueError("a label in the manifest is neither 0 nor 1")
        if self.card["digest"] != digest_of(self.manifest, self.card, self.card["pixels"]):
            raise ValueError("its digest is not that of its manifest, policies and pixels")

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
        with _whole(self.directory):
            return _table(self.directory / "rejections.parquet", REJECTIONS)

    def column(self, name: str) -> np.ndarray:
        """Return one manifest column as an array; nulls of a number become NaN."""
        return self.manifest.column(name).to_numpy(zero_copy_only=False)

    def thumbnails(self) -> Iterator[np.ndarray]:
        """Yield the thumbnails of all rows in order, some rows at a time, gray, uint8, (some rows, 32, 32).

        Raises:
            InputError: Rows have none.
        """
        absent = 0
        # Reading ahead, which pyarrow does by default, keeps all that was read until the file is closed.
        with (
            _whole(self.directory),
            pq.ParquetFile(self.directory / "manifest.parquet", buffer_size=READ_BYTES, pre_buffer=False) as file,
        ):
            for part in file.iter_batches(ROWS_AT_ONCE, columns=["thumbnail"]):
                absent += part.column(0).null_count
                if not absent:
                    pixels = b"".join(part.column(0).to_pylist())
                    yield np.frombuffer(pixels, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
        if absent:
            raise InputError(f"{absent:,} rows have no thumbnail; extract the media again with this version")

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
                    if file.readinto(out[place].data) != count * tier_bytes:
                        raise _damage(self.directory, f"shards/{path.name} was cut while it was read")
        return out


def _damage(directory: Path, what: object) -> InputError:
    words = " ".join(str(what).split()) or type(what).__name__
    return InputError(f"dataset {directory} is damaged: {words}; make it again with ai-vs-real preprocess")


@contextlib.contextmanager
def _whole(directory: Path) -> Iterator[None]:
    # Whatever is raised by reading files that are not what they should be says so in one line.
    try:
        yield
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RecursionError,
        MemoryError,
        pa.ArrowException,
    ) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        name = f"{Path(error.filename).name}: " if isinstance(error, OSError) and error.filename else ""
        raise _damage(directory, f"{name}{what}") from error


def _read_card(directory: Path) -> dict[str, Any]:
    with _whole(directory):
        with open(directory / "dataset.json", encoding="utf-8") as file:
            card = json.load(file)
        if not isinstance(card, dict):
            raise ValueError("dataset.json holds no object")
    if card.get("format") != FORMAT:
        raise InputError(
            f"{directory}/dataset.json has format {card.get('format')!r}, this version reads {FORMAT}; make it again "
            "with ai-vs-real preprocess"
        )
    with _whole(directory):
        shape, shards, checksums = card.get("view_shape"), card.get("shards"), card.get("checksums")
        if (
            not isinstance(shape, list)
            or len(shape) != 4
            or not all(isinstance(n, int) and 0 < n < 10_000 for n in shape)
        ):
            raise ValueError(f"view_shape on the card is {shape!r}")
        tiers = card.get("tiers")
        if not isinstance(tiers, list) or not tiers or not all(isinstance(name, str) for name in tiers):
            raise ValueError(f"tiers on the card is {tiers!r}")
        if not isinstance(shards, list) or not all(isinstance(name, str) for name in shards):
            raise ValueError(f"shards on the card is {shards!r}")
        if not isinstance(checksums, dict):
            raise ValueError("the card has no checksums")
        for name, kind in (("digest", str), ("pixels", str), ("rows", int), ("rejected", int)):
            if not isinstance(card.get(name), kind):
                raise ValueError(f"{name} on the card is {card.get(name)!r}")
    return card


def _shards(directory: Path, card: dict[str, Any]) -> tuple[list[tuple[Path, int]], list[int]]:
    """Return path and offset of the rows, and the number of rows, of each shard, as its own header says."""
    views, *side = card["view_shape"]
    shards, counts, shape = [], [], (len(card["tiers"]) * views, *side)
    for name in card["shards"]:
        path = directory / "shards" / name
        if Path(name).name != name or not stat.S_ISREG(os.lstat(path).st_mode) or path.parent.is_symlink():
            raise ValueError(f"shard {name!r} is no regular file in its directory")
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            rows, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            size = os.fstat(file.fileno()).st_size - file.tell()
            if rows[1:] != shape or dtype != np.uint8 or fortran:
                raise ValueError(f"shards/{name} holds {dtype} {rows}, not uint8 (rows, {', '.join(map(str, shape))})")
            if size != int(np.prod([int(n) for n in rows], dtype=object)):
                raise ValueError(f"shards/{name} holds {size} bytes for {rows[0]} rows")
            shards.append((path, file.tell()))
            counts.append(rows[0])
    return shards, counts


_verified: set[tuple] = set()  # what this process has verified already: path, size and times of every file


def _verify(directory: Path, card: dict[str, Any], shards: Sequence[tuple[Path, int]]) -> None:
    names = [*(f"shards/{name}" for name in card["shards"]), "manifest.parquet", "rejections.parquet"]
    if sorted(card["checksums"]) != sorted(names):
        raise ValueError("the checksums on the card are not those of its files")
    states = [os.stat(directory / name) for name in ("dataset.json", *names)]
    state = (os.path.realpath(directory), *((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states))
    if state in _verified:
        return
    pixels = xxhash.xxh3_128()
    for name, (path, offset) in zip(names, shards, strict=False):
        if _checksum(path, offset, pixels) != card["checksums"][name]:
            raise ValueError(f"{name} has changed since it was written")
    for name in names[len(shards) :]:
        if _checksum(directory / name) != card["checksums"][name]:
            raise ValueError(f"{name} has changed since it was written")
    if pixels.hexdigest() != card["pixels"]:
        raise ValueError("its shards are not in the order in which they were written")
    _verified.add(state)


def _checksum(path: Path, offset: int = 0, *others: Any) -> str:
    """Return the checksum of what follows an offset in a file, which goes into other checksums as well."""
    total = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while part := file.read(READ_BYTES):
            for checksum in (total, *others):
                checksum.update(part)
    return total.hexdigest()


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    stored = pq.read_schema(path).names
    absent = [name for name in schema.names if name not in stored]
    if absent:
        raise ValueError(f"{path.name} has no column {absent[0]}")
    return pq.read_table(path, columns=schema.names).select(schema.names).cast(schema)


class DatasetWriter:
    """Writes a dataset row by row in constant memory; the directory appears when it is whole.

    Use as a context manager: leaving it by an exception removes what was written.

    Args:
        directory: Where the dataset shall lie; see `outputs.written`.
        view_shape: (views, size, size, 3).
        tiers: In which tiers each file is stored; the first is "clean".
        shard_bytes: Size at which the next shard is begun, bytes.
        overwrite: Whether a dataset that is there may be replaced.
    """

    def __init__(
        self,
        directory: str | Path,
        view_shape: Sequence[int],
        tiers: Sequence[str] = (CLEAN,),
        *,
        shard_bytes: int = SHARD_BYTES,
        overwrite: bool = True,
    ):
        self.directory = Path(directory)
        self.view_shape, self.tiers = tuple(int(n) for n in view_shape), list(tiers)
        self._stored_shape = (len(self.tiers) * self.view_shape[0], *self.view_shape[1:])
        self.shard_rows = max(1, shard_bytes // int(np.prod(self._stored_shape)))
        self._place = outputs.written(self.directory, outputs.DATASET, overwrite=overwrite)
        self._part = self._place.__enter__()
        (self._part / "shards").mkdir()
        self._pixels = xxhash.xxh3_128()
        self._sums: list[Any] = []
        self._manifest = pq.ParquetWriter(self._part / "manifest.parquet", MANIFEST)
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._rejections: list[dict[str, Any]] = []
        self._shards: list[tuple[str, int]] = []
        self._file: BinaryIO | None = None
        self.card: dict[str, Any] = {}

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            try:
                self._close()
            except BaseException as failure:
                self._place.__exit__(type(failure), failure, failure.__traceback__)
                raise
        elif self._file:
            self._file.close()
        self._place.__exit__(kind, error, trace)

    def append(self, views: np.ndarray, row: Mapping[str, Any]) -> None:
        """Add one row: its views, uint8, (tiers * views, size, size, 3), tier by tier, and its manifest entry."""
        if views.shape != self._stored_shape or views.dtype != np.uint8:
            raise ValueError(f"views are {views.dtype} {views.shape}, expected uint8 {self._stored_shape}")
        file = self._file
        if file is None or self._shards[-1][1] == self.shard_rows:
            file = self._begin_shard()
        content = np.ascontiguousarray(views).data
        file.write(content)
        self._pixels.update(content)
        self._sums[-1].update(content)
        name, rows = self._shards[-1]
        self._shards[-1] = (name, rows + 1)
        self._rows.append({name: row.get(name) for name in MANIFEST.names})
        if len(self._rows) == ROWS_AT_ONCE:
            self._gather()

    def reject(self, path: str, label: int | None, source: str, reason: str, detail: str = "") -> None:
        """Record one file that was left out: a short reason to count by, and the detail."""
        self._rejections.append(dict(path=path, label=label, source=source, reason=reason, detail=detail))

    def _gather(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=MANIFEST)
        self._manifest.write_table(table)
        self._tables.append(table.select(DIGESTED))
        self._rows = []

    def _begin_shard(self) -> BinaryIO:
        self._end_shard()
        name = f"{len(self._shards):05d}.npy"
        self._file = file = open(self._part / "shards" / name, "wb")  # noqa: SIM115 (closed by _end_shard)
        self._shards.append((name, 0))
        self._sums.append(xxhash.xxh3_128())
        self._write_header(file, 0)
        return file

    def _write_header(self, file: BinaryIO, rows: int) -> None:
        # numpy leaves room in the header for the first axis to grow, so it can be written again in place.
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._stored_shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._write_header(self._file, self._shards[-1][1])
            self._file.close()
            self._file = None

    def _close(self) -> None:
        self._end_shard()
        self._gather()
        manifest, self._tables = pa.concat_tables(self._tables), []
        self._manifest.close()
        pq.write_table(pa.Table.from_pylist(self._rejections, schema=REJECTIONS), self._part / "rejections.parquet")
        shards = [name for name, _ in self._shards]
        sums = {f"shards/{name}": total.hexdigest() for name, total in zip(shards, self._sums, strict=True)}
        sums |= {name: _checksum(self._part / name) for name in ("manifest.parquet", "rejections.parquet")}
        card = {
            "view_shape": list(self.view_shape),
            "tiers": self.tiers,
            "rejected": len(self._rejections),
            **self.card,
        }
        card |= {"format": FORMAT, "shards": shards, "rows": manifest.num_rows, "pixels": self._pixels.hexdigest()}
        card["checksums"] = sums
        card["digest"] = digest_of(manifest, card, card["pixels"])
        (self._part / "dataset.json").write_text(json.dumps(card, indent=1, sort_keys=True), encoding="utf-8")


def digest_of(manifest: pa.Table, card: Mapping[str, Any], pixels: str) -> str:
    """Return the sha256 of a manifest's rows, in order, of the policies that made its pixels, and of their checksum."""
    policies = {key: card.get(key) for key in POLICIES} | {"pixels": pixels}
    digest = hashlib.sha256(json.dumps(policies, sort_keys=True).encode())
    for name in DIGESTED:  # each as JSON has a list of it, some values at a time
        before = "["
        for part in manifest.select([name]).to_batches(ROWS_AT_ONCE):
            if part.num_rows:
                digest.update((before + json.dumps(part.column(0).to_pylist())[1:-1]).encode())
                before = ", "
        digest.update(b"[]" if before == "[" else b"]")
    return digest.hexdigest()


def batches(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut indices into runs of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def counts(manifest: pa.Table, *columns: str) -> Iterable[dict[str, Any]]:
    """Count the manifest's rows by some columns, as dicts of these columns and `count`."""
    table = manifest.group_by(list(columns)).aggregate([([], "count_all")]).rename_columns([*columns, "count"])
    return table.sort_by([(name, "ascending") for name in columns]).to_pylist()
