"""Contract: where something may be written. Never over what is not our own, and never half.

What a stage writes is a directory that is made under a temporary name beside its place and takes that place by a
rename. What lies there before is replaced only where it is a directory of the same kind, written by us and holding
nothing else; anything else in it is somebody's.
"""

import contextlib
import ctypes
import errno
import fnmatch
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components import processes
from components.errors import InputError

SUFFIX = ".unfinished"
MARK = "unfinished.txt"
OURS = "Written by ai-vs-real, process "


@dataclass(frozen=True)
class Kind:
    """A kind of directory that we write.

    Args:
        name: In words, such as "dataset".
        marker: The file that tells it.
        owned: Patterns of all names in it that are ours.
    """

    name: str
    marker: str
    owned: tuple[str, ...]


DATASET = Kind("dataset", "dataset.json", ("dataset.json", "manifest.parquet", "rejections.parquet", "shards"))
DETECTOR = Kind("detector", "card.json", ("card.json", "model.keras", "runtime.*", "*.npz"))
EVALUATION = Kind("evaluation", "evaluation.json", ("evaluation.json", "report.html"))
SAMPLE = Kind("sample set", "SAMPLE.txt", ("SAMPLE.txt", "real", "fake"))


def claim(directory: str | Path, kind: Kind, *, overwrite: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Check, before any work, that a directory may be written.

    Args:
        directory: Where something of a kind shall lie.
        kind: What shall lie there.
        overwrite: Whether one of the same kind may be replaced.
        inputs: Paths that the work reads; what is in a bucket is no path here.

    Raises:
        InputError: It is no directory, or holds what is not ours, or is, holds or lies in an input, or holds one of the
            same kind and `overwrite` is false.
    """
    directory = Path(directory)
    place = Path(os.path.realpath(directory))
    for given in (str(path) for path in inputs):
        read = Path(os.path.realpath(given))
        if (
            given
            and not given.startswith("gs://")
            and (place == read or place in read.parents or read in place.parents)
        ):
            how = "is" if place == read else "holds" if place in read.parents else "lies in"
            raise InputError(f"the output {directory} {how} the input {given}; give a directory apart from it")
    if not os.path.lexists(directory):
        return
    if not directory.is_dir():
        raise InputError(f"the output {directory} is a file, not a directory; give a new or empty directory")
    names = sorted(os.listdir(directory))
    foreign = [name for name in names if not any(fnmatch.fnmatchcase(name, owned) for owned in kind.owned)]
    if names and (foreign or not (directory / kind.marker).is_file()):
        raise InputError(
            f"the output {directory} holds {(foreign or names)[0]!r}, which is not of a {kind.name} that this program "
            "wrote; give a new or empty directory"
        )
    if names and not overwrite:
        raise InputError(
            f"the output {directory} already holds a {kind.name}; replace it with --overwrite, or give another place"
        )


def claim_page(path: str | Path, *, overwrite: bool) -> None:
    """Check that a page may be written beside a directory.

    Raises:
        InputError: Something is there, and `overwrite` is false.
    """
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"the page {path} is there already; replace it with --overwrite, or give another --output")


@contextlib.contextmanager
def written(directory: str | Path, kind: Kind, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a new directory to write in, which takes the place of `directory` when the block ends without an error.

    A process that is killed leaves the old or the new one, whole, and what it wrote so far under a hidden name, which
    whoever writes there next removes.

    Args:
        directory: Where it shall lie.
        kind: What it is; see `claim`, which is asked before and after.
        overwrite: Whether one of the same kind may be replaced.
    """
    directory = Path(directory)
    claim(directory, kind, overwrite=overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with passing(f".{directory.name}.", directory.parent) as work:
        part = work / "part"
        part.mkdir()
        yield part
        claim(directory, kind, overwrite=overwrite)
        os.chmod(part, 0o755)  # whatever the mask: other users of a shared volume must read it
        try:
            _take_place(part, directory, overwrite)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            claim(directory, kind, overwrite=overwrite)  # which another process was faster to write
            raise


@contextlib.contextmanager
def passing(prefix: str, place: str | Path | None = None) -> Iterator[Path]:
    """Give a directory for the length of a block; `sweep` knows it by a mark, should this process be killed.

    Args:
        prefix: Of its name.
        place: Where it shall lie; the system's place for such directories if not given.
    """
    place = Path(place or tempfile.gettempdir())
    sweep(place)
    work = Path(tempfile.mkdtemp(prefix=prefix, suffix=SUFFIX, dir=place))
    try:
        (work / MARK).write_text(f"{OURS}{processes.identity()}\n")
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep(place: str | Path) -> list[Path]:
    """Remove the directories of `passing` in a place whose process is no more.

    Args:
        place: A directory; it need not exist.

    Returns:
        Those that were removed.
    """
    swept = []
    for work in Path(place).glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            mark = (work / MARK).read_text()
            ours = mark.startswith(OURS) and not work.is_symlink() and work.stat().st_uid == os.geteuid()
            if ours and processes.has_ended(mark.removeprefix(OURS).strip()):
                shutil.rmtree(work)
                swept.append(work)
    return swept


def _take_place(part: Path, directory: Path, overwrite: bool) -> None:
    """Exchange two directories, or rename where there is none yet; afterwards `part` is what was there before."""
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory) if not directory.is_symlink() and not os.listdir(directory) else None
    target = Path(os.path.realpath(directory))  # through a link, which stays
    if not overwrite or not target.exists():
        os.rename(part, target)
        return
    if not _exchanged(part, target):
        old = part.with_name(f"{part.name}.old")
        os.rename(target, old)
        os.rename(part, target)
        os.rename(old, part)


def _exchanged(one: Path, other: Path) -> bool:
    # Linux alone exchanges two names in one step; not every file system of it.
    if sys.platform != "linux":
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    with contextlib.suppress(AttributeError, OSError):
        return ctypes.CDLL(None).renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
    return False
