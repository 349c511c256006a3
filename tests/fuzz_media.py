"""Mutated pictures and clips, from a fixed seed: no crash but MediaError, no hang, nothing left behind.

    python tests/fuzz_media.py --pictures 5000 --clips 500 --seed 0

File number N of a seed is always the same bytes. What fails is kept in --keep, with its number, and printed.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.media.ffmpeg import ffmpeg_executable
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import ViewPolicy, read_views

HANG_S = 60.0
MEMORY_MB = 1000
CLIPS = {
    "h264.mp4": "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 5 -movflags +faststart",
    "h264.mkv": "-c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    "h264.ts": "-c:v libx264 -preset ultrafast -pix_fmt yuv420p",
    "hevc.mov": "-c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -x265-params log-level=none",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    "mpeg4.avi": "-c:v mpeg4",
    "mjpeg.mov": "-c:v mjpeg",
    "mpeg2.mpg": "-c:v mpeg2video",
    "flv.flv": "-c:v flv",
}


def pictures() -> dict[str, bytes]:
    """One whole small picture of each kind."""
    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((64, 48))
    frames = [base.rotate(20 * turn) for turn in range(4)]
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    animated = {"save_all": True, "append_images": frames[1:], "duration": 80}
    kinds = {
        "jpeg": (base, "JPEG", {"quality": 80, "exif": exif}),
        "progressive": (base, "JPEG", {"quality": 80, "progressive": True}),
        "gray": (base.convert("L"), "JPEG", {}),
        "cmyk": (base.convert("CMYK"), "JPEG", {}),
        "png": (base, "PNG", {"exif": exif}),
        "palette": (base.convert("P"), "PNG", {"transparency": 3}),
        "alpha": (base.convert("RGBA"), "PNG", {}),
        "deep": (Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257), "PNG", {}),
        "apng": (base, "PNG", animated),
        "webp": (base, "WEBP", {"quality": 80}),
        "lossless": (base, "WEBP", {"lossless": True}),
        "awebp": (base, "WEBP", animated),
        "gif": (base, "GIF", {}),
        "agif": (base, "GIF", animated),
        "bmp": (base, "BMP", {}),
        "tiff": (base, "TIFF", {}),
        "lzw": (base, "TIFF", {"compression": "tiff_lzw"}),
        "deflate": (base, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "jpegtiff": (base, "TIFF", {"compression": "jpeg"}),
        "avif": (base, "AVIF", {"quality": 70}),
        "heic": (base, "HEIF", {"quality": 70}),
    }
    found = {}
    for name, (image, kind, options) in kinds.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        found[name] = file.getvalue()
    return found


def clips(folder: Path) -> dict[str, bytes]:
    """One whole clip of ten small frames of each kind."""
    found = {}
    for name, options in CLIPS.items():
        source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1"]
        command = [ffmpeg_executable(), "-v", "error", "-nostdin", "-y", *source, *options.split(), str(folder / name)]
        subprocess.run(command, check=True, timeout=60)
        found[name] = (folder / name).read_bytes()
    return found


def mutated(seeds: dict[str, bytes], number: int, seed: int) -> bytes:
    """Return file number `number`: a seed with one to eight mutations, more likely near its start."""
    chance = random.Random(f"{seed}:{number}")
    names = sorted(seeds)
    data = bytearray(seeds[names[number % len(names)]])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = int(len(data) * chance.random() ** chance.choice((1, 3)))
        length = chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(8)
        if kind == 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if at < len(data) else b""
        elif kind == 1:
            data[at : at + length] = chance.randbytes(min(length, len(data) - at))
        elif kind == 2:  # numbers that lengths and sizes stumble over
            number_bytes = chance.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 40_000))
            data[at : at + 4] = number_bytes.to_bytes(4, chance.choice(("big", "little")))
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length] * chance.choice((1, 1, 50))
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            data[at : at + length] = bytes([chance.choice((0, 255))]) * min(length, len(data) - at)
        else:
            other = seeds[chance.choice(names)]
            data[at:] = other[int(len(other) * chance.random()) :]
    return bytes(data)


def read(path: Path) -> str:
    """Read a file as every stage does; return what came of it, "read" or the reason of its refusal."""
    try:
        for views, about in read_views(path, ViewPolicy.parse("both64x2:texture"), Sampling.parse("even:3")):
            if views.shape != (3, 64, 64, 3) or not about["pixel_sha256"]:
                raise AssertionError(f"views of shape {views.shape}")
    except MediaError as error:
        if not error.reason:
            raise AssertionError("a refusal without a reason") from error
        return error.reason
    return "read"


def work(seeds: dict[str, bytes], seed: int, numbers: range, folder: Path, results) -> None:
    """Read mutated files in this process, telling before and after each one over a pipe."""
    import resource

    # This process is forked: what its parent's peak was before, in a run of many tests, is not the readers' doing.
    limit = max(MEMORY_MB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + MEMORY_MB // 2)
    open_files = None
    for number in numbers:
        results.send((number, "started", ""))
        path = folder / f"{number}.bin"
        path.write_bytes(mutated(seeds, number, seed))
        try:
            outcome, trouble = read(path), ""
        except BaseException as error:
            outcome, trouble = "crash", f"{type(error).__name__}: {error}"[:300]
        path.unlink()
        left = len(os.listdir("/dev/fd"))
        open_files = open_files or left
        if left > open_files:
            trouble = trouble or f"{left - open_files} files left open"
            open_files = left
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if memory > limit:
            trouble = trouble or f"{memory} MB"
        results.send((number, outcome, trouble))
    results.send((numbers.stop, "finished", " ".join(_children())))


def _children() -> list[str]:
    with contextlib.suppress(FileNotFoundError):  # stated on Linux only
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return []


def fuzz(seeds: dict[str, bytes], count: int, seed: int, processes: int = 2) -> Iterator[tuple[int, str, str]]:
    """Read mutated files in worker processes; yield (number, outcome, trouble), trouble "" where all is well."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        share = -(-count // processes)
        running = {}

        def start(numbers: range) -> None:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(seeds, seed, numbers, Path(folder), sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = [process, numbers, numbers.start, float("inf")]  # its start-up is not timed

        for first in range(0, count, share):
            start(range(first, min(count, first + share)))
        while running:
            for receiver in wait(list(running), timeout=1):
                process, numbers, number, _ = running[receiver]
                try:
                    counted, outcome, trouble = receiver.recv()
                except EOFError:
                    process.join()
                    del running[receiver]
                    yield number, "crash", f"the process died with {process.exitcode}"
                    start(range(number + 1, numbers.stop))
                    continue
                running[receiver][2:] = [counted, time.monotonic()]
                if outcome == "finished":
                    process.join()
                    del running[receiver]
                    if trouble:
                        yield numbers.stop - 1, "leak", f"child processes left: {trouble}"
                elif outcome != "started":
                    yield counted, outcome, trouble
            for receiver, (process, numbers, number, since) in list(running.items()):
                if time.monotonic() - since > HANG_S:
                    process.kill()
                    process.join()
                    del running[receiver]
                    yield number, "hang", f"no answer in {HANG_S:g} s"
                    start(range(number + 1, numbers.stop))
        left = os.listdir(folder)
        if left and not [name for name in left if not name.endswith(".bin")]:
            left = []  # of a process that died, reported already
        if left:
            yield -1, "leak", f"files left: {left[:5]}"


def main() -> int:
    """Run both kinds and print the outcomes; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"pictures": (pictures(), arguments.pictures), "clips": (clips(Path(folder)), arguments.clips)}
    for kind, (seeds, count) in kinds.items():
        started = time.monotonic()
        outcomes = Counter()
        for number, outcome, trouble in fuzz(seeds, count, arguments.seed):
            outcomes[outcome] += 1
            if trouble:
                failed += 1
                print(f"{kind} {number}: {outcome}: {trouble}", flush=True)
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / f"{kind}-{number}").write_bytes(mutated(seeds, number, arguments.seed))
        summary = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
        print(f"{count} mutated {kind} in {time.monotonic() - started:.0f} s: {summary}", flush=True)
    print("all well" if not failed else f"{failed} in trouble")
    return 1 if failed else 0


if __name__ == "__main__":
    if not shutil.which(ffmpeg_executable()):
        sys.exit("no ffmpeg")
    sys.exit(main())
