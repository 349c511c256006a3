"""Joins frames datasets and drops what must not be learnt from."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.dataset import LABELS, SPLITS, Dataset
from components.errors import InputError
from components.preprocessing.duplicates import SIDE, Links, clusters, near_duplicates, same_value, spread

POLICIES = ("view", "sampling", "delivery", "tiers")
NO_LINKS: Links = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
BLANK = 1.0  # gray levels, standard deviation of the thumbnail: a nearly even area says nothing about either label
GIVEN_RANK = {"test": 0, "validation": 1, "train": 2, "": 3}  # what is nearest to the final judgement is kept
ROW_ORDER = ("path", "time_s", "pixel_sha256", "label", "content_sha256")


def release_memory() -> None:
    """Give back to the system what Arrow holds and no table uses: after a sort, more than the table itself."""
    pa.default_memory_pool().release_unused()


class Thumbnails:
    """The thumbnails of some rows, read from the disk as they are asked for.

    Args:
        every: Of all rows, gray, uint8, (rows, 32, 32).
        rows: Which, int64.
    """

    def __init__(self, every: np.ndarray, rows: np.ndarray):
        self._every, self._rows = every, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: np.ndarray | Sequence[int]) -> np.ndarray:
        return self._every[self._rows[places]]


class Frames:
    """Several frames datasets read as one, in an order that does not depend on how the media were cut into shards.

    Args:
        directories: The frames datasets, in any order.

    Raises:
        InputError: They hold no row, rows without a thumbnail, or were made by different policies.

    Attributes:
        thumbnails: Of each row, gray, uint8, (rows, 32, 32), on disk.
    """

    def __init__(self, directories: Sequence[str | Path]):
        self.datasets = [Dataset(directory) for directory in directories]
        if not self.datasets:
            raise InputError("no frames datasets were given; name at least one directory made by ai-vs-real extract")
        _require_alike(self.datasets)
        table = pa.concat_tables(dataset.manifest for dataset in self.datasets)
        if not table.num_rows:
            raise InputError("the frames datasets are empty: 0 rows; see their rejections for why no file was taken")
        order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in ROW_ORDER]).to_numpy()
        sizes = [len(dataset) for dataset in self.datasets]
        origin = [np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])]
        self.table = table.take(order)
        self._origin = np.stack(origin, axis=1)[order]
        self.thumbnails = self._thumbnails(order)
        for dataset in self.datasets:
            del dataset.manifest  # it is in the table
        del table
        release_memory()

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def view_shape(self) -> tuple[int, int, int, int]:
        """(views, size, size, 3)."""
        return self.datasets[0].view_shape

    @property
    def card(self) -> dict:
        """What extraction said on the card and preprocessing carries on: the policies and the note."""
        cards = [dataset.card for dataset in self.datasets]
        notes = sorted({card["note"] for card in cards if card.get("note")})
        media = sorted({card["media"] for card in cards if card.get("media")})
        noted = {"note": "; ".join(notes)} if notes else {}
        return {key: cards[0].get(key, "") for key in POLICIES} | {"media": media} | noted

    @property
    def rejections(self) -> list[dict]:
        """The files that extraction left out, by path."""
        rows = [row for dataset in self.datasets for row in dataset.rejections.to_pylist()]
        return sorted(rows, key=lambda row: (row["path"], row["reason"]))

    def column(self, name: str) -> np.ndarray:
        """Return one manifest column as an array; nulls of a number become NaN."""
        return self.table.column(name).to_numpy()

    def given_splits(self) -> np.ndarray:
        """Return the split that came with each row, "" where none did; `val` and `valid` mean validation."""
        names = {"val": "validation", "valid": "validation"} | {name: name for name in ("", *SPLITS)}
        given = [value or "" for value in self.column("split")]
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InputError(f"split {unknown[0]!r} is unknown; use train, val or test, or leave it empty")
        return np.array([names[value] for value in given])

    def _thumbnails(self, order: np.ndarray) -> np.ndarray:
        # In a file that has no name: of a million rows they are a gigabyte, which need not be in memory.
        with tempfile.TemporaryFile() as file:
            thumbnails = np.memmap(file, np.uint8, "w+", shape=(len(order), SIDE, SIDE))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        start = 0
        for part in (part for dataset in self.datasets for part in dataset.thumbnails()):
            thumbnails[place[start : start + len(part)]] = part
            start += len(part)
        return thumbnails

    def placed(self, rows: np.ndarray, group: np.ndarray, splits: np.ndarray) -> pa.Table:
        """Return the manifest of some rows, but for the thumbnails, with their groups and splits as decided."""
        table = self.table.take(rows)
        for name, values in (("group", group), ("split", splits)):
            table = table.set_column(table.column_names.index(name), name, pa.array(values.tolist(), pa.string()))
        return table

    @property
    def tiers(self) -> list[str]:
        """The tiers in which each file is stored."""
        return self.datasets[0].tiers

    def views(self, rows: np.ndarray) -> np.ndarray:
        """Return the views of some rows as they are, uint8, (len(rows), views, size, size, 3)."""
        return self.stored(rows)[:, : self.view_shape[0]]

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Return the views of some rows in every tier, uint8, (len(rows), tiers * views, size, size, 3)."""
        views, *shape = self.view_shape
        out = np.empty((len(rows), len(self.tiers) * views, *shape), dtype=np.uint8)
        origin = self._origin[rows]
        for number in np.unique(origin[:, 0]):
            chosen = np.flatnonzero(origin[:, 0] == number)
            out[chosen] = self.datasets[number].stored(origin[chosen, 1])
        return out


