"""The desk: a bounded number of files examined at once, and a bounded queue before it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")
FIRST_GUESS_S = 2.0  # of how long a file takes, until some were examined


class BusyError(Exception):
    """The queue is full.

    Args:
        retry_after_s: When there will likely be room again, whole seconds.
    """

    def __init__(self, retry_after_s: int):
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Desk:
    """Runs work in threads, and refuses what would wait too long.

    Args:
        at_once: Pieces of work at the same time.
        queued: How many more may wait.
    """

    def __init__(self, at_once: int, queued: int):
        self._at_once, self._most = at_once, at_once + queued
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="examine")
        self._lock = threading.Lock()
        self._held = 0
        self._usual_s = FIRST_GUESS_S

    @property
    def held(self) -> int:
        """How many pieces of work are under way or wait."""
        return self._held

    def submit(self, work: Callable[[], Answer]) -> "Future[Answer]":
        """Queue a piece of work; cancelling the future before its turn gives its place back.

        Raises:
            BusyError: The queue is full.
        """
        with self._lock:
            if self._held >= self._most:
                raise BusyError(max(1, round(self._usual_s * self._held / self._at_once)))
            self._held += 1
        try:
            future = self._pool.submit(self._timed, work)
        except BaseException:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    def _timed(self, work: Callable[[], Answer]) -> Answer:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._usual_s = 0.9 * self._usual_s + 0.1 * (time.monotonic() - start)

    def _leave(self, _: "Future | None") -> None:
        with self._lock:
            self._held -= 1

    def close(self) -> None:
        """Take no more work, drop what waits, and wait for what is under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)
