"""From a video file to frames with their exact times, by FFmpeg, in memory that does not grow with the length."""

import functools
import os
import queue
import re
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from components.errors import InputError
from components.media.pictures import MAX_PIXELS, MediaError, decode, is_animation, media_error, open_image

# Containers by what FFmpeg finds in the file. Playlists, concatenations, image sequences and devices, which would
# make it open other paths or addresses, are not among them.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,apng,"
    "mxf,dv,nut,rm,3gp,y4m,yuv4mpegpipe,mjpeg,vc1,wtv"
)
# Seconds that one FFmpeg process may keep us waiting; a pass over a whole video gets its duration's multiple more.
PATIENCE_S = 120.0
# Where frames are further apart than this, seeking to each is cheaper than decoding what lies between: encoders'
# usual longest distance of keyframes is 250 frames, 10 s.
SEEK_GAP_S = 10.0


@functools.cache
def ffmpeg_executable() -> str:
    """Return the path of FFmpeg: the system's if there, else that of the imageio-ffmpeg wheel."""
    system = shutil.which("ffmpeg")
    if system:
        return system
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at.

    `even:N`: N frames, in the middles of N equal parts; `rate:R`: R frames for each second; `keyframes:N`: at most N of
    the frames that are stored whole, spread evenly, which cost the least to read.

    Args:
        kind: even, rate or keyframes.
        amount: The number of frames, or of frames a second.
    """

    kind: str = "even"
    amount: float = 8

    @classmethod
    def parse(cls, text: str) -> "Sampling":
        """Read a policy such as "even:8", "rate:0.5" or "keyframes"."""
        kind, _, amount = str(text).partition(":")
        defaults = {"even": 8, "rate": 1, "keyframes": 16}
        try:
            value = float(amount) if amount else defaults[kind]
            if kind not in defaults or not 0 < value <= 1000 or (kind != "rate" and value != int(value)):
                raise ValueError
        except (KeyError, ValueError):
            raise InputError(
                f"sampling is {text!r}; it must be even:N, rate:FRAMES_A_SECOND or keyframes:N, such as even:8"
            ) from None
        return cls(kind, value if kind == "rate" else int(value))

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"


@dataclass(frozen=True)
class Video:
    """What FFmpeg says about a video before it is decoded.

    Args:
        format: The container: mp4, matroska, avi, ...
        codec: Of the first video stream.
        width: Of a frame as stored, pixels.
        height: Of a frame as stored, pixels.
        pixel_aspect: Width of a pixel over its height.
        rotation: Of the display matrix, degrees.
        frame_rate: Frames a second, None where unknown.
        start_s: Time of the first packet, seconds.
        duration_s: Seconds, None where unknown.
        transfer: The transfer curve, such as bt709 or smpte2084; "" where unknown.
    """

    format: str
    codec: str
    width: int
    height: int
    pixel_aspect: float
    rotation: float
    frame_rate: float | None
    start_s: float
    duration_s: float | None
    transfer: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of a frame as shown: square pixels, upright."""
        width, height = max(1, round(self.width * self.pixel_aspect)), self.height
        return (height, width) if round(self.rotation / 90) % 2 else (width, height)


def probe(path: str | Path) -> Video:
    """Ask FFmpeg what a file holds.

    Raises:
        MediaError: It is no media, or has no video stream.
    """
    with _Run(path, ["-i", "{input}"]) as run:
        text = run.finish()
    container = re.search(r"^Input #0, ([\w,]+), from", text, re.M)
    if not container:
        raise MediaError("not media", run.message())
    # Metadata is printed with four spaces and more, so nothing written in a file can pass for these lines.
    streams = [
        line for line in re.findall(r"^  Stream #0:\d+.*?: Video: (.*)$", text, re.M) if "(attached pic)" not in line
    ]
    if not streams:
        raise MediaError("no video frames", "the file has no video stream")
    return _video(container[1], streams[0], text)


