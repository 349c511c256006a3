"""Readers that can be killed: every way in which a file may take its decoder down is the end of that file alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import misbehaving
import numpy as np
import pytest

from components.errors import InputError
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views
from components.media.workers import Limits, Workers

POLICIES = (ViewPolicy.parse("both64x2"), Sampling.parse("even:3"), Delivery.parse("common"))


@pytest.fixture(scope="module")
def workers():
    """Two processes with tight bounds."""
    with Workers(2, Limits(processor_seconds=1, memory_mb=400)) as pool:
        yield pool


def gone(process: int) -> bool:
    """Whether a process ends within a few seconds."""
    for _ in range(100):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_worker_gives_what_reading_here_gives(workers, photo, h264):
    for path in (photo, h264):
        there, here = list(workers.read(read_views, path, *POLICIES)), list(read_views(path, *POLICIES))
        assert len(there) == len(here)
        for (views, about), (expected, expected_about) in zip(there, here, strict=True):
            assert np.array_equal(views, expected)
            assert about == expected_about


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (misbehaving.crash, (), r"unreadable: its decoder crashed \(SIGSEGV\)"),
        (misbehaving.spin, (), "too slow: its decoder took more than 1 s of processor time"),
        (misbehaving.swell, (600,), "too large: MemoryError"),
        (misbehaving.fail, (), "unreadable: ZeroDivisionError: of an odd tag"),
    ],
)
def test_whatever_goes_wrong_is_the_end_of_one_file_and_of_nothing_else(workers, function, arguments, reason):
    others = [workers.submit(misbehaving.count, 3) for _ in range(2)]
    with pytest.raises(MediaError, match=reason):
        list(workers.read(function, *arguments))
    for other in (*others, workers.submit(misbehaving.count, 3)):
        assert [about["number"] for _, about in other] == [0, 1, 2]


def test_no_answer_in_time_is_named():
    with (
        Workers(1, Limits(seconds=1, seconds_an_item=0)) as impatient,
        pytest.raises(MediaError, match="too slow: no answer within 1 s"),
    ):
        list(impatient.read(misbehaving.sleep, 60))


def test_an_error_of_input_stays_one(workers):
    with pytest.raises(InputError, match="no ffmpeg on this machine"):
        list(workers.read(misbehaving.refuse))


def test_results_may_be_read_in_order_however_many_wait(workers):
    """More requests than processes, each larger than what is read ahead: nothing waits for what was asked later."""
    with Workers(2, ahead_bytes=1) as narrow:
        asked = [narrow.submit(misbehaving.count, 4, 300) for _ in range(9)]
        assert [[about["number"] for _, about in reading] for reading in asked] == [[0, 1, 2, 3]] * 9


def test_what_is_given_up_frees_its_worker_and_its_children(workers):
    reading = workers.submit(misbehaving.sleep, 60, True)
    process = next(reading)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    reading.close()
    assert gone(process)
    assert all(gone(int(child)) for child in children)
    assert len(list(workers.read(misbehaving.count, 2))) == 2


def test_many_threads_ask_at_once(workers):
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(list(workers.read(misbehaving.count, 20))))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [20] * 8


def test_a_parent_that_is_killed_alone_takes_its_workers_along():
    code = (
        "import misbehaving, time\nfrom components.media.workers import Workers\n"
        "print(next(Workers(1).submit(misbehaving.sleep, 120, True)), flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        worker = int(parent.stdout.readline())
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        parent.send_signal(signal.SIGKILL)
    assert gone(worker)
    assert children
    assert all(gone(int(child)) for child in children)


def test_a_worker_knows_no_password(monkeypatch):
    monkeypatch.setenv("MONGODB_URI", "mongodb://user:secret@host")
    with Workers(1) as fresh:
        reading = fresh.submit(misbehaving.sleep, 60)
        assert b"secret" not in Path(f"/proc/{next(reading)}/environ").read_bytes()
        reading.close()
