"""From a video file to frames with their exact times, by FFmpeg, in memory that does not grow with the length."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from components.errors import InputError
from components.media.ffmpeg import INPUT, PATIENCE_S, FFmpeg, ffmpeg_executable
from components.media.pictures import (
    MediaError,
    check_size,
    decode,
    is_animation,
    media_error,
    open_image,
)

__all__ = ["Sampling", "Video", "ffmpeg_executable", "probe", "read_animation", "read_frames"]

# Where frames are further apart than this, seeking to each is cheaper than decoding what lies between: encoders'
# usual longest distance of keyframes is 250 frames, 10 s.
SEEK_GAP_S = 10.0
AMOUNTS = {"even": 8, "rate": 1, "keyframes": 16}


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
    amount: float = AMOUNTS["even"]

    @classmethod
    def parse(cls, text: str) -> "Sampling":
        """Read a policy such as "even:8", "rate:0.5" or "keyframes"."""
        match = re.fullmatch(r"(even|rate|keyframes)(?::(\d+(?:\.\d+)?))?", str(text))
        amount = float(match[2] or AMOUNTS[match[1]]) if match else 0
        if not 0 < amount <= 1000 or (match[1] != "rate" and amount != int(amount)):
            raise InputError(
                f"sampling is {text!r}; it must be even:N, rate:FRAMES_A_SECOND or keyframes:N, such as even:8"
            )
        return cls(match[1], amount)

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"


@dataclass(frozen=True)
class Video:
    """What FFmpeg says about a video before it is decoded.

    Args:
        format: The container: mp4, matroska, avi, ...
        codec: Of the first video stream.
        width: Of a frame as shown, upright and with square pixels.
        height: Of a frame as shown.
        frame_rate: Frames a second, None where unknown.
        start_s: Time of the first packet, seconds.
        duration_s: Seconds, None where unknown.
        transfer: "smpte2084" or "arib-std-b67" for HDR, else "".
    """

    format: str
    codec: str
    width: int
    height: int
    frame_rate: float | None
    start_s: float
    duration_s: float | None
    transfer: str


def probe(path: str | Path) -> Video:
    """Ask FFmpeg what a file holds.

    Raises:
        MediaError: It is no media, or not a whole one, or has no video stream, or too large a one.
    """
    with FFmpeg(path, ["-i", INPUT]) as run:
        log = run.log()
        complaint = run.complaint()
    log = re.sub(r"^\[info\] ", "", log, flags=re.M)
    container = re.search(r"^Input #0, ([\w,]+), from", log, re.M)
    if not container:
        # An MP4 keeps its index at the end: without it the file was cut off.
        raise MediaError("truncated" if "moov atom not found" in log else "not media", complaint)
    # What a file's metadata says is printed with four spaces and more, so it cannot pass for these lines.
    streams = re.findall(r"^  Stream #0:\d+[^\n]*?: Video: (?![^\n]*\(attached pic\))([^\n]*)", log, re.M)
    if not streams:
        raise MediaError("no video frames", "the file has no video stream")
    return _video(container[1].split(",")[0], streams[0], log)


def _video(container: str, stream: str, log: str) -> Video:
    size = re.search(r", (\d{1,6})x(\d{1,6})\b", stream)
    if not size:
        raise MediaError("no video frames", f"a stream without a size: {stream}")
    aspect = re.search(r"\bSAR (\d+):(\d+)", stream)
    ratio = int(aspect[1]) / max(1, int(aspect[2])) if aspect else 1.0
    ratio = ratio if 0.1 <= ratio <= 10 else 1.0
    width, height = round(int(size[1]) * max(1, ratio)), round(int(size[2]) * max(1, 1 / ratio))
    check_size(width, height)
    turned = re.search(r"^ +Display ?Matrix: rotation of (-?[\d.]+) degrees", log, re.M | re.I)
    if turned and round(float(turned[1]) / 90) % 2:
        width, height = height, width
    rate = re.search(r", ([\d.]+) fps", stream)
    length = re.search(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", log, re.M)
    start = re.search(r"^  Duration: .*?start: (-?[\d.]+)", log, re.M)
    transfer = re.search(r"smpte2084|arib-std-b67", stream)
    return Video(
        format="mp4" if container == "mov" else container,
        codec=re.match(r"\w+", stream)[0],
        width=width,
        height=height,
        frame_rate=(float(rate[1]) or None) if rate else None,
        start_s=float(start[1]) if start else 0.0,
        duration_s=(int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3]) or None) if length else None,
        transfer=transfer[0] if transfer else "",
    )


def read_frames(path: str | Path, sampling: Sampling, video: Video | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the sampled frames of a video or of an animated picture.

    Args:
        path: The file.
        sampling: Which frames.
        video: What `probe` said of the file, where it was asked before.

    Yields:
        The time of a frame in seconds from the start, exactly as stored; and its pixels, uint8, (height, width, 3),
        upright, square, sRGB.

    Raises:
        MediaError: Not one frame could be read.
    """
    image = open_image(path) if video is None else None
    if image is not None and is_animation(image):
        with image:
            yield from read_animation(image, sampling)
        return
    video = video or probe(path)
    plans = _plans(sampling, video, video.duration_s or _measured(path, video))
    # Last, whatever comes first: the duration may be wrong, or no frame be marked as key.
    last = -1.0
    for plan in chain(plans, [{}]):
        if not plan and last >= 0:
            return
        try:
            with FFmpeg(path, _arguments(video, **plan)) as run:
                for stored, pixels in run.frames():
                    moment = max(0.0, stored - video.start_s)
                    if moment > last:
                        last = moment
                        yield moment, pixels
                complaint = run.complaint()
        except MediaError:
            if last < 0:
                raise
            return  # what was read before the trouble counts, as in a file that was cut off
    if last < 0:
        raise MediaError("no video frames", complaint)


