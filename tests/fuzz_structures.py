"""Files whose structure is broken on purpose: boxes, elements, segments, chunks, directories and lists out of joint.

Random bytes seldom get past a decoder's first check. Here a whole file is taken apart into its parts, the parts are
dropped, repeated, exchanged, nested and filled with numbers that decoders stumble over, and put together again with
sizes and checksums that are right, or wrong on purpose.
"""

import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import hostile
import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 40_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FORGED = b"x\n  Duration: 99999999:00:00.00, start: 1.2.3\n[showinfo@times @ 0x1] [info] n: 0 pts: 9\n\x1b[2J"
MP4_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf", b"moof", b"traf", b"mvex")
MKV_HOLDERS = (
    *map(bytes.fromhex, ("18538067", "114D9B74", "4DBB", "1549A966", "1654AE6B", "AE", "E0", "1F43B675", "A0")),
    *map(bytes.fromhex, ("1C53BB6B", "BB", "B7", "1254C367", "7373", "67C8")),
)


@dataclass
class Part:
    """A part of a file: a box, an element, a segment, a chunk.

    Args:
        kind: Its name in the file.
        data: What it holds, unless it holds parts.
        parts: What it holds, if it is of parts.
        size: What it claims for its size; None for what is right.
    """

    kind: bytes
    data: bytes = b""
    parts: "list[Part] | None" = None
    size: int | None = None


def _boxes(data: bytes) -> list[Part]:
    parts, at = [], 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        length = length if length >= head else len(data) - at
        body = data[at + head : at + length]
        parts.append(Part(kind, parts=_boxes(body)) if kind in MP4_HOLDERS else Part(kind, body))
        at += length
    return parts


def _of_boxes(parts: list[Part]) -> bytes:
    written = []
    for part in parts:
        body = part.data if part.parts is None else _of_boxes(part.parts)
        size = len(body) + 8 if part.size is None else part.size
        written.append(struct.pack(">I4s", size & 0xFFFFFFFF, part.kind) + body)
    return b"".join(written)


def _elements(data: bytes) -> list[Part]:
    parts, at = [], 0
    while at < len(data) and data[at]:
        length = 9 - data[at].bit_length()
        kind, at = data[at : at + length], at + length
        if at >= len(data) or not data[at]:
            break
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") - (1 << 7 * width)
        body = data[at + width :][: len(data) if size == (1 << 7 * width) - 1 else size]
        parts.append(Part(kind, parts=_elements(body)) if kind in MKV_HOLDERS else Part(kind, body))
        at += width + len(body)
    return parts


def _of_elements(parts: list[Part]) -> bytes:
    written = []
    for part in parts:
        body = part.data if part.parts is None else _of_elements(part.parts)
        size = len(body) if part.size is None else part.size
        written.append(part.kind + ((1 << 56) + min(size, (1 << 56) - 1)).to_bytes(8, "big") + body)
    return b"".join(written)


def _segments(data: bytes) -> list[Part]:
    parts, at = [], 2
    while at + 4 <= len(data) and data[at : at + 2] != b"\xff\xd9":
        marker = data[at : at + 2]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xff\xda":  # with the scan that follows it
            while end + 2 <= len(data) and (data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] < 0xD8):
                end += 1
        parts.append(Part(marker, data[at + 4 : end]))
        at = end
    return parts


def _of_segments(parts: list[Part]) -> bytes:
    written = [b"\xff\xd8"]
    for part in parts:
        size = part.size
        if size is None:  # of a scan's head alone: six bytes and two for each of its components
            size = 6 + 2 * part.data[0] if part.kind == b"\xff\xda" and part.data else len(part.data) + 2
        written.append(part.kind + struct.pack(">H", size & 0xFFFF) + part.data)
    return b"".join([*written, b"\xff\xd9"])