def _require_alike(datasets: Sequence[Dataset]) -> None:
    for key in ("view_shape", *POLICIES):
        values = {str(dataset.card.get(key, "")): dataset.directory for dataset in datasets}
        if len(values) > 1:
            listed = ", ".join(f"{value} in {directory}" for value, directory in sorted(values.items()))
            raise InputError(f"the frames datasets differ in {key}: {listed}; extract all media with one {key}")


def require_both_labels(label: np.ndarray) -> None:
    """Raise InputError where a label has no row."""
    for value, name in enumerate(LABELS):
        if not (label == value).any():
            raise InputError(
                f"no usable media are labelled {name}: 0 rows; both real and fake are needed, add {name} media"
            )


@dataclass
class Cleaned:
    """What cleaning found.

    Attributes:
        kept: Rows to keep, ascending, int64.
        dropped: Row to (reason, detail).
        component: What must not cross a split: connected component of each row, int, (rows,).
        given: The given split of each row, carried over to its whole component, "" where none was given, (rows,).
        copies: Pairs of rows with the same pixels.
        near: Pairs of rows that show the same picture.
    """

    kept: np.ndarray
    dropped: dict[int, tuple[str, str]]
    component: np.ndarray
    given: np.ndarray
    copies: Links
    near: Links


def clean(frames: Frames, repair_split: bool = False, known: Links = NO_LINKS) -> Cleaned:
    """Find what to drop, and what must stay together.

    Dropped are rows that show nothing, exact duplicates, and files of which a copy carries the other label.
    Near-duplicates of one label stay, in one group with the files of their group and of their video.

    Args:
        frames: The joined frames.
        repair_split: Drop from a given split what also stands in the test or validation, instead of refusing it.
        known: Pairs of rows that are known to show the same picture, whatever the search finds.

    Raises:
        InputError: A given split leaks.
    """
    path, label, thumbnails = frames.column("path"), frames.column("label"), frames.thumbnails
    given = frames.given_splits()
    rank = np.array([GIVEN_RANK[name] for name in given])
    belongs = [same_value(frames.column(name)) for name in ("group", "content_sha256")]

    blank = spread(thumbnails) < BLANK
    dropped = {int(row): ("blank", "nothing is to be seen") for row in np.flatnonzero(blank)}
    copies = _among(~blank, exact_duplicates(frames.column("pixel_sha256"), rank))
    near = near_duplicates(thumbnails, frames.column("perceptual_hash"), clusters(len(frames), *belongs, copies))
    near = (np.concatenate([near[0], known[0]]), np.concatenate([near[1], known[1]]))
    dropped |= _label_conflicts(path, label, clusters(len(frames), copies, near))

    alive = np.array([row not in dropped for row in range(len(frames))])
    component = clusters(len(frames), *[_among(alive, link) for link in (*belongs, copies, near)])
    best = np.full(component.max() + 1, max(GIVEN_RANK.values()))
    np.minimum.at(best, component, rank)
    leaks = np.flatnonzero((given != "") & (rank > best[component]) & alive)
    if len(leaks):
        partner = _partners(leaks, rank, component, best, copies, near)
        if not repair_split:
            raise InputError(_leak_message(leaks, partner, path, given))
        dropped |= {
            int(row): (f"leaks into {given[other]}", f"belongs with {path[other]}")
            for row, other in zip(leaks, partner, strict=True)
        }
    for row, original in zip(*copies, strict=True):
        dropped.setdefault(int(row), ("exact duplicate", f"same pixels as {path[original]}"))
    kept = np.array([row for row in range(len(frames)) if row not in dropped], dtype=np.int64)
    names = np.array(sorted(GIVEN_RANK, key=GIVEN_RANK.__getitem__))
    return Cleaned(kept, dropped, component, names[best][component], copies, near)


