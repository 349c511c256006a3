"""A tiny dataset that a network learns in an epoch: noise is real, and the same with stripes is fake."""

from pathlib import Path

import numpy as np

from components.dataset import DatasetWriter

SIZE, VIEWS = 32, 2


def write_dataset(directory: Path, labels=(0, 1), rows: int = 24) -> Path:
    """Write it; two thirds of the rows are for training, the others for validation."""
    rng = np.random.default_rng(0)
    stripes = 80 * (np.arange(SIZE) // 2 % 2)[None, :, None]
    with DatasetWriter(directory, (VIEWS, SIZE, SIZE, 3)) as writer:
        for number in range(rows):
            label = labels[number % len(labels)]
            views = rng.normal(90, 10, (VIEWS, 1, 1, 3)) + rng.normal(0, 6, (VIEWS, SIZE, SIZE, 3)) + label * stripes
            split = "train" if number < rows * 2 // 3 else "validation"
            name = f"{number}.png"
            row = {"path": name, "pixel_sha256": name, "group": name, "kind": "picture", "source": "made"}
            writer.append(views.clip(0, 255).astype("uint8"), row | {"label": label, "split": split, "weight": 1.0})
        writer.card.update(view=f"crops{SIZE}x{VIEWS}", sampling="even:8", delivery="as-is", note="made in a test")
    return directory
