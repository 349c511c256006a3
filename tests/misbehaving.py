"""What a decoder may do to its process, for the tests of the workers."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator

import numpy as np

from components.errors import InputError


def count(amount: int, side: int = 4) -> Iterator[tuple[np.ndarray, dict]]:
    """Give small arrays, their number and some bytes, as a well-behaved reader does."""
    for number in range(amount):
        yield np.full((side, side), number, np.uint8), {"number": number, "bytes": b"\x00\xff", "none": None}


def crash() -> Iterator[int]:
    """Read from nowhere."""
    yield 1
    ctypes.string_at(0)


def spin() -> Iterator[int]:
    """Compute for ever."""
    while True:
        pass
    yield


def sleep(seconds: float, child: bool = False) -> Iterator[int]:
    """Wait, as for a disk that does not answer; with a child process, as FFmpeg is."""
    if child:
        subprocess.Popen(["sleep", str(seconds)])
    yield os.getpid()
    time.sleep(seconds)


def swell(megabytes: int) -> Iterator[int]:
    """Take memory."""
    yield len(bytearray(megabytes * 2**20))


def fail() -> Iterator[int]:
    """Raise what no decoder should."""
    yield 1
    raise ZeroDivisionError("of an odd tag")


def refuse() -> Iterator[int]:
    """Say what the user must correct."""
    yield 1
    raise InputError("no ffmpeg on this machine")
