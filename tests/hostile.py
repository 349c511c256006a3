"""Media that attack their reader, made by code: the smallest that show each way, and parts to make others from."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def progressive_jpeg(width: int, height: int, repeats: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: each repetition is a few bytes and a pass over all pixels."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 40)).save(file, "JPEG", progressive=True, quality=80)
    data = file.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * repeats + b"\xff\xd9"


def jpeg_with_segments(count: int, size: int = 65_533) -> bytes:
    """A JPEG with many EXIF segments before its picture, which decoders join."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "gray").save(file, "JPEG")
    data = file.getvalue()
    body = b"Exif\0\0" + bytes(size - 8)
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    return data[:2] + segment * count + data[2:]


def gif(width: int, height: int, frames: int) -> bytes:
    """An animated GIF that is large on the screen and small on the disk: every frame draws one pixel of it."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes((0, 0, 0, 255, 255, 255))
    control = b"\x21\xf9\x04\x08\x05\x00\x00\x00"  # restores the background after each frame
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + (control + image) * frames + b"\x3b"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A black PNG of any size: a thousandth of its pixels on the disk."""
    row = 1 + (width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] + 7) // 8
    squeezed = zlib.compressobj(9)
    rows = bytes(row * max(1, 1_000_000 // row))
    data, left = [], row * height
    while left > 0:
        data.append(squeezed.compress(rows[: min(left, len(rows))]))
        left -= len(rows)
    data.append(squeezed.flush())
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    palette = _chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    end = _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + palette + _chunk(b"IDAT", b"".join(data)) + end


def tiff(width: int, height: int, dtype: type) -> bytes:
    """A gray TIFF, compressed."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), dtype)).save(file, "TIFF", compression="tiff_adobe_deflate")
    return file.getvalue()


def exif(entries: list[tuple[int, int, int, bytes]], following: int = 0) -> bytes:
    """A directory of EXIF.

    Args:
        entries: Of each its tag, type, count and the four bytes of its value or of where that is.
        following: Where the next directory is.
    """
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)
