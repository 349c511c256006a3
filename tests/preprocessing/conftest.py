"""Small frames datasets, written as extraction writes them."""

import hashlib
from itertools import count
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from components.dataset import DatasetWriter
from components.media.pictures import perceptual_hash, thumbnail

SIZE = 32
POLICIES = {"view": "resize32", "sampling": "even:2", "delivery": "as-is"}


def sha(value: bytes | str) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()


def picture(seed: int) -> np.ndarray:
    """A smooth random picture: no two are alike, none is blank."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.float32)
    return np.kron(coarse, np.ones((SIZE // 4, SIZE // 4, 1), dtype=np.float32)).astype(np.uint8)


def scene(seed: int, size: int = 160, fall: float = 1.2) -> np.ndarray:
    """A picture with about the 1/f spectrum of natural ones; a larger `fall` is smoother."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
    noise = np.fft.rfft2(random.normal(size=(3, size, size)) + random.normal(size=(size, size)))
    waves = np.fft.irfft2(noise / frequency**fall, s=(size, size)).transpose(1, 2, 0)
    return np.clip(128 + 50 * (waves - waves.mean()) / waves.std(), 0, 255).astype(np.uint8)


def row(name: str, label: int, pixels: np.ndarray, **changes) -> tuple[np.ndarray, dict]:
    """One row as extraction makes it, its views and its manifest entry."""
    content = changes.pop("content", name)
    entry = dict(
        content_sha256=sha(content),
        pixel_sha256=sha(pixels.tobytes()),
        path=name,
        label=label,
        kind="picture",
        source="camera" if label == 0 else "generator",
        group=name,
        width=SIZE,
        height=SIZE,
        format="PNG",
        bytes=1000,
        codec="",
        has_exif=False,
        perceptual_hash=perceptual_hash(thumbnail(pixels)),
        thumbnail=thumbnail(pixels).tobytes(),
        weight=1.0,
        split="",
    )
    views = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[None]
    return views, entry | changes


def media(files: int = 20) -> list[tuple[np.ndarray, dict]]:
    """Pictures of both labels, one in four a video of two frames."""
    rows = []
    for number in range(files):
        label = number % 2
        if number % 8 < 2:
            for frame in range(2):
                pixels = picture(1000 * number + frame)
                rows.append(row(f"{number:03}.mp4", label, pixels, kind="frame", time_s=float(frame), codec="h264"))
        else:
            rows.append(row(f"{number:03}.png", label, picture(number)))
    return rows


def write(directory, rows, rejections=(), **card):
    with DatasetWriter(directory, (1, SIZE, SIZE, 3)) as writer:
        writer.card = POLICIES | card
        for views, entry in rows:
            writer.append(views, entry)
        for path, reason in rejections:
            writer.reject(path, 0, "camera", reason, "as found")
    return directory


@pytest.fixture
def data(tmp_path):
    """What makes small frames datasets: `media`, `row`, `picture`, and `frames`, which writes rows as one dataset."""
    made = count()
    return SimpleNamespace(
        media=media,
        row=row,
        picture=picture,
        scene=scene,
        frames=lambda rows, rejections=(), **card: write(tmp_path / f"frames{next(made)}", rows, rejections, **card),
    )