def _plans(sampling: Sampling, video: Video, duration: float) -> list[dict[str, Any]]:
    """Say with which arguments FFmpeg has to be run, one pass over all or one seek for each frame."""
    keyframes = sampling.kind == "keyframes"
    step = 1 / sampling.amount if sampling.kind == "rate" else duration / sampling.amount
    # The middle of each part, unless the parts are single frames.
    offset = step / 2 if sampling.kind == "even" and step > 2 / (video.frame_rate or 25) else 0.0
    count = int(duration / step + 1e-6) + (sampling.kind == "rate")
    if step > SEEK_GAP_S:
        return [{"seek": offset + number * step, "keyframes": keyframes} for number in range(count)]
    # Which part a time falls into; a hair is added because times such as 0.28 have no exact double.
    part, part_before = (
        f"floor(({name}-{video.start_s + offset!r})/{step!r}+1e-4)" for name in ("t", "prev_selected_t")
    )
    choose = f"gte({part},0)*if(isnan(prev_selected_t),1,gt({part},{part_before}))"
    return [{"choose": choose, "count": count + 1 if sampling.kind == "rate" else count, "keyframes": keyframes}]


def _arguments(
    video: Video, choose: str = "", seek: float | None = None, keyframes: bool = False, count: int = 1
) -> list[str]:
    """Write the command line that decodes the chosen frames to PPM and prints their times."""
    import ffmpeg  # ffmpeg-python: escapes what stands in a filter

    options = {"copyts": None, "fflags": "+discardcorrupt"}
    if keyframes:
        options["skip_frame"] = "nokey"
    if seek is not None:
        options |= {"ss": f"{seek:.6f}"} | ({"noaccurate_seek": None} if keyframes else {})
    stream = ffmpeg.input(INPUT, **options)["V:0"]
    if choose:
        stream = stream.filter("select", choose)
    if video.transfer:
        stream = _tone_mapped(stream, video.transfer)
    # Pixels that are not square are drawn out; by expression, because FFmpeg has turned the frame by now.
    square = ("round(iw*if(between(sar,1,10),sar,1))", "round(ih/if(between(sar,0.1,1),sar,1))")
    stream = stream.filter("scale", *square, flags="bicubic+accurate_rnd+full_chroma_int")
    stream = stream.filter("format", "rgb24").filter("showinfo", checksum=0)
    return ffmpeg.output(
        stream, "pipe:1", format="image2pipe", vcodec="ppm", fps_mode="passthrough", **{"frames:v": count}
    ).get_args()


def _tone_mapped(stream: Any, transfer: str) -> Any:
    """Bring PQ or HLG in BT.2020 to SDR in BT.709: to linear light, its gamut, the tone curve of Hable, and back."""
    for name, options in (
        ("zscale", {"tin": transfer, "pin": "2020", "min": "2020_ncl", "t": "linear", "npl": 100}),
        ("format", {"pix_fmts": "gbrpf32le"}),
        ("zscale", {"p": "709"}),
        ("tonemap", {"tonemap": "hable", "desat": 0}),
        ("zscale", {"t": "709", "m": "709", "r": "tv"}),
        ("format", {"pix_fmts": "yuv444p"}),
    ):
        stream = stream.filter(name, **options)
    return stream


def _measured(path: str | Path, video: Video) -> float:
    """Return the seconds of a video whose container does not state them, by walking its packets without decoding."""
    walk = ["-i", INPUT, "-map", "0:V:0", "-c", "copy", "-progress", "pipe:1", "-f", "null", "-"]
    with FFmpeg(path, walk) as run:
        printed = dict(line.partition("=")[::2] for line in run.output().split())
    microseconds, frames = (
        int(printed[name]) if printed.get(name, "").isdigit() else 0 for name in ("out_time_us", "frame")
    )
    return max(microseconds / 1e6, frames / (video.frame_rate or 25), 0.04)


def read_animation(image: Image.Image, sampling: Sampling) -> Iterator[tuple[float, np.ndarray]]:
    """Sample an opened animated picture. It cannot be sought in, so all up to the last frame wanted is decoded.

    Yields and raises as `read_frames`; keyframes are taken as even, for an animation has none.
    """
    spent = 0.0
    try:
        check_size(*image.size)
        wanted = None
        if sampling.kind != "rate" and image.n_frames > sampling.amount:
            wanted = {int((part + 0.5) * image.n_frames / sampling.amount) for part in range(int(sampling.amount))}
        clock, due = 0.0, 0.0
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            started = time.monotonic()
            frame.load()  # before its duration is known
            spent += time.monotonic() - started
            if spent > PATIENCE_S:
                raise MediaError("too slow", f"{number + 1} of {image.n_frames} frames in {PATIENCE_S:g} s")
            if number in wanted if wanted else clock >= due:
                due = (int(clock * sampling.amount) + 1) / sampling.amount if sampling.kind == "rate" else 0.0
                yield clock, decode(frame.copy()).pixels
            clock += (frame.info.get("duration") or 100) / 1000  # browsers, too, show a frame of 0 for 100 ms
    except MediaError:
        raise
    except Exception as error:  # a decoder may raise anything on a mutilated file
        raise media_error(error) from error
