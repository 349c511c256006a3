"""Progress of long work, for a person, on standard error: a bar on a terminal, a line now and then elsewhere.

A line reads `[stage] text`; the local runner shows these lines of a step and keeps all others for the log.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def say(stage: str, text: str) -> None:
    """Print one line of progress.

    Args:
        stage: The verb of the stage, such as "train".
        text: What happened.
    """
    print(f"[{stage}] {printable(text)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a text with what is no printable sign written as an escape, so that a name cannot forge a line of output.

    Args:
        text: Such as a message with the name of a file, which may hold newlines and escape codes.
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def follow(items: Iterable[Item], stage: str, what: str, total: int, every_s: float = 5.0) -> Iterator[Item]:
    """Yield the items, and show how many are done, how fast, and how long the rest will take.

    Args:
        items: What to walk through.
        stage: The verb of the stage.
        what: What an item is, in the plural.
        total: How many there are.
        every_s: Seconds between two lines; work that ends sooner prints only its last line.

    Yields:
        The items, in their order.
    """
    start = time.monotonic()
    done = 0
    for item in (_with_bar if sys.stderr.isatty() else _with_lines)(items, stage, what, total, every_s):
        yield item
        done += 1
    say(stage, f"{done:,} {what} in {time.monotonic() - start:.1f} s")


def _with_lines(items: Iterable[Item], stage: str, what: str, total: int, every_s: float) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s and done < total:
            last = now
            rate = done / (now - start)
            shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
            say(stage, f"{done:,} of {total:,} {what}, {shown}/s, about {(total - done) / rate:,.0f} s left")


def _with_bar(items: Iterable[Item], stage: str, what: str, total: int, _: float) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(f"\\[{stage}]"), BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total)