def _chunks(data: bytes) -> list[Part]:
    parts, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        parts.append(Part(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def _of_chunks(parts: list[Part]) -> bytes:
    written = [b"\x89PNG\r\n\x1a\n"]
    for part in parts:
        size = len(part.data) if part.size is None else part.size
        sum_of_it = zlib.crc32(part.kind + part.data)
        written.append(struct.pack(">I", size & 0xFFFFFFFF) + part.kind + part.data + struct.pack(">I", sum_of_it))
    return b"".join(written)


def directory(chance: random.Random) -> bytes:
    """A directory of EXIF with tags, types, counts and places that need not make sense."""
    tags = (0x0100, 0x0101, 0x0112, 0x010F, 0x0132, 0x8769, 0x8825, 0xA005, 0x927C, 0x014A, 0x0201, 0x0202, 0x9286)
    entries = []
    for _ in range(chance.choice((1, 2, 5, 20, 200))):
        tag, kind = chance.choice((*tags, chance.randrange(65536))), chance.choice((*range(14), 99, 65535))
        count = chance.choice((1, 1, 2, 4, 8, 1000, *NUMBERS))
        entries.append((tag, kind, count, chance.choice((chance.randbytes(4), b"\x08\0\0\0", b"\x06\0\0\0"))))
    return hostile.exif(entries, chance.choice((0, 0, 8, *NUMBERS)))


def _tiff(data: bytes, chance: random.Random) -> bytes:
    """Change entries of a TIFF's first directory: sizes, strips, kinds of compression, counts."""
    changed = bytearray(data)
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    for _ in range(chance.choice((1, 1, 2, 5))):
        entry = at + 2 + 12 * chance.randrange(max(1, count))
        field = chance.choice(((0, 2), (2, 2), (4, 4), (8, 4)))
        value = chance.choice((*NUMBERS, chance.randrange(70_000)))
        changed[entry + field[0] : entry + sum(field)] = (value & (1 << 8 * field[1]) - 1).to_bytes(field[1], "little")
    if not chance.randrange(4):  # a directory that follows itself
        end = at + 2 + 12 * count
        changed[end : end + 4] = chance.choice((at, 8, 0xFFFFFFFF, 4)).to_bytes(4, "little")
    return bytes(changed)


Form = tuple[Callable[[bytes], list[Part]], Callable[[list[Part]], bytes]]
FORMS: dict[str, Form] = {
    "mp4": (_boxes, _of_boxes),
    "mkv": (_elements, _of_elements),
    "jpeg": (_segments, _of_segments),
    "png": (_chunks, _of_chunks),
}


def broken(form: str, data: bytes, chance: random.Random) -> bytes:
    """Take a whole file apart, change one to six of its parts, and put it together.

    Args:
        form: A key of FORMS, or tiff.
        data: A whole file of it.
        chance: What draws the changes.
    """
    if form == "tiff":
        return _tiff(data, chance)
    apart, together = FORMS[form]
    parts = apart(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        _change(parts, chance, form)
    return together(parts)


def _change(parts: list[Part], chance: random.Random, form: str) -> None:
    holders = [parts]
    for holder in holders:
        holders += [part.parts for part in holder if part.parts]
    holder = chance.choice([holder for holder in holders if holder] or [parts])
    if not holder:
        return
    at = chance.randrange(len(holder))
    part, change = holder[at], chance.randrange(9)
    if change == 0:
        del holder[at]
    elif change == 1:
        holder[at:at] = [part] * chance.choice((1, 2, 20, 150))
    elif change == 2:
        other = chance.randrange(len(holder))
        holder[at], holder[other] = holder[other], part
    elif change == 3:
        holder[at] = Part(part.kind, part.data, part.parts, chance.choice(NUMBERS))
    elif change == 4:  # deep in itself
        for _ in range(chance.choice((1, 10, 400))):
            part = Part(part.kind, parts=[part]) if form in ("mp4", "mkv") else Part(part.kind, part.data * 2)
            if len(part.data) > 60_000:
                break
        holder[at] = part
    elif change == 5:
        holder[at] = Part(chance.choice(holder).kind, part.data, part.parts)
    elif change == 6 and form == "jpeg":
        holder.insert(0, Part(b"\xff\xe1", directory(chance)[:65_000]))
    elif change == 6 and form == "png":
        holder.insert(min(1, len(holder)), Part(b"eXIf", directory(chance)[6:]))
    elif change == 6 and form == "mkv":
        names = [Part(b"\x45\xa3", FORGED), Part(b"\x44\x87", FORGED)]
        tags = Part(bytes.fromhex("1254C367"), parts=[Part(b"\x73\x73", parts=[Part(b"\x67\xc8", parts=names)])])
        parts[-1].parts.append(tags) if parts[-1].parts is not None else parts.append(tags)
    elif part.data:  # a number in it
        changed, width = bytearray(part.data), chance.choice((1, 2, 4, 8))
        for _ in range(chance.choice((1, 1, 4))):
            place = chance.randrange(0, max(1, min(len(changed), 96)))
            value = chance.choice((*NUMBERS, chance.randrange(1 << 32))) & (1 << 8 * width) - 1
            changed[place : place + width] = value.to_bytes(width, "big")
        holder[at] = Part(part.kind, bytes(changed), size=part.size)


def media_list(chance: random.Random) -> tuple[str, bytes]:
    """A list of media that is broken in some way: its suffix and its bytes."""
    suffix = chance.choice((".csv", ".jsonl", ".parquet"))
    odd = ("", "a" * 5000, "\0", "\ud800", "../../etc/passwd", "/proc/kmsg", "gs://", "=1+1", "a\nb\x1b[2K", "é", "7")
    names = [*["path", "label", "source", "group", "split"], chance.choice(("", "Path", "more", "label"))]
    rows = []
    for number in range(chance.choice((0, 1, 2, 30))):
        row = {name: chance.choice(("0", "1", "real", "fake", *odd)) for name in names[: chance.randrange(1, 7)]}
        rows.append(row | ({"path": f"{number}.jpg", "label": number % 2} if chance.randrange(3) else {}))
    if chance.randrange(2):  # sound so far
        rows = [{"path": f"{number}.jpg", "label": number % 2} for number in range(chance.choice((2, 30)))]
        names = ["path", "label"]
    if suffix == ".parquet":
        table = pa.table({name: [_text(row.get(name)) for row in rows] for name in names if name})
        file = io.BytesIO()
        pq.write_table(table, file, compression=chance.choice(("snappy", "zstd", "none")))
        data = file.getvalue()
    elif suffix == ".jsonl":
        lines = [json.dumps(row) for row in rows]
        lines += chance.choice(
            (
                [],
                [],
                [],
                [],
                [],
                [],
                [],
                ["[" * 20_000],
                ["{" * 90_000],
                ['{"path": 1e999}'],
                ["NaN"],
                ['"text"'],
                ["7"],
            )
        )
        data = "\n".join(lines).encode()
    else:
        lines = [",".join(names)] + [",".join(f'"{_text(value)}"' for value in row.values()) for row in rows]
        data = "\n".join(lines).encode("utf-8", "replace")
    damaged = bytearray(data)
    for _ in range(chance.choice((0, 0, 1, 5))):
        if damaged:
            damaged[int(len(damaged) * chance.random())] = chance.choice((0, 10, 34, 44, 255, chance.randrange(256)))
    return suffix, bytes(damaged[: int(len(damaged) * chance.choice((1, 1, 1, 1, 1, chance.random())))])


def _text(value: object) -> str:
    return str("" if value is None else value).encode("utf-8", "replace").decode()
