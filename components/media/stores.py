"""Where files lie: on this machine's disks, or in buckets. One interface for both."""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

LISTS = (".csv", ".jsonl", ".parquet")
BUCKETS = "gs://"


def as_text(name: str) -> str:
    """Return the name of a file as valid text, which a name on disk need not be: what is none is escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Store(Protocol):
    """A place that holds files under names."""

    def names(self, root: str) -> list[str]:
        """Return the names of the files below a root, relative to it, separated by slashes."""

    def location(self, root: str, name: str) -> str:
        """Return where a file below a root is."""

    def inside(self, root: str, name: str) -> bool:
        """Say whether a name leads to something below the root, through whatever links."""

    def checksum(self, location: str) -> str:
        """Return a string that changes when the content of a file does; "" where there is no such file."""

    def fetch(self, location: str) -> contextlib.AbstractContextManager[Path]:
        """Give a local path to a file for the length of a with block."""


class Disk:
    """Files that this machine opens by path."""

    def names(self, root: str) -> list[str]:
        """Walk a directory, never round in circles; what is hidden is no media.

        A link that leads out of the directory is named, so that it can be rejected by name, but not followed.
        """
        paths, seen = [], set()
        for here, folders, files in os.walk(root, followlinks=True):
            real = os.path.realpath(here)
            visible = [name for name in folders if not name.startswith(".")] if real not in seen else []
            folders[:] = [name for name in visible if self.inside(root, os.path.join(here, name))]
            outside = [name for name in visible if name not in folders]
            if real not in seen:
                names = [name for name in (*files, *outside) if not name.startswith(".")]
                paths += [Path(here, name).relative_to(root).as_posix() for name in names]
            seen.add(real)
        return paths

    def inside(self, root: str, name: str) -> bool:
        """Say whether a name below a directory leads to something below it."""
        place = os.path.realpath(root)
        return os.path.commonpath([place, os.path.realpath(os.path.join(root, name))]) == place

    def location(self, root: str, name: str) -> str:
        """Return the path of a file below a directory; an absolute name stands for itself."""
        return os.path.join(root, name)

    def checksum(self, location: str) -> str:
        """Return the sha256 of a file; "" of one that is missing or closed to us, which extraction will reject."""
        with contextlib.suppress(OSError, ValueError):  # a name with a null byte is a ValueError
            state = os.stat(location)
            if stat.S_ISREG(state.st_mode):
                if not state.st_size:  # also what a kernel makes up, of which reading may never end
                    return hashlib.sha256().hexdigest()
                with open(location, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        return ""

    @contextlib.contextmanager
    def fetch(self, location: str) -> Iterator[Path]:
        """Give the file's own path."""
        yield Path(location)


@functools.cache
def _store(in_bucket: bool) -> Store:
    if in_bucket:
        from components.media.buckets import Buckets

        return Buckets()
    return Disk()


def store_of(location: str) -> Store:
    """Return the store that a location belongs to: a bucket for gs://, else this machine."""
    return _store(location.startswith(BUCKETS))


@contextlib.contextmanager
def written(location: str) -> Iterator[Path]:
    """Give a local path to write a file to; after the with block it is where it belongs, whole or not at all.

    Args:
        location: A path, whose directory is made, or gs://BUCKET/NAME.

    Raises:
        InputError: The location names no object of a bucket, or the bucket does not take it.
    """
    if location.startswith(BUCKETS):
        from components.media.buckets import Buckets

        with tempfile.TemporaryDirectory(prefix="ai-vs-real-") as folder:
            path = Path(folder, "file")
            yield path
            Buckets().write(path, location)
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    yield part
    os.replace(part, path)


def forget() -> None:
    """Forget what buckets were seen to hold."""
    _store.cache_clear()


@contextlib.contextmanager
def fetched(collections: Sequence[str], path: str) -> Iterator[Path]:
    """Give a local path, for the length of a with block, to a file that a manifest names.

    Args:
        collections: Where the dataset's media came from: directories, buckets or lists in them.
        path: As the manifest has it.

    Raises:
        FileNotFoundError: None of the collections holds it any more.
    """
    for media in (*collections, ""):  # or the path stands for itself
        root = media if os.path.splitext(media)[1].lower() not in LISTS else os.path.dirname(media) or "."
        store = store_of(path if path.startswith(BUCKETS) else root)
        location = store.location(root, path)
        if store.checksum(location):
            with store.fetch(location) as local:
                yield local
            return
    raise FileNotFoundError(f"{path} is not there any more, nor in {', '.join(collections) or 'any collection'}")
