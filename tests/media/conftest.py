"""Tiny pictures and clips."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.media.ffmpeg import ffmpeg_executable


@pytest.fixture(scope="session")
def quarters() -> np.ndarray:
    """A picture of 96 x 64 whose quarters are red, green, blue and yellow, from the top left, row by row."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48], pixels[:32, 48:] = (220, 30, 30), (30, 200, 30)
    pixels[32:, :48], pixels[32:, 48:] = (30, 30, 220), (210, 200, 40)
    return pixels


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Callable[..., Path]:
    """A maker of clips, kept by name for the session: the name, then FFmpeg's arguments.

    With no input among the arguments, the clip shows the moving test picture of 160 x 96, 25 frames a second, 2 s.
    """
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, *arguments: str | Path) -> Path:
        path = folder / name
        if not path.exists():
            source = [] if "-i" in arguments else ["-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=2"]
            command = [ffmpeg_executable(), "-v", "error", "-nostdin", *source, *arguments, path]
            subprocess.run([str(text) for text in command], check=True, timeout=120)
        return path

    return make


@pytest.fixture(scope="session")
def h264(clip) -> Path:
    """An ordinary MP4 with H.264."""
    return clip("h264.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture
def photo(tmp_path) -> Path:
    """A JPEG of 640 x 480 with detail everywhere."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480))
    coarse.save(tmp_path / "photo.jpg", quality=90)
    return tmp_path / "photo.jpg"
