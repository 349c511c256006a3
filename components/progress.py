"""Progress of long work, for a person: one line at a time on standard error, with a rate and an estimate.

A line reads `[stage] text`; the local runner shows these lines of a step and keeps all others for the log.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from components.redaction import redact

Item = TypeVar("Item")


def say(stage: str, text: str) -> None:
    """Print one line of progress."""
    print(f"[{stage}] {redact(text)}", file=sys.stderr, flush=True)


def follow(items: Iterable[Item], stage: str, what: str, total: int, every_s: float = 5.0) -> Iterator[Item]:
    """Yield the items and say now and then how many are done, how fast, and how long the rest will take.

    Args:
        items: What to walk through.
        stage: The verb of the stage.
        what: What an item is, in the plural.
        total: How many there are.
        every_s: Seconds between two lines; work that ends sooner says only its last line.
    """
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= every_s and done < total:
            last = now
            rate = done / (now - start)
            say(stage, f"{done:,} of {total:,} {what}, {_of(rate)}/s, about {(total - done) / rate:,.0f} s left")
    seconds = time.monotonic() - start
    say(stage, f"{done:,} {what} in {seconds:.1f} s")


def _of(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