def exact_duplicates(pixels: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find rows whose pixels another row already has.

    Args:
        pixels: pixel_sha256 of each row.
        rank: Which of equal rows is kept: the lowest rank, then the first.

    Returns:
        (duplicate, original): int64 arrays of rows; each duplicate row with the row that is kept for it.
    """
    order = np.lexsort((np.arange(len(pixels)), rank, pixels))
    same = np.concatenate(([False], pixels[order][1:] == pixels[order][:-1]))
    first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    return order[same], first[same]


def _label_conflicts(path: np.ndarray, label: np.ndarray, cluster: np.ndarray) -> dict[int, tuple[str, str]]:
    # A file with one frame in doubt is in doubt as a whole.
    present = np.zeros((cluster.max() + 1, len(LABELS)), dtype=bool)
    present[cluster, label] = True
    disputed = np.flatnonzero(np.all(present, axis=1)[cluster])
    other = {(cluster[row], label[row]): path[row] for row in disputed[::-1]}
    details = {
        path[row]: f"also labelled {LABELS[1 - label[row]]} as {other[cluster[row], 1 - label[row]]}"
        for row in disputed
    }
    return {row: ("label conflict", details[name]) for row, name in enumerate(path) if name in details}


def _among(alive: np.ndarray, link: Links) -> Links:
    left, right = link
    both = alive[left] & alive[right]
    return left[both], right[both]


def _partners(leaks: np.ndarray, rank: np.ndarray, component: np.ndarray, best: np.ndarray, *links: Links) -> list[int]:
    # The row that a leaking row repeats; where none does so directly, one of the same group.
    partner: dict[int, int] = {}
    for one, other in (pair for link in links for a, b in zip(*link, strict=True) for pair in ((a, b), (b, a))):
        if rank[other] < rank[one]:
            partner.setdefault(int(one), int(other))
    in_group = {component[row]: row for row in np.flatnonzero(rank == best[component])[::-1]}
    return [partner.get(int(row), in_group[component[row]]) for row in leaks]


def _leak_message(leaks: np.ndarray, partner: list[int], path: np.ndarray, given: np.ndarray) -> str:
    pairs = {path[row]: (row, other) for row, other in list(zip(leaks, partner, strict=True))[::-1]}
    shown = [f"{path[row]} ({given[row]}) with {path[other]} ({given[other]})" for row, other in pairs.values()][::-1]
    return (
        f"the given split leaks: {len(pairs):,} files belong with files of another split: {'; '.join(shown[:5])}; "
        "correct the split, or drop them from the lesser split with --repair-split"
    )


def rejections_of(table: pa.Table, dropped: dict[int, tuple[str, str]]) -> list[dict]:
    """Return a rejection for each file that has lost all its rows.

    Args:
        table: The manifest before dropping.
        dropped: Row to (reason, detail).
    """
    lost = np.zeros(table.num_rows, dtype=bool)
    lost[np.array(list(dropped), dtype=np.int64)] = True
    table = table.select(["path", "label", "source", "content_sha256"])
    files = dict(zip(np.flatnonzero(lost).tolist(), table.filter(pa.array(lost)).to_pylist(), strict=True))
    paths = pa.array([row["path"] for row in files.values()], pa.string())
    kept = table.filter(pc.and_(pc.is_in(table["path"], paths), pa.array(~lost)))
    left = {(row["path"], row["content_sha256"]) for row in kept.to_pylist()}
    rejections = {}
    for number, (reason, detail) in sorted(dropped.items()):
        row = files[number]
        key = (row["path"], row["content_sha256"])
        if key not in left and key not in rejections:
            rejections[key] = {name: row[name] for name in ("path", "label", "source")} | dict(
                reason=reason, detail=detail
            )
    return list(rejections.values())
