"""Small datasets and detectors, made in the tests."""

import hashlib

import numpy as np
import pytest

from components import detector as detectors
from components.dataset import DatasetWriter

SIZE = 16


def write_dataset(directory, *, per_label=30, clips=4, frames=3, seed=0, card=None, splits=("test",)):
    """Write noise pictures and clips; fakes are brighter, by less than the noise of the brightness."""
    random = np.random.default_rng(seed)
    with DatasetWriter(directory, (1, SIZE, SIZE, 3)) as writer:
        writer.card |= {"view": f"resize{SIZE}", "sampling": f"even:{frames}", "delivery": "as-is", **(card or {})}
        for split in splits:
            for number in range(2 * (per_label + clips)):
                label, clip = number % 2, number >= 2 * per_label
                level = random.normal(110 + 40 * label, 25)
                name = f"{split}/{('real', 'fake')[label]}/{number:03d}.{'mp4' if clip else 'png'}"
                source = (("camera", "phone"), ("alpha", "beta"))[label][number // 2 % 2]
                for frame in range(frames if clip else 1):
                    pixels = np.clip(random.normal(level, 12, (1, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
                    row = dict(
                        content_sha256=hashlib.sha256(name.encode()).hexdigest(),
                        pixel_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
                        path=name,
                        label=label,
                        kind="frame" if clip else "picture",
                        source=source,
                        group=f"g{number // 4}-{label}" if not clip else name,
                        time_s=float(frame) if clip else None,
                        width=400 + 300 * (number % 3),
                        height=600,
                        format="mp4" if clip else "PNG",
                        weight=1.0,
                        split=split,
                    )
                    writer.append(pixels, row)
    return directory


def write_detector(directory, *, slope=0.06, centre=130.0, card=None):
    """Save a detector that looks at the brightness alone: logit = slope * (mean - centre)."""
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.GlobalAveragePooling2D()(inputs)
    top = keras.layers.Dense(1)
    model = keras.Model(inputs, top(features))
    top.set_weights([np.full((3, 1), slope / 3, "float32"), np.array([-slope * centre], "float32")])
    detectors.save(
        directory,
        model,
        {"view": f"resize{SIZE}", "sampling": "even:3", "delivery": "as-is", "threshold": 0.5, **(card or {})},
    )
    return directory


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory):
    return lambda **options: write_dataset(tmp_path_factory.mktemp("data") / "dataset", **options)


@pytest.fixture(scope="session")
def make_detector(tmp_path_factory):
    return lambda **options: write_detector(tmp_path_factory.mktemp("models") / "brightness", **options)


@pytest.fixture(scope="session")
def dataset(make_dataset):
    return make_dataset()


@pytest.fixture(scope="session")
def detector(make_detector):
    return make_detector()
