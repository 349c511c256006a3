"""Records and buckets: rates of writing against the stated goals, and a bucket's objects against a plain loop."""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from components.extraction.extract import FETCHING
from components.media.buckets import Buckets
from components.records import open_records

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))  # the servers of the tests

RECORDS = 100_000
OBJECTS, OBJECT_BYTES = 2_000, 20_000
DELAY_S = 0.02  # of each answer, as from a region that is near


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure; `media` is not needed."""
    yield _rate("SQLite", 10_000)
    from servers import _free_port, _server, ferretdb_binary, ferretdb_command

    port, place = _free_port(), work / "mongodb"
    files = ["--data-dir", str(place), "--log-file", str(place / "log"), "--pid-file", str(place / "pid")]
    commands = {"nx-27017": [str(Path(sys.executable).parent / "nx-27017"), "-p", str(port), *files]}
    with suppress(pytest.skip.Exception):
        commands["FerretDB"] = ferretdb_command(ferretdb_binary(), place, port)
    for name, command in commands.items():
        place.mkdir()
        with _server(command, port, place):
            os.environ["MONGODB_URI"] = f"mongodb://127.0.0.1:{port}/bench"
            try:
                yield _rate(name, 3_000)
            finally:
                del os.environ["MONGODB_URI"]
        shutil.rmtree(place)
    yield _bucket(work)


def _rate(name: str, goal: float) -> dict:
    """Write what became of 100,000 files; the ratio is documents a second."""
    shared = {"dataset": "d" * 64, "status": "accepted", "label": "real", "kind": "picture", "source": "camera"}
    media = [
        {"_id": f"d/{n}", "path": f"real/{n}.jpg", "content_sha256": hashlib.sha256(b"%d" % n).hexdigest(), **shared}
        for n in range(RECORDS)
    ]
    with open_records() as records:
        begun = time.perf_counter()
        records.put_many("media", media)
        seconds = time.perf_counter() - begun
        assert records.count("media") == RECORDS
    return {
        "name": f"{RECORDS:,} records of media to {name}, a second",
        "baseline": "the goal alone",
        "ours": f"{seconds:,.1f} s",
        "ratio": round(RECORDS / seconds),
        "goal": f">= {goal:,.0f}",
        "met": RECORDS / seconds >= goal,
    }


def _bucket(work: Path) -> dict:
    """Download 2,000 objects through the emulator, each answer after 20 ms: a plain loop, and ours."""
    with _behind_a_delay(work) as client:
        bucket = client.bucket("media")
        for number in range(OBJECTS):
            bucket.blob(f"set/{number:04d}.jpg").upload_from_string(os.urandom(OBJECT_BYTES))
        (work / "behaviour").write_text('{"delay": %s}' % DELAY_S)  # noqa: UP031
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        read = _ours()
        ours_s = time.perf_counter() - begun
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for blob in client.list_blobs("media", prefix="set/"):
                blob.download_to_filename(Path(folder, "object"))
        plain_s = time.perf_counter() - begun
    assert read == OBJECTS * OBJECT_BYTES
    return {
        "name": f"{OBJECTS:,} objects of {OBJECT_BYTES:,} bytes from a bucket",
        "baseline": f"download_to_filename, one by one: {plain_s:,.1f} s",
        "ours": f"{ours_s:,.1f} s, verified; {grown / 1024:,.0f} MiB more memory",
        "ratio": round(plain_s / ours_s, 2),
        "goal": ">= 5x",
        "met": plain_s / ours_s >= 5,
    }


def _ours() -> int:
    store = Buckets()

    def size(name: str) -> int:
        with store.fetch(store.location("gs://media/set", name)) as path:
            return path.stat().st_size

    with ThreadPoolExecutor(FETCHING) as pool:
        return sum(pool.map(size, store.names("gs://media/set")))


@contextmanager
def _behind_a_delay(work: Path) -> Iterator[object]:
    from servers import _free_port, _server

    port = _free_port()
    command = [str(Path(sys.executable).parent / "gcp-storage-emulator"), "start", f"--port={port}", "--in-memory"]
    with _server([*command, "--default-bucket=media"], port, work):
        proxy = [sys.executable, str(TESTS / "media" / "bucket_proxy.py"), str(port), str(work)]
        process = subprocess.Popen(proxy, stdout=subprocess.PIPE, text=True)
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://localhost:{process.stdout.readline().strip()}"
        try:
            from google.cloud import storage

            yield storage.Client(project="bench")
        finally:
            del os.environ["STORAGE_EMULATOR_HOST"]
            process.kill()
            process.wait()
