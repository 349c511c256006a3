"""Where labelled media come from: a directory tree or a list (CSV, JSONL, Parquet), on disk or in a bucket."""

import contextlib
import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from components.dataset import LABELS
from components.errors import InputError
from components.media import stores
from components.media.pictures import MediaError
from components.media.stores import Disk, Store, store_of
from components.media.workers import Limits, Workers

SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
LIST_COLUMNS = ("path", "label", "source", "group", "split")
LAYOUTS = "DIR/{real,fake}/..., DIR/{train,val,test}/{real,fake}/... or a .csv, .jsonl or .parquet list"
NOTE = "SAMPLE.txt"
NOTE_CHARACTERS = 300
OUTSIDE = "it leads out of the directory of the media"
CELL_CHARACTERS = 4096  # of one cell of a list
LIST_ROWS = 10_000_000
ROWS_AT_ONCE = 10_000
JSON_LINE = 10 * CELL_CHARACTERS
# A list is read like a medium, by a process that can be killed: it may unpack to a thousand times its size.
LIST_LIMITS = Limits(seconds=600, processor_seconds=60)


@dataclass(frozen=True)
class MediaItem:
    """One labelled file.

    Args:
        path: As it is shown: relative to the directory, or as given in the list.
        label: 0 real, 1 fake.
        source: Camera or generator where known, else the folder's name.
        group: What must not cross a split, as given; "" where it was not.
        split: train, validation or test as given; "" where it was not.
        location: Where the bytes are: a local path or gs://BUCKET/OBJECT.
        refused: Why it is not even opened; "" where it is.
    """

    path: str
    label: int
    source: str
    group: str = ""
    split: str = ""
    location: str = ""
    refused: str = ""


def list_media(media: str) -> list[MediaItem]:
    """List the labelled files of a directory or of a list, ordered by path.

    Args:
        media: A directory or gs://BUCKET/PREFIX, laid out as one of LAYOUTS; or a list with the columns path and
            label, and optionally source, group and split.

    Raises:
        InputError: Nothing is there, or a label is missing, or it is not laid out as one of LAYOUTS.
    """
    media = str(media)
    stores.forget()  # each listing shall look afresh
    if not media:
        raise InputError(f"no media given; name {LAYOUTS}")
    if os.path.splitext(media)[1].lower() in _READERS and not os.path.isdir(media):
        items = _listed(media)
    else:
        items = _tree(media)
    labels = {item.label for item in items}
    if len(labels) == 1:
        there = labels.pop()
        raise InputError(
            f"{media} holds {len(items)} {LABELS[there]} files and no {LABELS[1 - there]} one; "
            f"both labels are needed, add {LABELS[1 - there]} media"
        )
    return sorted(items, key=lambda item: item.path)


def shards(items: Sequence[MediaItem], count: int) -> list[str]:
    """Cut the media into parts of equal size for extraction.

    Args:
        items: What `list_media` returned.
        count: How many parts; never more are made than there are items.

    Returns:
        For each part "INDEX/COUNT@DIGEST", where the digest changes with what the part holds and with nothing else.
    """
    if count < 1:
        raise InputError(f"shards is {count}; it must be 1 or more, such as 2")
    count = min(count, len(items))
    return [f"{index}/{count}@{digest(items[index::count])}" for index in range(count)]


def take(items: Sequence[MediaItem], shard: str) -> Sequence[MediaItem]:
    """Return the items of one part; all of them for "".

    Raises:
        InputError: The part is not written as `shards` does, or the media have changed since.
    """
    if not shard:
        return items
    match = re.fullmatch(r"(\d+)/(\d+)@([0-9a-f]{64})", shard)
    if not match or int(match[1]) >= int(match[2]):
        raise InputError(f"shard is {shard!r}; it must be INDEX/COUNT@DIGEST as list_media writes it, or empty for all")
    part = items[int(match[1]) :: int(match[2])]
    if digest(part) != match[3]:
        raise InputError(f"the media of shard {match[1]} of {match[2]} changed after they were listed; run again")
    return part


