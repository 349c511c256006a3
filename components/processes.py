"""Which process a record is of, so that whoever comes later can tell whether it is still at work."""

import os
import socket
from pathlib import Path


def identity() -> str:
    """Return what names this process among all of all times: host, boot, process id and when it began."""
    return f"{socket.gethostname()} {_boot()} {os.getpid()} {_began(os.getpid())}"


def has_ended(name: str) -> bool:
    """Say whether a process has certainly ended.

    Args:
        name: What `identity` returned in it.

    Returns:
        True where the process was one of this host and is no more; False where it runs, and where that cannot be seen
        from here: on another host, or in another form of text.
    """
    host, _, rest = name.partition(" ")
    boot, _, process = rest.partition(" ")
    number, _, began = process.partition(" ")
    if host != socket.gethostname() or not number.isdigit():
        return False
    return boot != _boot() or _began(int(number)) != began


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: a process id alone has to do
        return "-"


def _began(number: int) -> str:
    """Return when a process began, in ticks since the boot; empty for one that is no more."""
    try:
        state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "-"
