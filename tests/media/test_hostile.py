"""Files that attack their reader with the smallest input that shows each way: time, memory, names."""

import io
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from PIL import Image

from components.media.pictures import MAX_EXIF_SEGMENTS, MAX_SCANS, MediaError, open_image, read_picture
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views
from components.media.workers import Limits, Workers

POLICIES = (ViewPolicy.parse("resize96"), Sampling.parse("even:3"), Delivery.parse("as-is"))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def impatient():
    """A pool that gives each file one second of its processor, so that small attacks show."""
    with Workers(1, Limits(processor_seconds=1)) as pool:
        yield pool


def test_repeated_scans_are_counted_before_any_is_decoded(tmp_path, impatient):
    path = tmp_path / "a.jpg"
    path.write_bytes(hostile.progressive_jpeg(64, 64, 5))
    assert read_picture(path).pixels.shape == (64, 64, 3)
    path.write_bytes(hostile.progressive_jpeg(64, 64, MAX_SCANS))
    with pytest.raises(MediaError, match=r"too large: 1\d\d scans, at most 100"):
        read_picture(path)
    path.write_bytes(hostile.progressive_jpeg(8000, 8000, MAX_SCANS - 20))
    with pytest.raises(MediaError, match="too slow: its decoder took more than 1 s of processor time"):
        list(impatient.read(read_views, path, *POLICIES))


def test_segments_of_exif_are_counted_before_any_is_joined(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(hostile.jpeg_with_segments(2))
    assert read_picture(path).pixels.shape == (16, 16, 3)
    path.write_bytes(hostile.jpeg_with_segments(600, 100))
    with pytest.raises(MediaError, match=f"too large: more than {MAX_EXIF_SEGMENTS} segments of EXIF"):
        open_image(path)


@pytest.mark.parametrize(("side", "reason"), [(3000, "too slow"), (8000, "too (large|slow)")])
def test_a_gif_of_huge_frames_is_given_up(tmp_path, impatient, side, reason):
    path = tmp_path / "a.gif"
    path.write_bytes(hostile.gif(side, side, 1000))
    assert path.stat().st_size < 25_000
    with pytest.raises(MediaError, match=reason):
        list(impatient.read(read_views, path, *POLICIES))


@pytest.mark.parametrize("kind", ["pipe", "socket", "zero", "kmsg", "directory"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, impatient, kind):
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    else:
        path.symlink_to({"zero": "/dev/zero", "kmsg": "/proc/kmsg", "directory": tmp_path}[kind])
    with pytest.raises(MediaError, match=r"not media: no regular file|empty: zero bytes|missing"):
        list(impatient.read(read_views, path, *POLICIES))


EXIF = {
    "orientation as text": [(0x0112, 2, 4, b"six\0")],
    "orientation as a fraction": [(0x0112, 5, 1, b"\x08\0\0\0")],
    "orientation as two floats": [(0x0112, 12, 2, b"\0\0\0\0")],
    "maker as number": [(0x010F, 3, 1, b"\x07\0\0\0")],
    "far more than there is": [(0x0112, 3, 0xFFFFFFFF, b"\x06\0\0\0")],
    "directory that is text": [(0x8769, 2, 4, b"none")],
    "directory in itself": [(0x8769, 4, 1, b"\x08\0\0\0")],
    "type that is none": [(0x0112, 99, 1, b"\x06\0\0\0"), (0x927C, 7, 9, b"\xff\xff\xff\x7f")],
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, of each odd tag
@pytest.mark.parametrize("odd", [*EXIF, "next is itself", "short", "noise"])
def test_odd_exif_rejects_no_good_picture(tmp_path, odd):
    data = {
        "next is itself": hostile.exif([(0x010F, 2, 4, b"abc\0")], following=8),
        "short": b"Exif\0\0II*",
        "noise": b"Exif\0\0" + bytes(range(256)),
    }.get(odd) or hostile.exif(EXIF[odd])
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg", exif=data)
    ((views, about),) = read_views(tmp_path / "a.jpg", *POLICIES)
    assert views.shape == (1, 96, 96, 3)
    assert about["pixel_sha256"]


MEASURE = """
import resource, sys
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views
from components.media.workers import Workers
policies = ViewPolicy.parse("both224x2"), Sampling.parse("even:3"), Delivery.parse("common")
with Workers(1) as workers:
    try:
        came = str(len(list(workers.read(read_views, sys.argv[1], *policies))))
    except MediaError as error:
        came = str(error)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, came)
"""


def _jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (width, height)).save(file, "JPEG", progressive=True)
    return file.getvalue()


LARGE = {
    "a photograph's": lambda: hostile.png(8000, 8000),
    "one pixel wide": lambda: hostile.png(1, 60_000_000),
    "16 bits and transparency": lambda: hostile.png(8000, 8000, bits=16, colour=6),
    "floats": lambda: hostile.tiff(8000, 8000, "float32"),
    "a palette": lambda: hostile.png(8000, 8000, colour=3),
    "CMYK in progressive scans": lambda: _jpeg(8000, 8000),
}


@pytest.mark.servers  # seconds each
@pytest.mark.parametrize("name", LARGE)
def test_the_memory_of_one_picture_is_bounded(tmp_path, name):
    path = tmp_path / "large"
    path.write_bytes(LARGE[name]())
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True)
    megabytes, _, came = done.stdout.strip().partition(" ")
    print(f"{name}: {path.stat().st_size:,} bytes, peak {megabytes} MB, {came}")
    assert int(megabytes) <= 600
    assert came == "1" or came.startswith("too large")
    assert came == "1" or name != "a photograph's"
