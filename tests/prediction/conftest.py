"""A detector that sees brightness alone, and media of every kind that it is asked about."""

import subprocess

import numpy as np
import pytest
from brightness import write_detector
from PIL import Image, PngImagePlugin

from components.media.ffmpeg import ffmpeg_executable

SIZE = 48
BAND = {"low": 0.2, "high": 0.8, "false_positive_rate": 0.05, "false_negative_rate": 0.05}


@pytest.fixture(scope="session")
def brightness_detector(tmp_path_factory):
    """Sees brightness alone: 130 is undecided, 200 fake, 60 real."""
    card = {"view": f"resize{SIZE}", "sampling": "even:4", "abstention": BAND, "mlflow_run": "r1"}
    card |= {"revision": {"commit": "c0ffee", "branch": "main", "dirty": False}, "data_version": "da7a"}
    return write_detector(tmp_path_factory.mktemp("models") / "detector", size=SIZE, card=card, export=True)


@pytest.fixture(scope="session")
def asked_media(tmp_path_factory):
    """Pictures dark, bright and gray; a clip half black, half white; a broken file; one with a generator's settings."""
    place = tmp_path_factory.mktemp("asked")
    for name, level in (("dark", 60), ("bright", 200), ("gray", 135)):
        Image.fromarray(np.full((60, 80, 3), level, np.uint8)).save(place / f"{name}.png")
    settings = PngImagePlugin.PngInfo()
    settings.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7")
    Image.fromarray(np.full((60, 80, 3), 210, np.uint8)).save(place / "generated.png", pnginfo=settings)
    source = "color=black:s=64x64:r=8:d=1[a];color=white:s=64x64:r=8:d=1[b];[a][b]concat"
    command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-metadata", "comment=Made with AI", place / "clip.mp4"], check=True)
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return place
