"""Where labelled media come from: a directory tree or a list (CSV, JSONL, Parquet), on disk or in a bucket."""

import contextlib
import csv
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.dataset import LABELS
from components.errors import InputError
from components.media import stores
from components.media.stores import Disk, Store, store_of

SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
LIST_COLUMNS = ("path", "label", "source", "group", "split")
LAYOUTS = "DIR/{real,fake}/..., DIR/{train,val,test}/{real,fake}/... or a .csv, .jsonl or .parquet list"
NOTE = "SAMPLE.txt"


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
    """

    path: str
    label: int
    source: str
    group: str = ""
    split: str = ""
    location: str = ""


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
        checksum = store_of(item.location).checksum(item.location)
        fields = [item.path, item.label, item.source, item.group, item.split, checksum]
        total.update(json.dumps(fields).encode() + b"\n")
    return total.hexdigest()


def fetch(item: MediaItem) -> contextlib.AbstractContextManager[Path]:
    """Give a local path to an item's file for the length of a with block."""
    return store_of(item.location).fetch(item.location)


def note(media: str) -> str:
    """Return what a collection says of itself in the first line of SAMPLE.txt; "" where there is none."""
    store = store_of(media)
    location = store.location(media, NOTE)
    if not store.checksum(location):
        return ""
    with store.fetch(location) as path:
        return path.read_text().partition("\n")[0].strip()


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
    location = store.location(root, name)
    name = os.fsencode(name).decode("utf-8", "backslashreplace")  # a name on disk need not be text
    folders = name.split("/")[:-1]
    given = SPLIT_FOLDERS.get(folders.pop(0).lower()) if split else ""
    label = folders.pop(0).lower() if folders else ""
    if given is None or label not in LABELS:
        return None
    source = folders[0] if folders else label
    return MediaItem(name, LABELS.index(label), source, "", given, location)


def _listed(media: str) -> list[MediaItem]:
    store = store_of(media)
    if not store.checksum(media):
        raise InputError(f"media list {media} does not exist or cannot be read; give {LAYOUTS}")
    try:
        with store.fetch(media) as path:
            rows = _READERS[os.path.splitext(media)[1].lower()](path)
    except (OSError, ValueError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"media list {media} cannot be read ({reason}); give CSV, JSONL or Parquet by its suffix"
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
    lacking = [name for name in ("path", "label") if name not in columns]
    if unknown or lacking:
        what = f"unknown column {', '.join(unknown)}" if unknown else f"no column {' and '.join(lacking)}"
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
    location = store_of(path if path.startswith("gs://") else root).location(root, path)
    return MediaItem(path, label, source, str(row.get("group") or ""), SPLIT_FOLDERS.get(split, ""), location)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
