"""From a picture file to pixels: upright, sRGB, 8 bits, decoded by what is in the file, not by its name."""

import contextlib
import fcntl
import functools
import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

# Formats whose decoders run in this process. EPS, for one, would start Ghostscript on a stranger's program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
# Of what is decoded, at 7 bytes a pixel: Pillow's 4 and the array's 3. A JPEG for a resized view, which is decoded at a
# reduced scale, may be four times larger, where Pillow's own limit stands.
MAX_PIXELS = 64_000_000
# Of a side: JPEG's own limit. Pillow keeps two pointers for each row, more than the pixels of a narrow picture.
MAX_SIDE = 65_535
# Of a progressive JPEG, whose coefficients are held as a whole besides the pixels: bytes of them.
MAX_COEFFICIENTS = 256 * 1024 * 1024
# Of a progressive JPEG, each a pass over all of its coefficients; encoders make about ten.
MAX_SCANS = 100
# Segments of EXIF in a JPEG, whose 64 KiB hold all that cameras write: Pillow copies all before for each further one.
MAX_EXIF_SEGMENTS = 16
# Pictures above this are decoded one at a time, whatever the number of threads or processes.
LARGE_PIXELS = 16_000_000
STRIP_ROWS = 256  # what is converted at a time, so that no second copy of all pixels is made


class RecordLock:
    """A lock between processes that share a file: whoever dies gives it back.

    Args:
        descriptor: Of the file, opened for writing.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


large_lock: contextlib.AbstractContextManager = threading.RLock()  # between threads; see `workers` for processes

pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS  # it warns above, and refuses above twice that
warnings.filterwarnings("ignore", module="PIL")


class MediaError(Exception):
    """A file that gives no pixels.

    Args:
        reason: Short, to count by: "empty", "missing", "not media", "truncated", "too large", "no video frames",
            "too slow", "unreadable".
        detail: What the decoder said.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        pixels: uint8, (height, width, 3), RGB in sRGB, upright; smaller than the original where it was read so.
        metadata: The manifest's columns about the file: width, height, format, jpeg_quality, has_exif.
    """

    pixels: np.ndarray
    metadata: dict[str, Any]


def open_image(path: str | Path) -> Image.Image | None:
    """Open a file as a picture without decoding it; None if its content is of none of FORMATS."""
    try:
        _check_segments(path)
        return Image.open(path, formats=FORMATS)
    except MediaError:
        raise
    except UnidentifiedImageError:
        return None
    except FileNotFoundError as error:
        raise MediaError("missing", error.strerror or "") from error
    except Exception as error:  # a decoder may raise anything on a mutilated file
        raise media_error(error) from error


def _check_segments(path: str | Path) -> None:
    with open(path, "rb") as file:
        exif, marker = 0, file.read(2)
        if marker != b"\xff\xd8":
            return
        while marker != b"\xff\xda" and len(head := file.read(10)) == 10 and head[0] == 0xFF:
            marker, length = head[:2], int.from_bytes(head[2:4], "big")
            exif += marker == b"\xff\xe1" and head[4:] == b"Exif\0\0"
            if exif > MAX_EXIF_SEGMENTS:
                raise MediaError("too large", f"more than {MAX_EXIF_SEGMENTS} segments of EXIF")
            file.seek(length - 8, io.SEEK_CUR)


def is_animation(image: Image.Image) -> bool:
    """Say whether an opened image is a film: an animated GIF, WebP, PNG or AVIF."""
    try:
        return image.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(image, "n_frames", 1) > 1
    except Exception as error:  # a GIF is walked through to count
        raise media_error(error) from error


def read_picture(path: str | Path, at_least: int | None = None) -> Picture:
    """Decode a picture.

    Args:
        path: The file.
        at_least: Length in pixels that the shorter side must keep. A JPEG several times larger is decoded at a
            reduced scale of its DCT, at least twice this length, which is what makes it fast; None decodes all.

    Returns:
        The picture, upright and in sRGB.

    Raises:
        MediaError: The file is no picture, or not a whole one, or too large.
    """
    image = open_image(path)
    if image is None:
        raise MediaError("not media", "no known picture format")
    with contextlib.closing(image):
        return decode(image, at_least)


def decode(image: Image.Image, at_least: int | None = None) -> Picture:
    """Decode an opened image; see `read_picture`."""
    try:
        size = image.size
        if at_least and image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * at_least, 2 * at_least))
        check_size(*image.size)
        _check_coefficients(image, size)
        with one_at_a_time(*image.size):
            image.load()
            return Picture(rgb_pixels(image), describe(image, size))
    except MediaError:
        raise
    except Exception as error:  # a decoder may raise anything on a mutilated file
        raise media_error(error) from error


def one_at_a_time(width: int, height: int) -> contextlib.AbstractContextManager:
    """Return the lock under which a picture of some size is to be worked on: that of large ones, or none."""
    return large_lock if width * height > LARGE_PIXELS else contextlib.nullcontext()


def check_size(width: int, height: int) -> None:
    """Refuse a picture that would unfold to more than MAX_PIXELS, or to none, or is longer than MAX_SIDE."""
    if not 0 < width * height <= MAX_PIXELS:
        raise MediaError("too large", f"{width} x {height} pixels, at most {MAX_PIXELS:,}")
    if max(width, height) > MAX_SIDE:
        raise MediaError("too large", f"{width} x {height} pixels, a side has at most {MAX_SIDE:,}")


def _check_coefficients(image: Image.Image, size: tuple[int, int]) -> None:
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info.get("progressive"):
        layers = getattr(image, "layer", None) or [(0, 1, 1)] * 3
        whole = max(across * down for _, across, down, *_ in layers)
        blocks = sum(across * down for _, across, down, *_ in layers) / max(1, whole)
        if 2 * blocks * size[0] * size[1] > MAX_COEFFICIENTS:
            raise MediaError("too large", f"{size[0]} x {size[1]} pixels in progressive scans")
        scans = _occurrences(getattr(image, "filename", ""), b"\xff\xda")  # within a scan every 255 is followed by a 0
        if scans > MAX_SCANS:
            raise MediaError("too large", f"{scans:,} scans, at most {MAX_SCANS}")


def _occurrences(path: str | bytes, pair: bytes) -> int:
    count, last = 0, b""
    with open(path, "rb") as file:
        while part := file.read(1024 * 1024):
            count += (last + part).count(pair)
            last = part[-1:]
    return count


def media_error(error: Exception) -> MediaError:
    """Name the reason of a decoder's exception."""
    detail = f"{type(error).__name__}: {error}".splitlines()[0]
    words = detail.lower()
    if "truncated" in words or "eof" in words or "not enough" in words or "incomplete" in words:
        return MediaError("truncated", detail)
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return MediaError("too large", detail)
    return MediaError("unreadable", detail)


