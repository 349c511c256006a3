"""What a person sees of a run while it works: a line for each step with Rich on a terminal, plain lines elsewhere."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.local.engine import print_to_stderr

STEPS = {"list": "list-media", "extract": "extract-frames"}  # by the stage that a line of progress names
_PROGRESS = re.compile(r"\[(\w+)\] (.*)")
_OUTCOME = re.compile(r"([a-z-]+): (done in .*|unchanged, reused)")
_SHARE = re.compile(r"([\d,]+) of ([\d,]+) ")


@contextmanager
def reported() -> Iterator[Callable[[str], None]]:
    """Give a function that shows one line of a run: its progress, or what became of a step."""
    if not sys.stderr.isatty():
        yield print_to_stderr
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Display(progress).show


class _Display:
    def __init__(self, progress: Any):
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def show(self, line: str) -> None:
        if match := _PROGRESS.match(line):
            task = self._task(STEPS.get(match[1], match[1]))
            share = _SHARE.match(match[2])
            done, total = (int(part.replace(",", "")) for part in share.groups()) if share else (None, None)
            self.progress.update(task, completed=done, total=total, text=match[2])
        elif match := _OUTCOME.match(line):
            self.progress.update(self._task(match[1]), total=1, completed=1, text=match[2])
        else:
            self.progress.console.print(line, markup=False, highlight=False)

    def _task(self, step: str) -> Any:
        if step not in self.tasks:
            self.tasks[step] = self.progress.add_task(step, total=None, text="")
        return self.tasks[step]
