"""From a video file to frames with their exact times, by FFmpeg, in memory that does not grow with the length.

Facts come from the container through FFmpeg's libraries (PyAV) and pixels from FFmpeg itself, which decodes on all
processors. Nothing is read from FFmpeg's log that a file could have written there.
"""

import contextlib
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from components.errors import InputError
from components.media.ffmpeg import CONTAINERS, INPUT, TIMES, FFmpeg, descriptor_of, ffmpeg_executable
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
# Seeks in a row that find nothing, after which a video has ended, whatever its container says.
MISSED_SEEKS = 3
# Packets in which a first frame must be found, for its display matrix.
PACKETS_TO_A_FRAME = 64
# Of processor time that all frames of an animation may take; it is decoded from its start.
ANIMATION_S = 20.0
TRANSFERS = {16: "smpte2084", 18: "arib-std-b67"}  # by their numbers in ITU-T H.273
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
        kind = match[1] if match else ""
        amount = float(match[2] or AMOUNTS[kind]) if match else 0
        if not 0 < amount <= 1000 or (kind != "rate" and amount != int(amount)):
            raise InputError(
                f"sampling is {text!r}; it must be even:N, rate:FRAMES_A_SECOND or keyframes:N, such as even:8"
            )
        return cls(kind, amount)

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"


@dataclass(frozen=True)
class Video:
    """What a container says about a video before it is decoded.

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
    """Read what a file holds from its container, through FFmpeg's libraries, without decoding it.

    Raises:
        MediaError: It is no media, or not a whole one, or has no video stream, or too large a one.
    """
    import av  # here: reading pictures needs none of it

    with descriptor_of(path) as descriptor:
        guards = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        try:
            # Metadata that is no text is of no interest here, and must not raise.
            container = av.open(f"file:/dev/fd/{descriptor}", options=guards, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise MediaError("truncated" if _lacks_index(path) else "not media", _said(error)) from error
        except Exception as error:
            raise media_error(error) from error
        with container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise MediaError("no video frames", "the file has no video stream")
            return _video(container, streams[0])


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def _quarter_turns(container: Any, stream: Any) -> int:
    """Return by how many right angles the display matrix turns a video, which its first frame carries."""
    if container.format.name.split(",")[0] not in ("mov", "matroska"):  # the others have none
        return 0
    stream.codec_context.thread_count = 1
    with contextlib.suppress(Exception):  # what cannot be decoded is for `read_frames` to say
        for packet in islice(container.demux(stream), PACKETS_TO_A_FRAME):
            for frame in packet.decode():
                return round(frame.rotation / 90)
    return 0


def _lacks_index(path: str | Path) -> bool:
    """Say whether a file is an MP4 or MOV that was cut off before its index, which encoders write at the end."""
    with open(path, "rb") as file:
        boxes: list[bytes] = []
        size, at = os.fstat(file.fileno()).st_size, 0
        while at + 8 <= size and len(boxes) < 100:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:  # a longer length follows
                length = int.from_bytes(file.read(8), "big")
            boxes.append(kind)
            at = at + length if length >= 8 else size
    return boxes[:1] == [b"ftyp"] and b"moov" not in boxes


def _video(container: Any, stream: Any) -> Video:
    context = stream.codec_context
    stored = (context.width or 0, context.height or 0)
    aspect = context.sample_aspect_ratio or stream.sample_aspect_ratio
    ratio = float(aspect) if aspect and 0.1 <= aspect <= 10 else 1.0
    width, height = round(stored[0] * max(1, ratio)), round(stored[1] * max(1, 1 / ratio))
    if not width * height:
        raise MediaError("no video frames", "a video stream without a size")
    check_size(width, height)
    if _quarter_turns(container, stream) % 2:
        width, height = height, width
    rate = stream.average_rate
    container_name = container.format.name.split(",")[0]
    return Video(
        format="mp4" if container_name == "mov" else container_name,
        codec=context.codec.canonical_name if context.codec else "unknown",
        width=width,
        height=height,
        frame_rate=round(float(rate), 2) or None if rate else None,
        start_s=(container.start_time or 0) / 1e6,
        # To hundredths, half up: of all that a container says this is the least exact.
        duration_s=(container.duration + 5000) // 10000 / 100 or None if container.duration else None,
        transfer=TRANSFERS.get(int(context.color_trc or 0), ""),
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
    last, missed = -1.0, 0

    def attempts() -> Iterator[dict[str, Any]]:
        for plan in plans:
            if missed == MISSED_SEEKS:
                break
            yield plan
        if last < 0:  # whatever comes first: the duration may be wrong, or no frame be marked as key
            yield {}

    for plan in attempts():
        try:
            with FFmpeg(path, _arguments(video, **plan)) as run:
                missed += 1
                for stored, pixels in run.frames():
                    moment = max(0.0, stored - video.start_s)
                    if moment > last:
                        last, missed = moment, 0
                        yield moment, pixels
                complaint = run.complaint()
        except MediaError:
            if last < 0:
                raise
            return  # what was read before the trouble counts, as in a file that was cut off
    if last < 0:
        raise MediaError("no video frames", complaint)


def _plans(sampling: Sampling, video: Video, duration: float) -> Iterable[dict[str, Any]]:
    """Say with which arguments FFmpeg has to be run, one pass over all or one seek for each frame."""
    keyframes = sampling.kind == "keyframes"
    step = 1 / sampling.amount if sampling.kind == "rate" else duration / sampling.amount
    # The middle of each part, unless the parts are single frames.
    offset = step / 2 if sampling.kind == "even" and step > 2 / (video.frame_rate or 25) else 0.0
    count = int(duration / step + 1e-6) + (sampling.kind == "rate")
    if step > SEEK_GAP_S:
        return ({"seek": offset + number * step, "keyframes": keyframes} for number in range(count))
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
    stream = stream.filter("format", "rgb24").filter(TIMES, checksum=0)
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
    started = time.process_time()
    try:
        check_size(*image.size)
        wanted = None
        frames = getattr(image, "n_frames", 1)
        if sampling.kind != "rate" and frames > sampling.amount:
            wanted = {int((part + 0.5) * frames / sampling.amount) for part in range(int(sampling.amount))}
        clock, due = 0.0, 0.0
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            frame.load()  # before its duration is known
            if time.process_time() - started > ANIMATION_S:
                raise MediaError("too slow", f"{number + 1} frames in {ANIMATION_S:g} s of processor time")
            if number in wanted if wanted else clock >= due:
                due = (int(clock * sampling.amount) + 1) / sampling.amount if sampling.kind == "rate" else 0.0
                yield clock, decode(frame.copy()).pixels
                if wanted and number == max(wanted):
                    return
            clock += (frame.info.get("duration") or 100) / 1000  # browsers, too, show a frame of 0 for 100 ms
    except MediaError:
        raise
    except Exception as error:  # a decoder may raise anything on a mutilated file
        raise media_error(error) from error