def digest(items: Sequence[MediaItem]) -> str:
    """Return the sha256 over paths, labels, sources, groups, splits and contents of some files."""
    total = hashlib.sha256()
    for item in items:
        checksum = item.refused or store_of(item.location).checksum(item.location)
        fields = [item.path, item.label, item.source, item.group, item.split, checksum]
        total.update(json.dumps(fields).encode() + b"\n")
    return total.hexdigest()


def fetch(item: MediaItem) -> contextlib.AbstractContextManager[Path]:
    """Give a local path to an item's file for the length of a with block.

    Raises:
        MediaError: It is not to be opened, or cannot be had from its bucket.
    """
    if item.refused:
        raise MediaError("not media", item.refused)
    return store_of(item.location).fetch(item.location)


def note(media: str) -> str:
    """Return what a collection says of itself in the first line of SAMPLE.txt, as plain text; "" without one."""
    store = store_of(media)
    location = store.location(media, NOTE)
    if not store.inside(media, NOTE) or not store.checksum(location):
        return ""
    with store.fetch(location) as path, open(path, "rb") as file:
        line = file.read(4 * NOTE_CHARACTERS).decode("utf-8", "replace").partition("\n")[0]
    return "".join(sign for sign in line if sign.isprintable()).strip()[:NOTE_CHARACTERS]


def _tree(root: str) -> list[MediaItem]:
    store = store_of(root)
    if isinstance(store, Disk) and not os.path.isdir(root):
        what = "is not a directory" if os.path.exists(root) else "does not exist"
        raise InputError(f"media {root} {what}; give {LAYOUTS}")
    names = [name for name in store.names(root) if "/" in name]
    if not names:
        raise InputError(f"media directory {root} holds no media; lay it out as {LAYOUTS}")
    tops = {name.split("/")[0].lower(): name.split("/")[0] for name in names}
    splits = [top for top in tops if top in SPLIT_FOLDERS]
    labels = [top for top in tops if top in LABELS]
    if splits and labels:
        raise InputError(
            f"{root} holds folders of splits ({', '.join(splits)}) and of labels ({', '.join(labels)}); keep one kind"
        )
    if not splits and not labels:
        raise InputError(
            f"{root} has no folders real and fake (it holds {', '.join(sorted(tops)[:5])}); lay it out as {LAYOUTS}"
        )
    for split in splits or [""]:
        present = {
            name.split("/")[1 if split else 0].lower()
            for name in names
            if not split or name.lower().startswith(f"{split}/")
        }
        for label in LABELS:
            if label not in present:
                folder = f"{tops[split]}/{label}" if split else label
                raise InputError(
                    f"{root} has no files in a folder {folder}; both labels are needed, put the {label} media there"
                )
    return [item for name in names if (item := _tree_item(store, root, name, bool(splits)))]


def _tree_item(store: Store, root: str, name: str, split: bool) -> MediaItem | None:
    """Read split, label and source from a name such as test/fake/sdxl/a.png; None where it lies in other folders."""
    location, inside = store.location(root, name), store.inside(root, name)
    name = stores.as_text(name)
    folders = name.split("/")[:-1]
    given = SPLIT_FOLDERS.get(folders.pop(0).lower()) if split else ""
    label = folders.pop(0).lower() if folders else ""
    if given is None or label not in LABELS:
        return None
    source = folders[0] if folders else label
    refused = "" if inside else OUTSIDE
    return MediaItem(name, LABELS.index(label), source, "", given, location, refused)


