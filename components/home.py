"""Where a run leaves what it makes, on a machine without servers: one directory, the run home."""

import errno
import os
import tempfile
from pathlib import Path

from components.errors import InputError
from components.progress import say

VARIABLE = "AI_VS_REAL_HOME"
# What a file system answers where nothing can be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def place() -> Path:
    """Return where the run home is or will be: AI_VS_REAL_HOME, else `runs` in the current directory.

    For who only reads: it need not exist, nor be writable.
    """
    return Path(os.environ.get(VARIABLE) or "runs").expanduser().absolute()


def run_home() -> Path:
    """Return the run home, made if need be; see `place`.

    Raises:
        InputError: Nothing can be written there.
    """
    home = place()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home, buffering=0) as probe:  # a full disk still makes empty files
            probe.write(bytes(4096))
    except OSError as error:
        raise unwritable(home, error) from error
    return home


def unwritable(path: Path, error: Exception) -> InputError:
    """Say in one line that a place in the run home cannot be written, why, and what to set."""
    cause = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"cannot write to {path}: {cause}; free space there, or set {VARIABLE} to a directory that can be written"
    )


def work_place(stage: str, given: str | Path | None) -> Path:
    """Return where a stage keeps what it resumes from.

    A new volume of a cluster belongs to root, and whether the steps may write it is its administrator's setting.

    Args:
        stage: Its name, which is its directory in the run home.
        given: The place that is wanted; None or empty for the run home's.

    Returns:
        The place that is given, or the run home's where that one cannot be written, which is said.
    """
    own = run_home() / stage
    if not given:
        return own
    place = Path(given).absolute()
    there = next(parent for parent in (place, *place.parents) if parent.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return place
    say(stage, f"{there} cannot be written by user {os.getuid()}: after being killed, {stage} will begin anew")
    return own