def _video(container: str, stream: str, text: str) -> Video:
    size = re.search(r", (\d{1,6})x(\d{1,6})", stream)
    if not size:
        raise MediaError("no video frames", f"unknown frame size: {stream}")
    width, height = int(size[1]), int(size[2])
    if not 0 < width * height <= MAX_PIXELS:
        raise MediaError("too large", f"{width} x {height} pixels, at most {MAX_PIXELS:,}")
    aspect = re.search(r"\bSAR (\d+):(\d+)", stream)
    ratio = int(aspect[1]) / int(aspect[2]) if aspect and int(aspect[2]) else 1.0
    rate = re.search(r", ([\d.]+)(k?) fps", stream)
    duration = re.search(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", text, re.M)
    start = re.search(r"^  Duration: .*?start: (-?[\d.]+)", text, re.M)
    rotation = re.search(r"^ +displaymatrix: rotation of (-?[\d.]+) degrees", text, re.M)
    transfer = re.search(r"smpte2084|arib-std-b67", stream)
    return Video(
        format={"mov": "mp4"}.get(container.split(",")[0], container.split(",")[0]),
        codec=stream.split()[0].rstrip(","),
        width=width,
        height=height,
        pixel_aspect=ratio if 0.1 <= ratio <= 10 else 1.0,
        rotation=float(rotation[1]) if rotation else 0.0,
        frame_rate=float(rate[1]) * (1000 if rate[2] else 1) if rate and float(rate[1]) else None,
        start_s=float(start[1]) if start else 0.0,
        duration_s=int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]) if duration else None,
        transfer=transfer[0] if transfer else "",
    )


