"""Processes that read media which nobody vouches for: warm, bounded in time and memory, killed when they overrun.

    with Workers(2) as workers:
        for views, about in workers.read(read_views, path, view, sampling, delivery):
            ...

Any generator function of a module can be read so, its arguments pickled on the way in. What it yields comes back as
JSON and raw arrays and is never unpickled: a decoder that a file has taken over shall not take over its reader.
Whatever goes wrong in a worker, an exception, a crash, no answer in time, is the `MediaError` of that one file; the
worker is replaced, and the others never notice.
"""

import contextlib
import importlib
import io
import json
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from components.errors import InputError
from components.media.pictures import MediaError, media_error

# What a decoder needs of the environment. Passwords and addresses of servers are not among it.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "VIRTUAL_ENV", "IMAGEIO_FFMPEG_EXE")
# One thread each: the workers are the parallelism, and a library's own threads take memory.
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FILES_A_PROCESS = 2000  # after which a worker is replaced, so that nothing a decoder leaks adds up
KILLED = "its decoder was killed, as a system does that is short of memory"
START_S = 120.0  # for a worker to import what it needs, on a machine that does much else
AHEAD_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The bounds of one file.

    Args:
        seconds: From the request to the first item, and for all that follows without the allowance.
        seconds_an_item: What each item adds, so that a long film may give many.
        processor_seconds: The worker's own processor time between two items, whole seconds; decoding of pictures is
            its own, that of videos is FFmpeg's, which `seconds` bounds.
        memory_mb: What a worker may allocate, with the 60 MB or so of its libraries' data.
    """

    seconds: float = 120.0
    seconds_an_item: float = 2.0
    processor_seconds: int = 20
    memory_mb: int = 540


LIMITS = Limits()


class Workers:
    """A pool of reading processes; a context manager. Any thread may ask.

    Requests are begun in the order in which they were made, so reading results in that order never waits for ever.

    Args:
        count: How many processes; they start when first needed, or by `start`.
        limits: Of each file.
        ahead_bytes: What is read ahead of one file before its reader takes it, so that memory stays bounded; one item
            is always.
    """

    def __init__(self, count: int, limits: Limits = LIMITS, ahead_bytes: int = AHEAD_BYTES):
        self._limits, self._ahead_bytes = limits, ahead_bytes
        self._waiting: deque[Reading] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # A record lock in it lets one process at a time decode a large picture; the system frees it with the process.
        self._large = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._processes: list[_Process] = [_Process(limits, self._large.fileno()) for _ in range(max(1, count))]
        self._threads = [
            threading.Thread(target=self._serve, args=[process], name="media worker", daemon=True)
            for process in self._processes
        ]
        self._started = False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes, without waiting for them, while there is something else to do."""
        with self._changed:
            if not self._started and not self._closed:
                self._started = True
                for thread in self._threads:
                    thread.start()

    def submit(self, function: Callable[..., Iterable[Any]], *arguments: Any) -> "Reading":
        """Ask for what a generator function yields for some arguments.

        Args:
            function: Of a module, not local to a function.
            arguments: What pickle can carry.

        Returns:
            The items, to be iterated over once.
        """
        request = pickle.dumps((function.__module__, function.__qualname__, arguments))
        reading = Reading(request, self._ahead_bytes)
        self.start()
        with self._changed:
            if self._closed:
                raise RuntimeError("these workers are closed")
            self._waiting.append(reading)
            self._changed.notify()
        return reading

    def read(self, function: Callable[..., Iterable[Any]], *arguments: Any) -> Iterator[Any]:
        """Yield what a generator function yields for some arguments, run in a worker.

        Raises:
            MediaError: Of the file, whatever went wrong with it.
            InputError: As the function raises it.
        """
        with contextlib.closing(self.submit(function, *arguments)) as reading:
            yield from reading

    def close(self) -> None:
        """End the processes, whatever they do."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            self._changed.notify_all()
        for reading in waiting:
            reading.close()
        for process in self._processes:
            process.abandon()
        if self._started:
            for thread in self._threads:
                thread.join()
        self._large.close()

    def _serve(self, process: "_Process") -> None:
        # One thread for each process: hands it a request, and its answers to whoever made the request.
        with contextlib.suppress(_Ended):
            process.start()
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                reading = self._waiting.popleft()
            reading.serve(process)
        process.stop()


class Reading:
    """What one request gives, item by item, as it is read."""

    def __init__(self, request: bytes, ahead_bytes: int):
        self._request, self._ahead_bytes = request, ahead_bytes
        self._items: deque[tuple[int, Any]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = self._abandoned = False
        self._process: _Process | None = None

    def __iter__(self) -> "Reading":
        return self

    def __next__(self) -> Any:
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait()
            if self._items:
                size, item = self._items.popleft()
                self._held -= size
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
        raise StopIteration

    def close(self) -> None:
        """Give up what has not been read; a worker in the middle of it is killed."""
        with self._changed:
            self._abandoned = True
            self._error = self._error or RuntimeError("this reading was given up")
            self._items.clear()
            if self._process is not None:
                self._process.interrupt()  # under the lock: later it may be at work for another
            else:
                self._ended = True
            self._changed.notify_all()

    def serve(self, process: "_Process") -> None:
        """Have a process answer the request; called by the pool."""
        with self._changed:
            if self._abandoned:
                return
            self._process = process
        error: BaseException | None = None
        try:
            for size, item in process.answers(self._request):
                with self._changed:
                    while self._items and self._held + size > self._ahead_bytes and not self._abandoned:
                        self._changed.wait()
                    if self._abandoned:
                        process.stop()
                        break
                    self._items.append((size, item))
                    self._held += size
                    self._changed.notify_all()
        except BaseException as raised:
            error = raised
        with self._changed:
            if self._abandoned:
                process.stop()  # `close` killed it, if only after its last answer
            self._error = self._error or error
            self._ended, self._process = True, None
            self._changed.notify_all()


class _Ended(Exception):  # noqa: N818 (no error: a process that is not there any more)
    """A worker's process is gone."""


