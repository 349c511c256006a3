"""Where the steps run: on this machine, by the compiled pipeline itself."""

import builtins
import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import components
from components import outputs
from components.containers import VERSION
from components.errors import InputError
from components.redaction import redact

_WORKSPACE = "{{$.workspace_path}}"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = re.compile(r"\[(list|extract|preprocess|train|evaluate|register)\] ")
_UNWRITABLE = re.compile(r"\[Errno (?:28|122|30|13)\] (.*)")  # no space, over quota, read-only, no permission
_ERROR = re.compile(r"(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Exit)\w*)(?:: (.*))?$")


@dataclasses.dataclass
class Run:
    """What a local run left.

    Attributes:
        outputs: The pipeline's outputs by name: parameters as values, artifacts as kfp artifacts.
        seconds: Wall time by step, cached steps 0.
        cached: The steps that did no work.
        log: Where everything that the steps printed is kept.
    """

    outputs: dict[str, Any]
    seconds: dict[str, float]
    cached: list[str]
    log: Path


def run(
    pipeline: Path,
    arguments: Mapping[str, Any],
    home: Path,
    *,
    cache: bool = True,
    runner: Any = None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Run a compiled pipeline through kfp.local.

    Args:
        pipeline: The compiled YAML.
        arguments: The pipeline's parameters.
        home: The run home; the steps' outputs go to `home/pipelines`, the cache's entries to `home/cache`.
        cache: Reuse the outputs of steps whose code, parameters and inputs are unchanged.
        runner: A kfp.local runner; the default runs each step as a process of this environment.
        say: Takes each line that a person should see.

    Raises:
        InputError: A step stopped with an error that the user can correct; its own message.
        RuntimeError: A step failed otherwise; names the step, its error and the log.
    """
    from kfp import components as kfp_components
    from kfp import local

    root = home / "pipelines"
    root.mkdir(parents=True, exist_ok=True)
    for place in root.glob("*/*"):  # PIPELINE-TIME/STEP
        outputs.sweep(place)
    local.init(
        runner or local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        enable_caching=cache,
        # kfp's key covers parameters, inputs and the image's name, but not the code of installed packages; and its
        # entries hold absolute paths, which a run home that was moved or copied must not follow back.
        cache_root=str(home / "cache" / f"{VERSION}-{code_digest(str(home))[:16]}"),
    )
    log = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with open(log, "w") as file:
        console, steps = _Console(file, say), _Steps(say)
        try:
            with _redirected(console), _watched(steps):
                task = kfp_components.load_component_from_text(for_this_machine(pipeline, home))(**arguments)
        except RuntimeError as error:
            raise _cause(console, steps, log) from error
    return Run(dict(task.outputs), steps.seconds, steps.cached, log)


def for_this_machine(pipeline: Path, home: Path) -> str:
    """Return a compiled pipeline's YAML without what only a cluster needs.

    Retries go, because kfp.local waits their minutes out though the error will be the same; what a step's environment
    says of pipeline and images goes, because the run's own record says it here; and a step's workspace, a volume on a
    cluster, becomes a directory of the run home, because kfp.local deletes its own after every run.
    """
    import yaml

    spec = next(yaml.load_all(pipeline.read_text(), Loader=yaml.CSafeLoader))

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items() if key not in ("retryPolicy", "env")}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return str(home / "workspace") if node == _WORKSPACE else node

    return json.dumps(walk(spec))


def code_digest(salt: str = "") -> str:
    """Return the sha256 of the stages' code as it is installed here.

    Args:
        salt: What else the digest depends on.
    """
    digest = hashlib.sha256(salt.encode())
    root = Path(components.__path__[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _cause(console: "_Console", steps: "_Steps", log: Path) -> Exception:
    step, kind, message = steps.failed or "a step", console.error, console.message
    if kind == "InputError":
        return InputError(message)
    if match := _UNWRITABLE.match(message):
        return InputError(f"{step} cannot write: {match[1]}; free space, or set AI_VS_REAL_HOME to where there is some")
    return RuntimeError(
        f"{step} failed: {kind or 'it ended without a message'}{': ' if message else ''}{message}; see {log}"
    )


@contextlib.contextmanager
def _redirected(console: "_Console"):
    # kfp.local prints to standard output, which here belongs to the caller's one JSON document.
    logger, handler = logging.getLogger(), logging.StreamHandler(console)
    level, own_print = logger.level, builtins.print
    logger.addHandler(handler)  # without one, the first error that kfp logs makes Python add its own to standard error
    with contextlib.redirect_stdout(console), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Task .* no effect in the current local runner", UserWarning)
        try:
            yield
        finally:
            builtins.print = own_print  # two steps at a time can each put back the other's, which indents all it prints
            logger.setLevel(level)
            logger.removeHandler(handler)
            console.flush()


@contextlib.contextmanager
def _watched(steps: "_Steps"):
    # Not by what kfp.local logs: two steps at a time lose lines of each other's.
    from kfp.local import cache, task_dispatcher

    run_task, store = task_dispatcher.run_single_task_implementation, cache.get_local_cache()

    def run(**arguments: Any) -> Any:
        with steps.running(_step(arguments["component_name"])) as outcome:
            outcome.append(result := run_task(**arguments))
        return result

    def key(component_name: str, *rest: Any, **others: Any) -> str:
        made = type(store).compute_key(store, component_name, *rest, **others)
        steps.keys[made] = _step(component_name)
        return made

    def get(made: str) -> Any:
        hit = type(store).get(store, made)
        if hit is not None:
            steps.reused(steps.keys[made])
        return hit

    task_dispatcher.run_single_task_implementation = run
    if store:
        store.compute_key, store.get = key, get
    try:
        yield
    finally:
        task_dispatcher.run_single_task_implementation = run_task


def _step(component: str) -> str:
    return component.removeprefix("comp-")


class _Steps:
    """Times the steps, several of one name as one, and says what became of each."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.seconds: dict[str, float] = {}
        self.cached: list[str] = []
        self.failed = ""
        self.keys: dict[str, str] = {}
        self._begun: dict[str, float] = {}

    def reused(self, step: str) -> None:
        self.cached.append(step)
        self.seconds.setdefault(step, 0.0)
        self.say(f"{step}: unchanged, reused")

    @contextlib.contextmanager
    def running(self, step: str):
        begun = self._begun.setdefault(step, time.monotonic())
        outcome: list[Any] = []
        yield outcome
        seconds = time.monotonic() - begun
        self.seconds[step] = round(seconds, 3)
        if outcome[0][1].name == "SUCCESS":
            self.say(f"{step}: done in {seconds:.1f} s")
        else:
            self.failed = self.failed or step


class _Console(io.TextIOBase):
    """Takes what kfp.local prints: keeps all of it, and passes on what a person should see."""

    def __init__(self, log: TextIO, say: Callable[[str], None]):
        self.log, self.say = log, say
        self.error = self.message = ""
        self._pending: dict[int, str] = {}  # by thread: two shards may print at a time
        self._lock = threading.RLock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            thread = threading.get_ident()
            *lines, rest = (self._pending.get(thread, "") + text).split("\n")
            self._pending[thread] = rest
            for line in lines:
                self._take(_COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def _take(self, line: str) -> None:
        line = redact(line)
        self.log.write(line + "\n")
        text = line.strip()
        if _PROGRESS.match(text):
            self.say(text)
        elif match := _ERROR.match(text):
            self.error, self.message = match[1], match[2] or ""


def print_to_stderr(line: str) -> None:
    """Show one line to the person, away from standard output."""
    sys.stderr.write(line + "\n")  # not print, which kfp.local patches while a step runs
    sys.stderr.flush()