def read_frames(path: str | Path, sampling: Sampling, video: Video | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the sampled frames of a video or of an animated picture.

    Args:
        path: The file.
        sampling: Which frames.
        video: What `probe` said, where it was asked before.

    Yields:
        The time of a frame from the start, in seconds, as stored in the file; and its pixels, uint8,
        (height, width, 3), upright, square, sRGB.

    Raises:
        MediaError: Not one frame could be read.
    """
    image = open_image(path) if video is None else None
    if image is not None and is_animation(image):
        with image:
            yield from _animation(image, sampling)
        return
    video = video or probe(path)
    duration = video.duration_s or _measure(path)
    found = 0
    for frame in _sampled(path, sampling, video, duration):
        found += 1
        yield frame
    if not found:
        # The duration was wrong, or no frame is marked as key: the first that decodes is better than none.
        run = _run(path, video, ["-frames:v", "1"], patience=PATIENCE_S)
        with run:
            for frame in run.frames(video.start_s):
                found += 1
                yield frame
        if not found:
            raise MediaError("no video frames", run.message())


def _sampled(path, sampling: Sampling, video: Video, duration: float) -> Iterator[tuple[float, np.ndarray]]:
    step = 1 / sampling.amount if sampling.kind == "rate" else duration / sampling.amount
    # The middle of each part, unless the parts are single frames.
    offset = step / 2 if sampling.kind == "even" and step > 2 / (video.frame_rate or 25) else 0.0
    limit = int(duration * sampling.amount) + 2 if sampling.kind == "rate" else int(sampling.amount)
    key = ["-skip_frame", "nokey"] if sampling.kind == "keyframes" else []
    if step > SEEK_GAP_S:
        last = -1.0
        for number in range(limit):
            target = offset + number * step
            if target >= duration:
                break
            seek = ["-ss", f"{target:.6f}", *(["-noaccurate_seek"] if key else []), *key]
            with _run(path, video, ["-frames:v", "1"], before=seek) as run:
                for moment, pixels in run.frames(video.start_s):
                    if moment > last:
                        last = moment
                        yield moment, pixels
        return
    origin = f"{video.start_s + offset:.6f}"
    part, part_before = (f"floor(({name}-{origin})/{step:.9f})" for name in ("t", "prev_selected_t"))
    choose = f"gte(t,{origin})*if(isnan(prev_selected_t),1,gt({part},{part_before}))"
    with _run(
        path, video, ["-frames:v", str(limit)], before=key, choose=choose, patience=PATIENCE_S + 4 * duration
    ) as run:
        yield from run.frames(video.start_s)


def _run(path, video: Video, after: list[str], before=(), choose: str = "", patience: float = PATIENCE_S) -> "_Run":
    """Start an FFmpeg process that writes the chosen frames as PPM and tells their times."""
    import ffmpeg  # ffmpeg-python: escapes what stands in a filter

    stream = ffmpeg.input("{input}")["V:0"]
    if choose:
        stream = stream.filter("select", choose)
    if video.transfer:
        stream = _tone_mapped(stream, video.transfer)
    width = max(1, round(video.width * video.pixel_aspect))
    if width != video.width:
        # Autorotation comes first in the graph, so pixels that are not square may by now lie on their side.
        stream = stream.filter("scale", *video.upright_size, flags="lanczos+accurate_rnd+full_chroma_int").filter(
            "setsar", 1
        )
    else:
        stream = stream.filter("scale", "iw", "ih", flags="bicubic+accurate_rnd+full_chroma_int")
    stream = stream.filter("format", "rgb24").filter("showinfo", checksum=0)
    output = ffmpeg.output(stream, "pipe:1", format="image2pipe", vcodec="ppm", fps_mode="passthrough")
    arguments = ffmpeg.get_args(output)
    return _Run(path, ["-copyts", *before, *arguments[:-1], *after, arguments[-1]], patience)


def _tone_mapped(stream, transfer: str):
    """Bring PQ or HLG in BT.2020 to SDR in BT.709: linear light, tone curve of Hable, gamut, and back."""
    for name, options in (
        ("zscale", {"tin": transfer, "t": "linear", "npl": 100}),
        ("format", {"pix_fmts": "gbrpf32le"}),
        ("zscale", {"p": "bt709"}),
        ("tonemap", {"tonemap": "hable", "desat": 0}),
        ("zscale", {"t": "bt709", "m": "bt709", "r": "tv"}),
        ("format", {"pix_fmts": "yuv444p"}),
    ):
        stream = stream.filter(name, **options)
    return stream


def _measure(path) -> float:
    """Return the duration of a video whose container does not tell it, by reading its packets without decoding."""
    with _Run(path, ["-i", "{input}", "-map", "0:V:0", "-c", "copy", "-progress", "pipe:2", "-f", "null", "-"]) as run:
        times = re.findall(r"^out_time_us=(\d+)", run.finish(), re.M)
    return max(0.04, int(times[-1]) / 1e6 if times else 0.04)


def _animation(image: Image.Image, sampling: Sampling) -> Iterator[tuple[float, np.ndarray]]:
    """Sample an animated picture. It has no index to seek by, so all frames up to the last wanted are decoded."""
    try:
        count = image.n_frames
        chosen = None
        if sampling.kind != "rate" and count > sampling.amount:
            chosen = {int((part + 0.5) * count / sampling.amount) for part in range(int(sampling.amount))}
        clock, due = 0.0, 0.0
        started = time.monotonic()
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            if time.monotonic() - started > PATIENCE_S:
                raise MediaError("too slow", f"over {PATIENCE_S:.0f} s for {number} of {count} frames")
            if (chosen is None or number in chosen) and (sampling.kind != "rate" or clock >= due):
                due = (int(clock * sampling.amount) + 1) / sampling.amount if sampling.kind == "rate" else 0.0
                yield clock, decode(frame.copy()).pixels
            clock += frame.info.get("duration", 100) / 1000
    except MediaError:
        raise
    except Exception as error:  # a decoder may raise anything on a mutilated file
        raise media_error(error) from error


_TIMES = re.compile(
    rb"^\[Parsed_showinfo_\d+ @ [^\]]+\] (?:config in time_base: (\d+)/(\d+)|n: *\d+ pts: *(-?\d+|NOPTS))"
)


class _Run:
    """One FFmpeg process: its pipes drained, its time bounded, gone when the block is left.

    The file is opened here and passed on as a descriptor, so its name never reaches FFmpeg: no option, pattern,
    protocol or line of its log can be made of it.
    """

    def __init__(self, path: str | Path, arguments: list[str], patience: float = PATIENCE_S):
        self.patience = patience
        self.log: deque[bytes] = deque(maxlen=400)
        self.times: queue.Queue[float | None] = queue.Queue()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise MediaError("missing", error.strerror) from error
        except OSError as error:
            raise MediaError("unreadable", error.strerror) from error
        safe = ["-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)]
        at = arguments.index("-i")
        arguments = [*arguments[:at], *safe, *arguments[at:]]
        arguments = [f"file:/dev/fd/{descriptor}" if text == "{input}" else text for text in arguments]
        try:
            self.process = subprocess.Popen(
                [ffmpeg_executable(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(descriptor,),
            )
        finally:
            os.close(descriptor)
        self.drain = threading.Thread(target=self._drain, daemon=True)
        self.drain.start()

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()
        self.process.wait()
        self.drain.join()
        self.process.stderr.close()

    def _drain(self) -> None:
        unit = (0, 1)
        for line in iter(lambda: self.process.stderr.readline(65536), b""):
            found = _TIMES.match(line)
            if not found:
                self.log.append(line)
            elif found[1]:
                unit = (int(found[1]), int(found[2]))
            else:
                self.times.put(None if found[3] == b"NOPTS" else int(found[3]) * unit[0] / unit[1])
        self.times.put(None)

    def finish(self) -> str:
        """Wait for the end and return what was logged."""
        while self._read(65536):
            pass
        self.drain.join()
        return self._text()

    def _text(self) -> str:
        return b"".join(self.log).decode("utf-8", "replace")

    def message(self) -> str:
        """Return the last words of FFmpeg that name an error."""
        lines = [
            line for line in self._text().splitlines() if line and not line.startswith((" ", "Input #", "Output #"))
        ]
        lines = [re.sub(r"^\[[^\]]*\] |/dev/fd/\d+: ?", "", line) for line in lines]
        lines = [
            line for line in lines if not line.startswith(("At least one output", "frame=", "Press", "Stream mapping"))
        ]
        return (lines[-1] if lines else "")[:300]

    def frames(self, start_s: float) -> Iterator[tuple[float, np.ndarray]]:
        """Yield (time in seconds from the start, pixels) of each PPM image that the process writes."""
        number = 0
        while header := self._line():
            width, height = (int(side) for side in self._line().split())
            self._line()  # the depth, 255
            pixels = bytearray(width * height * 3)
            if header != b"P6" or self._read_into(memoryview(pixels)) < len(pixels):
                return
            moment = self.times.get()
            number += 1
            yield (
                max(0.0, moment - start_s) if moment is not None else 0.0,
                np.frombuffer(pixels, np.uint8).reshape(height, width, 3),
            )

    def _line(self) -> bytes:
        line = bytearray()
        while (byte := self._read(1)) not in (b"", b"\n"):
            line += byte
        return bytes(line)

    def _read(self, size: int) -> bytes:
        self._wait()
        return os.read(self.process.stdout.fileno(), size)

    def _read_into(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            self._wait()
            got = os.readv(self.process.stdout.fileno(), [view[done:]])
            if not got:
                break
            done += got
        return done

    def _wait(self) -> None:
        """Wait until there is something to read. Only this waiting is counted, not what the caller does meanwhile."""
        started = time.monotonic()
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if self.patience <= 0 or not poll.poll(self.patience * 1000):
            raise MediaError("too slow", f"FFmpeg gave nothing more in its time; {self.message()}")
        self.patience -= time.monotonic() - started
