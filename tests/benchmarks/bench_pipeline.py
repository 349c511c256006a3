"""The pipeline itself: what it adds to the stages' work, and what a run that changes nothing costs."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from timing import fastest, speed_row

from components import registry
from pipelines.local import engine, sample
from pipelines.local.run import SAMPLE_ARGUMENTS, run_training


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Yield the rows: the unchanged re-run, judging, and overhead by step against the stages called directly."""
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
    yield judging(Path(first["dataset"]), registry.download("ai-vs-real", first["model_version"]), work)
    yield overhead(work)


def judging(dataset: Path, exported: Path, work: Path) -> dict:
    """Compare `ai-vs-real evaluate` on a detector as it was exported with the same by Keras: seconds a process."""
    by_keras = work / "by_keras"
    shutil.copytree(exported, by_keras)
    card = json.loads((by_keras / "card.json").read_text())
    del card["runtime"]
    (by_keras / "card.json").write_text(json.dumps(card))

    def judged(model: Path, output: Path) -> list[float]:
        command = [sys.executable, "-m", "pipelines.commands.main", "evaluate", model, dataset, "--no-champion"]
        subprocess.run([*command, "--overwrite", "--output", output], check=True, capture_output=True)
        return json.loads((output / "evaluation.json").read_text())["candidate"]["scores"]["probability"]

    (plain_s, plain), (ours_s, ours) = fastest(
        lambda: judged(by_keras, work / "judged_by_keras"), lambda: judged(exported, work / "judged")
    )
    apart = max(abs(one - other) for one, other in zip(plain, ours, strict=True))
    assert apart <= 0.002, f"the exported network's probabilities are {apart:.4f} from those of Keras"
    said = f"probabilities at most {apart:.5f} apart"
    return speed_row("judging a detector", "the same command by Keras", plain_s, ours_s, said, goal=1.5)


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