def describe(image: Image.Image, size: tuple[int, int]) -> dict[str, Any]:
    """Return the manifest's columns about a decoded image whose stored size, (width, height), was `size`."""
    upright = size[::-1] if orientation(image) in (5, 6, 7, 8) else size
    return {
        "width": upright[0],
        "height": upright[1],
        "format": image.format,
        "jpeg_quality": jpeg_quality(getattr(image, "quantization", None)),
        "has_exif": _has_exif(image),
    }


def orientation(image: Image.Image) -> int:
    """Return how EXIF says that an image is stored, 1 (upright) to 8; 1 where it says nothing that can be read."""
    try:
        stored = image.getexif().get(0x0112, 1)
        return int(stored) if stored in range(1, 9) else 1
    except Exception:  # a picture is good whatever its metadata: tags of odd types and counts raise anything
        return 1


def _has_exif(image: Image.Image) -> bool:
    try:
        return bool(image.getexif())
    except Exception:
        return bool(image.info.get("exif"))


# The luminance table of the JPEG standard (ITU-T T.81, table K.1), which the IJG's quality scales, in natural order.
_LUMINANCE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


def jpeg_quality(tables: dict[int, Any] | None) -> float | None:
    """Estimate the IJG quality, 1 to 100, from quantisation tables; None without any."""
    if not tables:
        return None
    table = np.asarray(tables[min(tables)], dtype=float)
    # Cells that reached the ends of 1..255 say nothing about the scale.
    inside = (table > 1) & (table < 255)
    if not inside.any():
        return 100.0 if table.mean() <= 1 else 1.0
    scale = float(np.mean(100 * table[inside] / _LUMINANCE[inside]))
    return float(round(min(100, max(1, (200 - scale) / 2 if scale <= 100 else 5000 / scale))))


# From an array that lies upright to the view of it that lies as the image is stored, by EXIF's orientation.
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Bring a decoded image of any mode to upright sRGB pixels, uint8, (height, width, 3); transparency lies on white.

    Strip by strip, for every step works on each pixel alone: the memory is that of the image and of the result.
    """
    how, profile = orientation(image), image.info.get("icc_profile")
    scale = _scale_of_floats(image) if image.mode.startswith("F") else 1.0
    shape = (image.height, image.width, 3) if how < 5 else (image.width, image.height, 3)
    pixels = np.empty(shape, np.uint8)
    stored = _STORED[how](pixels)
    for top in range(0, image.height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, image.height)
        stored[top:bottom] = _rgb_strip(image.crop((0, top, image.width, bottom)), profile, scale)
    return pixels


def _rgb_strip(strip: Image.Image, profile: bytes | None, scale: float) -> Image.Image:
    if strip.mode.startswith(("I", "F")):
        strip = Image.fromarray(_eight_bits(np.asarray(strip), scale))
    if strip.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in strip.info:
        strip = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        strip = Image.alpha_composite(white, strip).convert("RGB")
    elif strip.mode not in ("RGB", "CMYK"):
        strip = strip.convert("RGB")
    if profile:
        strip = _to_srgb(strip, profile)
    return strip if strip.mode == "RGB" else strip.convert("RGB")


def _scale_of_floats(image: Image.Image) -> float:
    # Floats are in [0, 1] or in gray levels, which only the whole picture shows.
    tops = range(0, image.height, STRIP_ROWS)
    strips = (image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))) for top in tops)
    return 255.0 if max(np.nanmax(np.asarray(strip), initial=0) for strip in strips) <= 1 else 1.0


def _eight_bits(values: np.ndarray, scale: float) -> np.ndarray:
    """Bring 16-bit, 32-bit and float gray to uint8 by the range that its type implies."""
    if values.dtype.kind == "f":
        return (np.nan_to_num(values) * scale).clip(0, 255).astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        return ImageCms.applyTransform(image, _transform(profile, image.mode)) or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken or foreign profile is ignored, as every viewer does


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Shrink pixels, uint8, (height, width, 3), to gray, uint8, (32, 32): the area average of all of the picture."""
    return cv2.cvtColor(cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def perceptual_hash(gray: np.ndarray) -> int:
    """Return the 64-bit DCT hash of a thumbnail.

    The signs, about their median, of the 8 x 8 lowest frequencies (Zauner 2010, as in imagehash.phash), by OpenCV.

    Args:
        gray: uint8, (32, 32), from `thumbnail`.

    Returns:
        An integer in [0, 2**64); similar pictures differ in few bits.
    """
    low = cv2.dct(gray.astype(np.float32))[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
