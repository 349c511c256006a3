"""Times a plain way of doing something and ours in turn, and puts both in a row of the table."""

import time
from collections.abc import Callable
from typing import Any


def fastest(*tasks: Callable[[], Any], times: int = 3) -> list[tuple[float, Any]]:
    """Run tasks in turn, some times; return the least seconds of each, and its output."""
    seconds = [float("inf")] * len(tasks)
    outputs = [None] * len(tasks)
    for _ in range(times):
        for number, task in enumerate(tasks):
            started = time.perf_counter()
            outputs[number] = task()
            seconds[number] = min(seconds[number], time.perf_counter() - started)
    return list(zip(seconds, outputs, strict=True))


def speed_row(name: str, baseline: str, plain_s: float, ours_s: float, ours: str, goal: float) -> dict:
    """Return a row that says how many times as fast ours is as the baseline, against a goal."""
    ratio = float(plain_s / ours_s)
    return {
        "name": name,
        "baseline": f"{baseline}: {plain_s * 1000:,.0f} ms",
        "ours": f"{ours_s * 1000:,.0f} ms; {ours}",
        "ratio": round(ratio, 2),
        "goal": f">= {goal:g}x",
        "met": ratio >= goal,
    }
