"""Broken pictures, clips and lists, from a fixed seed: no crash but MediaError, no hang, nothing left behind.

    python tests/fuzz_media.py --pictures 5000 --clips 500 --lists 100 --check 500 --seed 0

File number N of a seed is always the same bytes: where N is even, a whole file with bytes changed at random; where it
is odd, one whose structure is (see `fuzz_structures`). --check asks `ai-vs-real check` about many such files at a time,
as a user does, and wants an answer for each. What fails is kept in --keep, with its number, and printed.
"""

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import fuzz_structures
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.errors import InputError
from components.extraction.sources import list_media
from components.media.ffmpeg import ffmpeg_executable
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import ViewPolicy, read_views

FOLDER = 100  # files that one `ai-vs-real check` is asked about
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


def form_of(data: bytes) -> str:
    """Return how `fuzz_structures` takes a whole file apart; "" where it cannot."""
    heads = {b"\xff\xd8": "jpeg", b"\x89PNG": "png", b"\x1a\x45\xdf\xa3": "mkv", b"II*\0": "tiff"}
    form = next((form for head, form in heads.items() if data.startswith(head)), "")
    return "mp4" if data[4:8] == b"ftyp" else form


def mutated(seeds: dict[str, bytes], number: int, seed: int) -> bytes:
    """Return file number `number`: a seed with changed structure, or with one to eight changes of its bytes."""
    chance = random.Random(f"{seed}:{number}")
    names = sorted(seeds)
    whole = seeds[names[number // 2 % len(names)]]
    if number % 2 and form_of(whole):
        return fuzz_structures.broken(form_of(whole), whole, chance)
    data = bytearray(whole)
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
    """Read mutated files in this process, and report before and after each over a pipe."""
    # This process is forked: what its parent's peak was before, in a run of many tests, is not the readers' doing.
    limit = max(MEMORY_MB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + MEMORY_MB // 2)
    open_files = None
    for number in numbers:
        results.send((number, "started", ""))
        path = folder / f"{number}.bin"
        path.write_bytes(mutated(seeds, number, seed))
        begun = time.monotonic()
        try:
            outcome, trouble = read(path), ""
        except BaseException as error:
            outcome, trouble = "crash", f"{type(error).__name__}: {error}"[:300]
        results.send((number, "took", (time.monotonic() - begun, *_peaks())))
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


def _peaks() -> tuple[int, int]:
    """The most memory so far, MB: of this process, and of any of the FFmpegs that it ran."""
    return tuple(resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _children() -> list[str]:
    with contextlib.suppress(FileNotFoundError):  # stated on Linux only
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return []


class Measured:
    """The slowest file and the most memory of a run."""

    def __init__(self):
        self.seconds, self.slowest, self.reader_mb, self.ffmpeg_mb = 0.0, -1, 0, 0

    def take(self, number: int, seconds: float, reader_mb: int, ffmpeg_mb: int) -> None:
        """Take in one file."""
        if seconds > self.seconds:
            self.seconds, self.slowest = seconds, number
        self.reader_mb, self.ffmpeg_mb = max(self.reader_mb, reader_mb), max(self.ffmpeg_mb, ffmpeg_mb)

    def __str__(self) -> str:
        peak = f"peak {self.reader_mb} MB of a reader and {self.ffmpeg_mb} MB of an FFmpeg"
        return f"slowest {self.seconds:.1f} s (number {self.slowest}), {peak}"


def fuzz(
    seeds: dict[str, bytes], count: int, seed: int, processes: int = 2, measured: Measured | None = None
) -> Iterator[tuple[int, str, str]]:
    """Read mutated files in worker processes; yield (number, outcome, trouble), trouble "" where all is well."""
    measured = measured or Measured()
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
                if outcome == "took":
                    measured.take(counted, *trouble)
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


def fuzz_lists(count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Read broken lists of media: entries, or one line of error; yields as `fuzz`."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(30):
            (Path(folder) / f"{number}.jpg").write_bytes(b"listed")
        for number in range(count):
            suffix, data = fuzz_structures.media_list(random.Random(f"{seed}:list:{number}"))
            path = Path(folder) / f"list{suffix}"
            path.write_bytes(data)
            try:
                outcome, trouble = "listed" if list_media(str(path)) else "nothing", ""
            except InputError as error:
                outcome, trouble = "refused", "more than one line" if "\n" in str(error) else ""
            except Exception as error:
                outcome, trouble = "crash", f"{type(error).__name__}: {error}"[:300]
            path.unlink()
            yield number, outcome, trouble


def fuzz_check(seeds: dict[str, bytes], count: int, seed: int, detector: Path) -> Iterator[tuple[int, str, str]]:
    """Ask `ai-vs-real check` about folders of broken files: an answer for each, and no traceback; yields as `fuzz`."""
    command = [sys.executable, "-m", "pipelines.commands.main", "check", "--model", str(detector), "--jsonl"]
    root = Path(__file__).resolve().parents[1]
    for first in range(0, count, FOLDER):
        numbers = range(first, min(count, first + FOLDER))
        with tempfile.TemporaryDirectory() as folder:
            for number in numbers:
                (Path(folder) / f"{number}.bin").write_bytes(mutated(seeds, number, seed))
            try:
                done = subprocess.run(
                    [*command, folder], cwd=root, capture_output=True, text=True, timeout=HANG_S * len(numbers)
                )
            except subprocess.TimeoutExpired:
                yield first, "hang", f"check of numbers {first} to {numbers.stop - 1} did not end"
                continue
        trouble = _trouble(done, len(numbers))
        answers = {} if trouble else {answer["path"]: answer for answer in map(json.loads, done.stdout.splitlines())}
        for number in numbers:
            answer = answers.get(os.path.join(folder, f"{number}.bin"))
            if answer is None:
                yield number, "crash", trouble or "no answer"
                continue
            sound = answer["error"] or 0 <= answer["probability"] <= 1
            reason = (answer["error"] or answer["verdict"] or "").partition(":")[0]
            yield number, reason, "" if sound and reason else f"answered {answer}"[:300]


def _trouble(done: subprocess.CompletedProcess, count: int) -> str:
    if done.returncode not in (0, 4):
        return f"check ended with {done.returncode}: {done.stderr[-300:]}"
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr[-300:]}"
    lines = done.stdout.splitlines()
    if len(lines) != count:
        return f"{len(lines)} answers for {count} files"
    finite = all(math.isfinite(json.loads(line)["probability"] or 0) for line in lines)
    return "" if finite else "a probability that is not finite"


def main() -> int:
    """Run every kind and print the outcomes; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--lists", type=int, default=100)
    parser.add_argument("--check", type=int, default=500, help="files that ai-vs-real check is asked about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        place, seed = Path(folder), arguments.seed
        of_pictures, of_clips = pictures(), clips(place)
        every = of_pictures | of_clips
        facts = {kind: Measured() for kind in ("pictures", "clips")}
        runs = {
            "pictures": (
                of_pictures,
                arguments.pictures,
                fuzz(of_pictures, arguments.pictures, seed, 2, facts["pictures"]),
            ),
            "clips": (of_clips, arguments.clips, fuzz(of_clips, arguments.clips, seed, 2, facts["clips"])),
            "lists": ({}, arguments.lists, fuzz_lists(arguments.lists, seed)),
            "files by ai-vs-real check": (every, arguments.check, _checked(every, arguments.check, seed, place)),
        }
        for kind, (seeds, count, outcomes) in runs.items():
            started, counted = time.monotonic(), Counter()
            for number, outcome, trouble in outcomes:
                counted[outcome] += 1
                if trouble:
                    failed += 1
                    print(f"{kind} {number}: {outcome}: {trouble}", flush=True)
                    if arguments.keep and seeds:
                        arguments.keep.mkdir(parents=True, exist_ok=True)
                        (arguments.keep / f"{kind.split()[0]}-{number}").write_bytes(mutated(seeds, number, seed))
            summary = ", ".join(f"{number} {outcome}" for outcome, number in counted.most_common())
            measured = f"; {facts[kind]}" if kind in facts else ""
            print(f"{count} broken {kind} in {time.monotonic() - started:.0f} s: {summary}{measured}", flush=True)
    print("all well" if not failed else f"{failed} in trouble")
    return 1 if failed else 0


def _checked(seeds: dict[str, bytes], count: int, seed: int, place: Path) -> Iterator[tuple[int, str, str]]:
    if count:
        from brightness import write_detector

        yield from fuzz_check(seeds, count, seed, write_detector(place / "detector", size=48, export=True))


if __name__ == "__main__":
    if not shutil.which(ffmpeg_executable()):
        sys.exit("no ffmpeg")
    sys.exit(main())
