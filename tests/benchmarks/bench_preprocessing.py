"""Near-duplicates, the way from media to a dataset, and how the work grows with the media."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from components.dataset import LABELS, Dataset, DatasetWriter
from components.extraction.extract import extract
from components.media.ffmpeg import ffmpeg_executable
from components.preprocessing.duplicates import close_hashes, cropped_hashes
from components.preprocessing.preprocess import preprocess

HASHES = 20_000
COMPARED = 40  # hashes that the plain loop compares with all others; the rest of its time is in proportion
RADIUS = 10
SMALL, LARGE, MANY = 1_000, 10_000, 100_000
AT_ONCE = 4096


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure the search of hashes, the way of real media, and the growth with pictures, and with rows alone."""
    yield _search()
    if media is not None:
        yield _whole(media, work)
    yield _growth(work)
    yield _rows(work)


def _search() -> dict:
    import imagehash

    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, HASHES, dtype=np.uint64)
    hashes[HASHES // 2 :] = hashes[: HASHES // 2] ^ np.uint64(0b1011)  # every hash has a near one
    objects = [
        imagehash.ImageHash(np.unpackbits(np.array([value], dtype=">u8").view(np.uint8)) == 1) for value in hashes
    ]
    start = time.perf_counter()
    plain = {(a, b) for a in range(COMPARED) for b in range(HASHES) if objects[a] - objects[b] <= RADIUS}
    baseline = (time.perf_counter() - start) * HASHES / COMPARED / 2  # each pair once
    start = time.perf_counter()
    found = [np.stack(pair, axis=1) for pair in close_hashes(hashes, hashes, RADIUS)]
    ours = time.perf_counter() - start
    pairs = np.unique(np.concatenate(found), axis=0)
    assert {(int(a), int(b)) for a, b in pairs[pairs[:, 0] < COMPARED]} == plain
    return dict(
        name=f"near-duplicate search, {HASHES:,} hashes",
        baseline=f"imagehash, loop over all pairs: {baseline:.0f} s (from {COMPARED} rows of it)",
        ours=f"{ours:.2f} s",
        ratio=baseline / ours,
        goal=">= 20x",
        met=baseline >= 20 * ours,
    )


PLAIN = """
import subprocess, sys
from pathlib import Path
import imagehash
import numpy as np
from PIL import Image
media, work, ffmpeg = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
hashes, kept = [], 0
for path in sorted(path for path in media.rglob("*") if path.is_file() and path.name != "README.md"):
    files = [path]
    if path.suffix == ".mp4":
        frames = str(work / (path.stem + "-%03d.png"))
        subprocess.run([ffmpeg, "-v", "error", "-i", str(path), "-vf", "fps=2", frames], check=True)
        files = sorted(work.glob(path.stem + "-*.png"))
    for file in files:
        with Image.open(file) as image:
            image = image.convert("RGB")
        found = imagehash.phash(image)
        near = [other for other in hashes if found - other <= 10]
        hashes.append(found)
        kept += 1
        image.resize((256, 256), Image.Resampling.LANCZOS).save(work / f"view{kept:06}.png")
print(kept)
"""


def _whole(media: Path, work: Path) -> dict:
    plain = work / "plain"
    plain.mkdir()
    start = time.perf_counter()
    command = [sys.executable, "-c", PLAIN, str(media), str(plain), ffmpeg_executable()]
    views = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    baseline = time.perf_counter() - start
    start = time.perf_counter()
    extract(str(media), work / "frames")
    middle = time.perf_counter()
    card = preprocess([work / "frames"], work / "dataset", report=work / "report.html")
    ours = time.perf_counter() - start
    assert card["rows"] == views
    assert card["certificate"]["holds"]
    return dict(
        name="whole extraction + preprocessing of the media",
        baseline=f"one process, Pillow, ffmpeg to PNG, imagehash loop: {baseline:.1f} s",
        ours=f"{ours:.1f} s (extraction {middle - start:.1f}; audit, proof and report included)",
        ratio=baseline / ours,
        goal=">= 3x",
        met=baseline >= 3 * ours,
    )


MEASURED = """
import resource, sys, time
from components.extraction.extract import extract
from components.preprocessing.preprocess import preprocess
media, frames, dataset = sys.argv[1:]
start = time.perf_counter()
extract(media, frames)
preprocess([frames], dataset)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _growth(work: Path) -> dict:
    media = work / "pictures"
    for label in ("real", "fake"):
        (media / label).mkdir(parents=True)
    random = np.random.default_rng(0)
    measured = {}
    made = 0
    for amount in (SMALL, LARGE):
        for number in range(made, amount):
            coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            coarse.resize((512, 512), Image.Resampling.BICUBIC).save(
                media / ("real", "fake")[number % 2] / f"{number}.jpg"
            )
        made = amount
        command = [sys.executable, "-c", MEASURED, str(media), str(work / "grown"), str(work / "prepared")]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured[amount] = [float(value) for value in output.split()]
        assert len(Dataset(work / "prepared")) == amount
        shutil.rmtree(work / "grown")
    (small, _), (large, memory) = measured[SMALL], measured[LARGE]
    per_row = (memory - measured[SMALL][1]) / (LARGE - SMALL)
    at_100k = memory + per_row * (100_000 - LARGE)
    return dict(
        name=f"{LARGE:,} pictures against {SMALL:,}, extraction + preprocessing",
        baseline=f"{SMALL:,}: {small:.1f} s",
        ours=f"{large:.1f} s, peak {memory:.0f} MB; 100,000 by extrapolation {at_100k / 1024:.1f} GB",
        ratio=large / small,
        goal="<= 10.5x, peak <= 1 GB",
        met=large <= 10.5 * small and memory <= 1024,
    )


PREPARED = """
import resource, sys, time
from components.preprocessing.preprocess import preprocess
frames, dataset, report = sys.argv[1:]
start = time.process_time()
preprocess([frames], dataset, report=report)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _rows(work: Path) -> dict:
    measured = {}
    for amount in (LARGE, MANY):
        frames = _synthetic(work / f"rows{amount}", amount)
        command = [sys.executable, "-c", PREPARED, str(frames), str(work / "placed"), str(work / "placed.html")]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured[amount] = [float(value) for value in output.split()]
        shutil.rmtree(frames)
    (small, few), (large, many) = measured[LARGE], measured[MANY]
    at_million = many + (many - few) / (MANY - LARGE) * (1_000_000 - MANY)
    # What compares all with all grows with the square of the rows, and takes most of the time of the larger set.
    hours = large * (1_000_000 / MANY) ** 2 / 3600
    return dict(
        name=f"{MANY:,} rows against {LARGE:,}, preprocessing alone",
        baseline=f"{LARGE:,}: {small:.0f} s of processor, peak {few:.0f} MB",
        ours=f"{large:.0f} s, peak {many:.0f} MB; 1,000,000 by extrapolation {at_million / 1024:.1f} GB, {hours:.1f} h",
        ratio=large / small,
        goal="1,000,000 in <= 4 GB",
        met=at_million <= 4096,
    )


def _synthetic(directory: Path, amount: int) -> Path:
    """Write a frames dataset of pictures that are all different, of both labels, their views tiny."""
    random = np.random.default_rng(0)
    with DatasetWriter(directory, (1, 16, 16, 3)) as writer:
        writer.card.update(view="crops16x1", sampling="even:8", delivery="as-is", media="made")
        for start in range(0, amount, AT_ONCE):
            coarse = random.integers(0, 256, (min(AT_ONCE, amount - start), 12, 12), dtype=np.uint8)
            thumbnails = np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse])
            views = np.stack([cv2.resize(one, (16, 16)) for one in coarse])[:, None, ..., None].repeat(3, axis=-1)
            for number, perceptual_hash in enumerate(cropped_hashes(thumbnails)[0], start):
                label = number % 2
                sha = hashlib.sha256(str(number).encode()).hexdigest()
                entry = dict(content_sha256=sha, pixel_sha256=sha[::-1], group=sha, label=label, kind="picture")
                entry |= dict(path=f"{LABELS[label]}/{number:08}.jpg", source=f"source-{number % 7}", format="JPEG")
                entry |= dict(width=512 + number % 300, height=512, bytes=10_000 + number % 5000, codec="", split="")
                entry |= dict(has_exif=False, perceptual_hash=int(perceptual_hash), weight=1.0)
                entry["thumbnail"] = thumbnails[number - start].tobytes()
                writer.append(views[number - start], entry)
    return directory
