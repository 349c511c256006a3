"""Small datasets and detectors, made in the tests."""

import hashlib

import numpy as np
import pytest
from brightness import SIZE, write_detector

from components.dataset import DatasetWriter


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


def write_files_dataset(directory, view, *, size, pairs=12):
    """Write plain pictures, fakes brighter, to files and into a dataset."""
    from PIL import Image

    from components.media.videos import Sampling
    from components.media.view import ViewPolicy, read_views

    random = np.random.default_rng(5)
    with DatasetWriter(directory / "dataset", (1, size, size, 3)) as writer:
        writer.card |= {"view": view, "sampling": "even:8", "delivery": "as-is"}
        for number in range(2 * pairs):
            label = number % 2
            pixels = np.clip(random.normal(random.normal(110 + 40 * label, 25), 12, (64, 80, 3)), 0, 255)
            path = directory / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            for views, row in read_views(path, ViewPolicy.parse(view), Sampling()):
                about = dict(path=str(path), label=label, source="ab"[label], group=str(number), split="test")
                writer.append(views, {**row, **about})
    return directory / "dataset"


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory):
    return lambda **options: write_dataset(tmp_path_factory.mktemp("data") / "dataset", **options)


@pytest.fixture(scope="session")
def make_files_dataset(tmp_path_factory):
    return lambda view, **options: write_files_dataset(tmp_path_factory.mktemp("files"), view, **options)


@pytest.fixture(scope="session")
def make_detector(tmp_path_factory):
    return lambda **options: write_detector(tmp_path_factory.mktemp("models") / "brightness", **options)


@pytest.fixture(scope="session")
def dataset(make_dataset):
    return make_dataset()


@pytest.fixture(scope="session")
def detector(make_detector):
    return make_detector()
