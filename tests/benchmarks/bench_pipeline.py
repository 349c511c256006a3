"""The pipeline itself: what it adds to the stages' work, and what a run that changes nothing costs."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.local import engine, sample
from pipelines.local.run import SAMPLE_ARGUMENTS, run_training


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Yield the rows: overhead by step against the stages called directly, and the unchanged re-run."""
    directory = str(sample.make(work / "sample"))
    start = time.monotonic()
    first = run_training(directory, {**SAMPLE_ARGUMENTS})
    first_s = time.monotonic() - start
    start = time.monotonic()
    again = run_training(directory, {**SAMPLE_ARGUMENTS})
    again_s = time.monotonic() - start
    work_again = set(again["seconds"]) - set(again["cached"])
    assert work_again == {"list-media", "find-champion", "register"}, f"did work again: {work_again}"
    assert again["metrics"] == first["metrics"]
    yield {
        "name": "unchanged re-run of the sample set",
        "baseline": f"first run {first_s:.1f} s",
        "ours": f"{again_s:.2f} s",
        "ratio": again_s / first_s,
        "goal": "<= 0.02",
        "met": again_s / first_s <= 0.02,
    }
    yield overhead(work)


def overhead(work: Path) -> dict:
    """Compare a pipeline of steps that do nothing with the same functions called: seconds a step."""
    from kfp import compiler

    path = Path(__file__).with_name("no_op_pipeline.py")
    spec = importlib.util.spec_from_file_location("no_op_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compiler.Compiler().compile(module.no_ops, str(work / "no_ops.yaml"))
    start = time.monotonic()
    for _ in range(module.STEPS):
        module.no_op.python_func("x")
    plain_s = time.monotonic() - start
    start = time.monotonic()
    engine.run(work / "no_ops.yaml", {"text": "x"}, work / "home", cache=False)
    seconds = (time.monotonic() - start - plain_s) / module.STEPS
    return {
        "name": "pipeline overhead, seconds a step",
        "baseline": f"the same {module.STEPS} functions called: {plain_s:.4f} s",
        "ours": f"{seconds:.3f} s a step",
        "ratio": seconds,
        "goal": "<= 0.5",
        "met": seconds <= 0.5,
    }