class _Process:
    """One worker, seen from the pool."""

    def __init__(self, limits: Limits, large: int):
        self._limits, self._large = limits, large
        self._process: subprocess.Popen | None = None
        self._files = 0
        self._lock = threading.Lock()
        self._abandoned = False

    def start(self) -> IO[bytes]:
        """Start the process where none runs, and wait until it is warm; return what requests are written to."""
        if self._process is not None and self._process.stdin:
            return self._process.stdin
        limits = (self._limits.processor_seconds, self._limits.memory_mb, self._large)
        command = [sys.executable, "-P", "-c", f"from {__name__} import work; work{limits}"]
        with self._lock:
            if self._abandoned:
                raise _Ended
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a decoder's warnings are a file's own words
                env=_environment(),
                pass_fds=[self._large],
                start_new_session=True,  # a group of its own: FFmpeg goes with it, and ctrl-C is for the parent
                bufsize=0,
            )
        self._files = 0
        try:
            answer, _ = self._answer(time.monotonic() + START_S)
        except (_Ended, MediaError) as error:
            self.stop()
            if self._abandoned:
                raise _Ended from None
            raise RuntimeError(f"a process that reads media did not start ({error}); run it alone: {command}") from None
        if answer["kind"] != "ready":
            self.stop()
            raise RuntimeError(f"a process that reads media did not start: {answer['text']}")
        assert process.stdin  # a pipe
        return process.stdin

    def answers(self, request: bytes) -> Iterator[tuple[int, Any]]:
        """Yield (bytes, item) of one request; the process is replaced where it broke or grew old."""
        for attempt in range(2):
            try:
                self.start().write(struct.pack("<Q", len(request)) + request)
                break
            except OSError:  # it died while it had nothing to do
                self.stop()
                if attempt:
                    raise
        self._files += 1
        deadline = time.monotonic() + self._limits.seconds
        while True:
            try:
                answer, buffers = self._answer(deadline)
            except _Ended:
                raise self._death() from None
            except MediaError:
                self.stop()
                raise
            if answer["kind"] != "item":
                break
            yield sum(buffer.nbytes for buffer in buffers) + 1000, _unpacked(answer["value"], buffers)
            # The time that the reader took is not the worker's.
            deadline = max(deadline, time.monotonic()) + self._limits.seconds_an_item
        if self._files >= FILES_A_PROCESS or answer.get("worn"):
            self.stop()
        if answer["kind"] == "media":
            raise MediaError(answer["reason"], answer["detail"])
        if answer["kind"] == "input":
            raise InputError(answer["text"])

    def interrupt(self) -> None:
        """End what the process does, from another thread; the next request gets a new one."""
        with self._lock:
            if self._process is not None:
                _kill_group(self._process)

    def abandon(self) -> None:
        """End the process for good, from another thread."""
        self._abandoned = True
        self.interrupt()

    def stop(self) -> None:
        """End the process and what it started, and free its pipes."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            _kill_group(process)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def _death(self) -> MediaError:
        process = self._process
        try:
            code = process.wait(timeout=10) if process else 0
        except subprocess.TimeoutExpired:
            code = 0
        self.stop()
        if code == -signal.SIGXCPU:
            bound = self._limits.processor_seconds
            return MediaError("too slow", f"its decoder took more than {bound} s of processor time")
        if code == -signal.SIGKILL:
            return MediaError("unreadable", KILLED)
        return MediaError("unreadable", f"its decoder crashed ({_signal_name(code)})")

    def _answer(self, deadline: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        head = self._exactly(8, deadline)
        (length,) = struct.unpack("<Q", head)
        answer = json.loads(self._exactly(self._bounded(length), deadline))
        sizes = answer.get("sizes", [])
        self._bounded(sum(sizes))
        return answer, [np.frombuffer(self._exactly(size, deadline), np.uint8) for size in sizes]

    def _bounded(self, size: int) -> int:
        if not 0 <= size <= self._limits.memory_mb * 2**20:
            raise MediaError("unreadable", "its decoder answers nonsense")
        return size

    def _exactly(self, size: int, deadline: float) -> bytearray:
        process = self._process
        if process is None or process.stdout is None:
            raise _Ended
        out = process.stdout.fileno()
        data = bytearray(size)
        view, done = memoryview(data), 0
        ready = select.poll()
        ready.register(out, select.POLLIN)
        while done < size:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                raise MediaError("too slow", f"no answer within {self._limits.seconds:g} s")
            count = os.readv(out, [view[done:]])
            if not count:
                raise _Ended
            done += count
        return data


def _kill_group(process: subprocess.Popen) -> None:
    if process.returncode is None:  # else its number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return kept | {"PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"} | dict.fromkeys(SINGLE_THREADED, "1")


def _packed(value: Any, buffers: list[Any]) -> Any:
    """Return a value as JSON can carry it; arrays and bytes go to `buffers`, in the order in which they are named."""
    if isinstance(value, np.ndarray):
        buffers.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return {"array": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, bytes | bytearray | memoryview):
        buffers.append(np.frombuffer(value, np.uint8))
        return {"bytes": len(value)}
    if isinstance(value, tuple):
        return {"tuple": [_packed(part, buffers) for part in value]}
    if isinstance(value, list):
        return {"list": [_packed(part, buffers) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[_packed(name, buffers), _packed(part, buffers)] for name, part in value.items()]}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Undo `_packed`."""
    buffers = deque(arrays)

    def undo(part: Any) -> Any:
        match part:
            case {"array": dtype, "shape": shape}:
                return buffers.popleft().view(np.dtype(dtype)).reshape(shape)
            case {"bytes": _}:
                return buffers.popleft().tobytes()
            case {"tuple": parts}:
                return tuple(undo(entry) for entry in parts)
            case {"list": parts}:
                return [undo(entry) for entry in parts]
            case {"dict": pairs}:
                return {undo(name): undo(entry) for name, entry in pairs}
        return part

    return undo(value)