def _listed(media: str) -> list[MediaItem]:
    store = store_of(media)
    if not store.checksum(media):
        raise InputError(f"media list {media} does not exist or cannot be read; give {LAYOUTS}")
    suffix = os.path.splitext(media)[1].lower()
    try:
        with store.fetch(media) as path, Workers(1, LIST_LIMITS) as workers:
            rows = [row for part in workers.read(read_list, path, suffix) for row in json.loads(part)]
    except MediaError as error:
        raise InputError(
            f"media list {media} cannot be read ({error.detail or error.reason}); "
            "give CSV, JSONL or Parquet by its suffix"
        ) from error
    if not rows:
        raise InputError(f"media list {media} has no entries; give one for each file, with path and label")
    root = os.path.dirname(media) or "."
    items = [_list_item(media, root, number, row) for number, row in enumerate(rows, start=1)]
    if not any(store_of(item.location).checksum(item.location) for item in items):
        raise InputError(
            f"none of the {len(items)} files of {media} exists, such as {items[0].path!r}; "
            f"relative paths start at {root}"
        )
    return items


def _list_item(media: str, root: str, number: int, row: Any) -> MediaItem:
    columns = list(row) if isinstance(row, dict) else []
    unknown = [str(name) for name in columns if name not in LIST_COLUMNS]
    absent = [name for name in ("path", "label") if name not in columns]
    if unknown or absent:
        what = f"unknown column {', '.join(unknown)}" if unknown else f"no column {' and '.join(absent)}"
        raise InputError(
            f"media list {media} has {what} in entry {number}; it takes path, label, source, group and split"
        )
    path = str(row["path"] or "")
    label = {"0": 0, "1": 1, "real": 0, "fake": 1}.get(str(row["label"]).strip().lower())
    split = str(row.get("split") or "").strip().lower()
    if not path or label is None or (split and split not in SPLIT_FOLDERS):
        what = "no path" if not path else f"label {row['label']!r}" if label is None else f"split {split!r}"
        raise InputError(
            f"media list {media} has {what} in entry {number}; "
            "label is real, fake, 0 or 1, split is train, validation or test"
        )
    source = str(row.get("source") or "") or PurePosixPath(path).parent.name or LABELS[label]
    store = store_of(path if path.startswith("gs://") else root)
    # A relative path stays below the list; one that leads elsewhere is to say so by being absolute.
    inside = os.path.isabs(path) or store.inside(root, path)
    refused = "" if inside else f"{OUTSIDE}; give its absolute path"
    group, split = str(row.get("group") or ""), SPLIT_FOLDERS.get(split, "")
    return MediaItem(path, label, source, group, split, store.location(root, path), refused)


def read_list(path: Path, suffix: str) -> Iterator[bytes]:
    """Read a list in parts; run by a worker.

    Args:
        path: Of the list.
        suffix: How it is written: .csv, .jsonl or .parquet.

    Yields:
        JSON of a list of entries, each an object of texts.

    Raises:
        ValueError: It cannot be read so, or holds what no list does.
    """
    rows = enumerate(_READERS[suffix](path), start=1)
    while part := list(islice(rows, ROWS_AT_ONCE)):
        if part[-1][0] > LIST_ROWS:
            raise ValueError(f"more than {LIST_ROWS:,} entries")
        yield json.dumps([_plain(number, row) for number, row in part]).encode()


def _plain(number: int, row: Any) -> dict[str, str] | None:
    if not isinstance(row, dict):
        return None
    for name, value in row.items():
        if isinstance(value, list | dict) or len(str(name)) + len(str(value)) > CELL_CHARACTERS:
            raise ValueError(f"entry {number} has a value that is no text of at most {CELL_CHARACTERS:,} characters")
        if any(0xD800 <= ord(sign) < 0xE000 or sign == "\0" for sign in f"{name}{value}"):
            raise ValueError(f"entry {number} has a value that is no valid text")
    return {str(name): "" if value is None else str(value) for name, value in row.items()}


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file, strict=True)


def _jsonl_rows(path: Path) -> Iterator[Any]:
    with open(path, encoding="utf-8") as file:
        while line := file.readline(JSON_LINE):
            if len(line) == JSON_LINE:
                raise ValueError(f"a line of more than {JSON_LINE:,} characters")
            if line.strip():
                yield json.loads(line)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    # Reading ahead would keep the whole list in memory.
    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(ROWS_AT_ONCE):
        yield from batch.to_pylist()


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
