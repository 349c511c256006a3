"""One run of FFmpeg on one file that nobody vouches for: its name hidden, its pipes drained, its time bounded."""

import contextlib
import fcntl
import functools
import os
import queue
import re
import resource
import secrets
import select
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from components.errors import InputError
from components.media.pictures import MAX_PIXELS, MediaError

INPUT = "{input}"
TIMES = "showinfo@times"
# Demuxers that read this one file and nothing else. Playlists, concatenations, image sequences and devices, which
# open other paths or addresses, are not among them, whatever a file's content claims.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,mxf,dv,nut,"
    "rm,yuv4mpegpipe,vc1,wtv,mp3,wav,flac,aac"
)
# Seconds to wait for the next frame. What lies between two frames is at most SEEK_GAP_S of video (see videos), which
# software decodes in a few seconds at worst.
PATIENCE_S = 120.0
PIPE_BYTES = 1024 * 1024
MEMORY_MB = 1500  # of FFmpeg's own data: 8K with many reference frames takes less


@functools.cache
def ffmpeg_executable() -> str:
    """Return the path of FFmpeg: the system's if there, else that of the imageio-ffmpeg wheel."""
    system = shutil.which("ffmpeg")
    if system:
        return system
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise InputError(
            "no ffmpeg on this machine; install the system's package or pip install imageio-ffmpeg"
        ) from error


@contextlib.contextmanager
def descriptor_of(path: str | Path) -> Iterator[int]:
    """Open a file for FFmpeg or its libraries, for the length of a block.

    Its name never reaches them: no option, pattern, protocol or line of the log can be made of it.

    Args:
        path: The file; what is no file is not waited for.

    Yields:
        The descriptor, which they read as /dev/fd/N.

    Raises:
        MediaError: It is missing, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MediaError("missing", error.strerror or "") from error
    except (OSError, ValueError) as error:
        raise MediaError("unreadable", str(error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class FFmpeg:
    """One FFmpeg process; a context manager, and gone when its block is left.

    The file is passed on as a descriptor; see `descriptor_of`.

    Args:
        path: The file to read.
        arguments: The command line without the executable; INPUT stands for the file, TIMES for the filter that tells
            when each frame is.

    Raises:
        MediaError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, arguments: Sequence[str]):
        # Of what a file says into the log nothing can pass for the times of our filter: it cannot know this name.
        self._filter = f"showinfo@{secrets.token_hex(16)}"
        arguments = [text.replace(TIMES, self._filter) for text in arguments]
        self._log: deque[str] = deque(maxlen=500)
        self._times: queue.Queue[Fraction | None] = queue.Queue()
        with descriptor_of(path) as descriptor:
            self._process = subprocess.Popen(
                _command(arguments, descriptor),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(descriptor,),
                env=_environment(),
            )
        _allow(self._process.pid)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout, self._stderr = self._process.stdout, self._process.stderr
        self._out = self._stdout.fileno()
        with contextlib.suppress(AttributeError, OSError):  # Linux, within the user's limit: a frame in a few reads
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._ready = select.poll()
        self._ready.register(self._out, select.POLLIN)
        self._drain = threading.Thread(target=self._listen, daemon=True)
        self._drain.start()

    def __enter__(self) -> "FFmpeg":
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()
        self._drain.join()
        self._stdout.close()
        self._stderr.close()

    def output(self) -> str:
        """Wait for the end and return what was written to standard output."""
        written = bytearray()
        while part := self._read(65536):
            written += part
        return written.decode("utf-8", "replace")

    def log(self) -> str:
        """Wait for the end and return the log, each line led by its level."""
        self.output()
        self._drain.join(PATIENCE_S)
        if self._drain.is_alive():
            raise MediaError("too slow", f"FFmpeg did not end within {PATIENCE_S:g} s")
        status = self._process.wait()
        if status < 0:
            raise MediaError("unreadable", f"FFmpeg was ended by signal {-status}")
        return "".join(self._log)

    def complaint(self) -> str:
        """Return the first error in the log, for a person; "" without any."""
        match = re.search(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal)\] (.*)$", self.log(), re.M)
        return match[1][:300] if match else ""

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (time as stored, seconds; pixels, uint8, (height, width, 3)) of each PPM image that is written."""
        while self._line() == b"P6":
            width, height = (int(side) for side in self._line().split())
            self._line()  # the depth, 255
            if width * height > MAX_PIXELS:
                raise MediaError("too large", f"{width} x {height} pixels, at most {MAX_PIXELS:,}")
            pixels = np.empty((height, width, 3), np.uint8)
            if not self._fill(pixels.data.cast("B")):
                return
            try:
                moment = self._times.get(timeout=PATIENCE_S)  # the filter prints it before the frame is written
            except queue.Empty as error:
                raise MediaError("unreadable", "FFmpeg gave no time for a frame") from error
            yield float(moment or 0), pixels

    def _listen(self) -> None:
        """Drain standard error; pick out the times that our own filter prints."""
        unit, times = Fraction(1), _times_of(self._filter)
        for line in iter(lambda: self._stderr.readline(65536), b""):
            match = times.match(line)
            if not match:
                self._log.append(line.decode("utf-8", "replace").replace("\r", "\n"))
            elif match["numerator"]:
                unit = Fraction(int(match["numerator"]), int(match["denominator"]))
            else:
                self._times.put(None if match["pts"] == b"NOPTS" else int(match["pts"]) * unit)
        self._times.put(None)

    def _wait(self) -> None:
        if not self._ready.poll(PATIENCE_S * 1000):
            raise MediaError("too slow", f"FFmpeg gave nothing for {PATIENCE_S:g} s")

    def _read(self, size: int) -> bytes:
        self._wait()
        return os.read(self._out, size)

    def _line(self) -> bytes:
        line = bytearray()
        while (byte := self._read(1)) not in (b"", b"\n"):
            line += byte
        return bytes(line)

    def _fill(self, view: memoryview) -> bool:
        done = 0
        while done < len(view):
            self._wait()
            count = os.readv(self._out, [view[done:]])
            if not count:
                return False
            done += count
        return True


def _times_of(filter_name: str) -> re.Pattern[bytes]:
    return re.compile(
        rb"^\[" + filter_name.encode() + rb" @ \w+\] \[info\] "
        rb"(?:config in time_base: (?P<numerator>\d+)/(?P<denominator>\d+)|n: *\d+ pts: *(?P<pts>-?\d+|NOPTS))"
    )


def _environment() -> dict[str, str]:
    """Return our own environment without what would colour FFmpeg's log or have it write one of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FFREPORT", "AV_LOG_FORCE_COLOR")}
    return kept | {"AV_LOG_FORCE_NOCOLOR": "1"}


def _allow(process: int) -> None:
    # A worker's own bounds are those of a picture; of FFmpeg the time is bounded by who waits for its frames.
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for kind, amount in ((resource.RLIMIT_DATA, MEMORY_MB * 2**20), (resource.RLIMIT_CPU, None)):
                hard = resource.prlimit(process, kind)[1]
                wanted = hard if amount is None else amount if hard == resource.RLIM_INFINITY else min(amount, hard)
                resource.prlimit(process, kind, (wanted, hard))


def _command(arguments: Sequence[str], descriptor: int) -> list[str]:
    # Applied to the input, wherever it stands among the arguments.
    guards = ["-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)]
    at = list(arguments).index("-i")
    general = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command = [ffmpeg_executable(), *general, *arguments[:at], *guards, *arguments[at:]]
    return [f"file:/dev/fd/{descriptor}" if text == INPUT else text for text in command]
