"""Tiny real media, made for a test."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.local import sample


def write_pictures(folder: Path, count: int, process, seed: int) -> None:
    """Write small JPEG pictures of random scenes, each passed through one camera or generator of the sample set."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = process(sample.scene(rng, 48), rng)
        Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=92)
