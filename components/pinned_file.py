"""Contract: a setting that names a file, and may pin its content: "PATH", or "PATH#sha256=HEX"."""

import hashlib
from pathlib import Path

from components.errors import InputError


def pinned_file(setting: str, text: str, accepted: str) -> str:
    """Return the path of a file whose content is the pinned one, where it is pinned.

    Args:
        setting: The setting's name.
        text: Its value.
        accepted: Which values it accepts, for the error.

    Raises:
        InputError: The file is missing, or has another content than the pinned one.
    """
    path, _, pin = text.partition("#sha256=")
    if not Path(path).is_file():
        raise InputError(f"{setting} {path!r} is not a file; accepted are {accepted}")
    if pin and hashlib.sha256(Path(path).read_bytes()).hexdigest() != pin:
        raise InputError(f"{setting} file {path} has changed since the run was asked for (sha256 was {pin}); run again")
    return path
