"""From files to pixels: the media room against the plain ways of doing the same."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from clips import write_clip
from PIL import Image
from timing import fastest, speed_row

from components.dataset import Dataset, DatasetWriter
from components.media.ffmpeg import ffmpeg_executable
from components.media.pictures import read_picture
from components.media.videos import Sampling, read_frames
from components.media.view import ViewPolicy

VIEW = ViewPolicy.parse("resize256")


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure; `media` is not needed, all files are made under `work`."""
    clips = [write_clip(work / "720p.mp4", "1280x720", 60), write_clip(work / "1080p.mp4", "1920x1080", 20)]
    yield from _frames(clips, work)
    yield _large_jpeg(work)
    yield _epoch(work)


def _plain_view(image: Image.Image) -> np.ndarray:
    """Pillow's own convert and resize, on the same square of the picture."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.asarray(image.convert("RGB").resize((256, 256), box=(left, top, left + side, top + side)))


def _frames(clips: list[Path], work: Path) -> Iterator[dict]:
    def plain() -> np.ndarray:
        views = []
        for clip in clips:
            folder = work / f"{clip.stem} frames"
            folder.mkdir(exist_ok=True)
            command = [ffmpeg_executable(), "-v", "error", "-y", "-i", clip, "-vf", "fps=1:round=up"]
            subprocess.run([*command, folder / "%04d.png"], check=True)
            views += [_plain_view(Image.open(file)) for file in sorted(folder.iterdir())]
        return np.stack(views)

    def ours(sampling: str) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            found = (pixels for clip in clips for _, pixels in read_frames(clip, Sampling.parse(sampling)))
            return np.concatenate([VIEW.views(pixels) for pixels in found])

        return run

    (plain_s, expected), (rate_s, rate), (key_s, key) = fastest(plain, ours("rate:1"), ours("keyframes:64"), times=2)
    difference = np.abs(expected[: len(rate)].astype(int) - rate).mean()
    if len(expected) - len(rate) > 2 or difference > 2:
        raise AssertionError(f"{len(expected)} and {len(rate)} frames, which differ by {difference:.2f}")
    baseline = "ffmpeg fps=1 to PNG files, Pillow resize"
    what = f"{len(rate)} frames of 60 s 720p and 20 s 1080p, differing by {difference:.2f} gray levels"
    yield speed_row("frames, same timestamps", baseline, plain_s, rate_s, what, 1.5)
    for clip in clips:  # a key frame is what decoding everything gives at its time
        keys = dict(read_frames(clip, Sampling.parse("keyframes:64")))
        for moment, pixels in read_frames(clip, Sampling.parse("rate:25")):
            if not np.array_equal(keys.pop(moment, pixels), pixels):
                raise AssertionError(f"the key frame at {moment} s differs from that of a whole decoding")
        if keys:
            raise AssertionError(f"no frames at {sorted(keys)}")
    yield speed_row("frames, keyframes policy", baseline, plain_s, key_s, f"{len(key)} key frames", 8)


def _large_jpeg(work: Path) -> dict:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8)).resize((4000, 3000))
    grain = rng.normal(0, 3, (3000, 4000, 1))
    # About 2.6 MB, as phones write; of larger files more of the time goes into their bits, which any decoder must read.
    Image.fromarray(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8)).save(work / "12mp.jpg", quality=90)

    def plain() -> np.ndarray:
        with Image.open(work / "12mp.jpg") as image:
            return _plain_view(image)

    def ours() -> np.ndarray:
        return VIEW.views(read_picture(work / "12mp.jpg", VIEW.at_least).pixels)[0]

    (plain_s, expected), (ours_s, view) = fastest(plain, ours, times=7)
    difference = np.abs(expected.astype(int) - view).mean()
    if difference > 3:
        raise AssertionError(f"the views differ by {difference:.2f} gray levels")
    size = (work / "12mp.jpg").stat().st_size / 1e6
    what = f"mean absolute difference {difference:.2f} gray levels, file of {size:.1f} MB"
    return speed_row("12 MP JPEG to the view", "Pillow open, convert, resize", plain_s, ours_s, what, 3.5)


def _epoch(work: Path) -> dict:
    rng = np.random.default_rng(0)
    folder = work / "epoch"
    folder.mkdir()
    count = 1000
    with DatasetWriter(work / "dataset", VIEW.shape) as writer:
        for number in range(count):
            scene = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256))
            scene.save(folder / f"{number}.jpg", quality=92)
            writer.append(np.asarray(Image.open(folder / f"{number}.jpg"))[None], {"path": str(number)})
    dataset = Dataset(work / "dataset")
    order = rng.permutation(count)
    batches = [order[start : start + 32] for start in range(0, count, 32)]

    def plain() -> np.ndarray:
        return np.array([_total(np.stack([_decoded(folder, n) for n in batch])) for batch in batches])

    def ours() -> np.ndarray:
        return np.array([_total(dataset.views(batch)) for batch in batches])

    (plain_s, expected), (ours_s, found) = fastest(plain, ours)
    if not np.array_equal(expected, found):
        raise AssertionError("the batches differ")
    name = "reading an epoch of training pixels"
    return speed_row(name, "JPEG decode from files", plain_s, ours_s, f"{count} views", 10)


def _decoded(folder: Path, number: int) -> np.ndarray:
    with Image.open(folder / f"{number}.jpg") as image:
        return np.asarray(image.convert("RGB"))


def _total(batch: np.ndarray) -> int:
    # Touches every page, so that reading is not put off; a sum of all would cost more than the reading.
    return int(batch.reshape(-1)[::4096].sum(dtype=np.int64))
