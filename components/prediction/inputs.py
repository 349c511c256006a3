"""What a person names on the command line, turned into files: pictures, videos, directories, patterns, links, "-"."""

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from components.errors import InputError
from components.media.stores import BUCKETS, Disk, as_text, store_of

STDIN = "-"


@dataclass(frozen=True)
class Named:
    """One file to answer about.

    Attributes:
        name: What the answer calls it; valid text, whatever the file system has.
        location: Its path, or gs://BUCKET/NAME; None where there is nothing to read.
        error: Why there is nothing to read, else empty.
    """

    name: str
    location: str | Path | None
    error: str = ""

    def local(self) -> AbstractContextManager[Path]:
        """Give a local path to the file for the length of a with block; from a bucket it is downloaded for it.

        Raises:
            MediaError: The bucket has no such object.
        """
        return store_of(str(self.location)).fetch(str(self.location))


@contextmanager
def gathered(names: Sequence[str]) -> Iterator[list[Named]]:
    """Find every file that was named; links and standard input lie in a temporary directory until the block ends.

    Args:
        names: Files, directories (walked through, what is hidden left out), patterns such as "photos/*.jpg", links,
            gs://BUCKET/PREFIX for the objects below it, gs://BUCKET/NAME for one, or "-" for one file on standard
            input.

    Raises:
        InputError: "-" is named twice.
    """
    if list(names).count(STDIN) > 1:
        raise InputError('"-" stands for one file on standard input and can be given once')
    with tempfile.TemporaryDirectory(prefix="ai-vs-real-") as place:
        yield [replace(file, name=as_text(file.name)) for name in names for file in _files(name, Path(place))]


def _files(name: str, place: Path) -> Iterator[Named]:
    if name == STDIN:
        path = place / "standard input"
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield Named(STDIN, path)
    elif name.lower().startswith(("http://", "https://")):
        yield _link(name, place)
    elif name.startswith(BUCKETS):
        yield from _objects(name)
    elif os.path.isdir(name):
        yield from _below(name)
    elif os.path.isfile(name):
        yield Named(name, Path(name))
    elif os.path.exists(name):
        yield Named(name, None, "not media: no regular file")
    else:
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
        if not matches:
            yield Named(name, None, "no such file")
        for match in matches:
            if os.path.isdir(match):
                continue  # "**" names a directory beside what is in it
            yield Named(match, Path(match))


def _below(directory: str) -> Iterator[Named]:
    names = [name for name in sorted(Disk().names(directory)) if os.path.isfile(os.path.join(directory, name))]
    if not names:
        yield Named(directory, None, "the directory holds no file")
    for name in names:
        path = os.path.join(directory, name)
        yield Named(path, Path(path))


def _objects(address: str) -> Iterator[Named]:
    store = store_of(address)
    names = sorted(store.names(address))
    if not names:
        there = store.checksum(address)
        yield Named(address, address if there else None, "" if there else "the bucket holds nothing of this name")
    for name in names:
        yield Named(store.location(address, name), store.location(address, name))


def _link(link: str, place: Path) -> Named:
    from components.prediction.links import fetch

    try:
        return Named(link, fetch(link, Path(tempfile.mkdtemp(dir=place))))
    except InputError as error:
        return Named(link, None, str(error))