def work(processor_seconds: int, memory_mb: int, large: int) -> None:
    """Answer requests on standard input until it is closed; what a worker's process runs.

    Args:
        processor_seconds: The processor time that may pass between two items.
        memory_mb: What may be allocated.
        large: Descriptor of the file whose record lock lets one process at a time decode a large picture.
    """
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not be taken for an answer
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        _warm(large)
        _bound(memory_mb)
    except Exception as error:
        _send(answers, {"kind": "broken", "text": f"{type(error).__name__}: {error}"})
        return
    threading.Thread(target=_end_with, args=[requests.fileno()], daemon=True).start()
    _send(answers, {"kind": "ready"})
    while len(head := requests.read(8)) == 8:
        request = io.BytesIO()
        while request.tell() < struct.unpack("<Q", head)[0]:
            request.write(requests.read(struct.unpack("<Q", head)[0] - request.tell()))
        module, name, arguments = pickle.loads(request.getvalue())
        _respond(answers, getattr(importlib.import_module(module), name), arguments, processor_seconds)


def _warm(large: int) -> None:
    # What every file needs, imported before the first one comes and before allocation is bounded.
    import av  # noqa: F401
    import cv2
    import ffmpeg  # noqa: F401

    from components.media import pictures, view  # noqa: F401

    cv2.setNumThreads(1)
    pictures.large_lock = pictures.RecordLock(large)


def _bound(memory_mb: int) -> None:
    # Of data, not of address space: libraries reserve much that they never touch.
    _limit(resource.RLIMIT_DATA, memory_mb * 2**20)
    _limit(resource.RLIMIT_FSIZE, 0)  # reading writes no file
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def _end_with(requests: int) -> None:
    # The parent may be killed alone: then this process, and the FFmpeg that it may be waiting for, go as well.
    hangup = select.poll()
    hangup.register(requests, 0)  # a hang-up is always reported
    hangup.poll()
    os.killpg(0, signal.SIGKILL)


def _respond(answers: int, function: Callable[..., Iterable[Any]], arguments: Sequence, processor_seconds: int) -> None:
    end: dict[str, Any] = {"kind": "end"}
    try:
        items = iter(function(*arguments))
        while True:
            _allow(processor_seconds)
            try:
                item = next(items)
            except StopIteration:
                break
            buffers: list[Any] = []
            value = _packed(item, buffers)
            _send(answers, {"kind": "item", "value": value, "sizes": [buffer.nbytes for buffer in buffers]}, buffers)
            del item, value, buffers
    except InputError as error:
        end = {"kind": "input", "text": str(error)}
    except MediaError as error:
        end = {"kind": "media", "reason": error.reason, "detail": error.detail, "worn": error.reason == "too large"}
    except Exception as error:  # whatever a decoder raises is the end of its file and of nothing else
        named = media_error(error)
        end = {"kind": "media", "reason": named.reason, "detail": named.detail, "worn": isinstance(error, MemoryError)}
    _send(answers, end)


def _allow(processor_seconds: int) -> None:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + processor_seconds)


def _send(answers: int, answer: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
    head = json.dumps(answer).encode()
    for part in (struct.pack("<Q", len(head)) + head, *buffers):
        view = memoryview(part).cast("B")
        while len(view):
            view = view[os.write(answers, view) :]
