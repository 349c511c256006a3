"""The goals of the detector on media and field: three splits, in tiers of delivery, with sources left out.

Everything is the shipped run, step by step: extraction, preprocessing, training, evaluation in the two tiers and with
sources left out. `AI_VS_REAL_BENCH_BACKBONE` chooses the backbone.
"""

import csv
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.evaluate import evaluate
from components.evaluation_result import DetectorResult, EvaluationResult
from components.extraction.extract import extract
from components.preprocessing.preprocess import preprocess
from components.training.train import train

SEEDS = range(3)
WEIGHTS = {
    "mobilenetv2": "mobilenetv2_1.0_imagenet_notop.weights.h5",
    "efficientnetb0": "efficientnetb0_photographs_notop.weights.h5",  # fine-tuned on photographs and drawings
}
FAMILIES = (
    "imagen=imagic-imagen+ptp-imagen+tedbench-originals,dalle2=dcsan-dalle2+borretti-dalle2,"
    "stable-diffusion-1-2=sd21+apple-coreml-sd+dcsan-stability+animatediff-clips,sdxl=sdxl+rpg-sdxl,"
    "flux=flux+x-flux,sdcpp=sdcpp+sdcpp-clips,stylegan=stylegan2+stylegan3-ffhq,vqgan=vqgan-clip+dcsan-simulacra,"
    "latent-diffusion=dcsan-latentdiff+dcsan-glid3xl,faces=ffhq+starganv2-celebahq"
)


def rows(media: Path | None, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the benchmark; none where the media, field beside them or the weights are missing."""
    backbone = os.environ.get("AI_VS_REAL_BENCH_BACKBONE", "mobilenetv2")
    weights = media and Path(media).parent / "weights" / WEIGHTS[backbone]
    if media is None or not (Path(media).parent / "field").is_dir() or not weights.is_file():
        return
    began = time.monotonic()
    listed = _listed([Path(media), Path(media).parent / "field"], work / "media.csv")
    extract(str(listed), work / "frames")
    extracted = time.monotonic() - began
    results, seconds = [], []
    for seed in SEEDS:
        began = time.monotonic()
        preprocess([work / "frames"], work / "dataset", seed=seed)
        train(
            work / "dataset", work / "model", backbone=backbone, weights=str(weights), recipe="deep", draws=3, seed=seed
        )
        evaluate(
            work / "dataset",
            work / "model",
            work / "evaluation.json",
            test_degradations="web,hard",
            leave_one_out=True,
            families=FAMILIES,
        )
        seconds.append(extracted + time.monotonic() - began)
        results.append(EvaluationResult.read(work / "evaluation.json").candidate)
    yield from goals(backbone, results)
    yield _row("whole run, minutes", [one / 60 for one in seconds], "<= 20", max(seconds) <= 1200)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    yield _row("peak, GiB", [peak], "<= 4", peak <= 4)


def goals(backbone: str, results: list[DetectorResult]) -> Iterator[dict[str, Any]]:
    """Yield the goals that evaluations of several splits meet or do not.

    Args:
        backbone: What was trained.
        results: One evaluation for each split, with web, hard and the sources left out.
    """
    clean = [one.overall.balanced_accuracy for one in results]
    yield _row(f"{backbone}: balanced accuracy, clean", clean, ">= 0.93", np.mean(clean) >= 0.93)
    lowest = [min(part.measures.accuracy for part in _sources(one)) for one in results]
    yield _row("accuracy of the lowest source with 10 units", lowest, ">= 0.85", np.mean(lowest) >= 0.85)
    for tier, goal in (("web", 0.94), ("hard", 0.86)):
        held = [one.slice(tier).measures.balanced_accuracy / own for one, own in zip(results, clean, strict=True)]
        yield _row(f"balanced accuracy, {tier} / clean", held, f">= {goal}", np.mean(held) >= goal)
    web = [_answers(one, "web") for one in results]
    alarms = [max(part.wrong_of_answered for part in one.by_source if part.label == "real") for one in web]
    yield _row("real called fake, worst source, web, of answered", alarms, "<= 0.08", np.mean(alarms) <= 0.08)
    left = [[part for part in one.cross_source or [] if part.wrong is not None] for one in results]
    wrong = [max(part.wrong for part in one) for one in left]
    yield _row("left out: confidently wrong, worst", wrong, "<= 0.10", np.mean(wrong) <= 0.10)
    wrong = [float(np.mean([part.wrong for part in one])) for one in left]
    yield _row("left out: confidently wrong, mean", wrong, "<= 0.05", np.mean(wrong) <= 0.05)
    ranked = [float(np.mean([part.unseen.roc_auc for part in one if part.label == "fake"])) for one in left]
    yield _row("left out: ROC AUC of generators, mean", ranked, ">= 0.85", np.mean(ranked) >= 0.85)
    right = [float(np.mean([part.right for part in one])) for one in left]
    yield _row("left out: answered and right, mean", right)
    familiar = [float(np.mean([part.familiarity_auc for part in one])) for one in left]
    yield _row("left out: AUC of familiarity, mean", familiar)
    covered = [_answers(one, "clean").all.answered for one in results]
    yield _row("answered, clean", covered, ">= 0.88", np.mean(covered) >= 0.88)
    pairs = [_pair(one) for one in results]
    yield _row("FFHQ against StyleGAN2, ROC AUC, clean", pairs, ">= 0.985", np.mean(pairs) >= 0.985)
    off = [max(one.slice(name).measures.ece for name in ("all", "web", "hard")) for one in results]
    yield _row("ECE, worst tier", off, "<= 0.06", np.mean(off) <= 0.06)


def _pair(result: DetectorResult) -> float:
    from components.evaluation.metrics import measure

    scores = result.scores
    chosen = np.isin(scores.source, ["ffhq", "stylegan2"])
    return measure(np.array(scores.label)[chosen], np.array(scores.probability)[chosen]).roc_auc


def _sources(result: DetectorResult) -> list[Any]:
    return [part for part in result.slices if part.by == "source" and part.enough]


def _answers(result: DetectorResult, name: str) -> Any:
    return next(part for part in result.answers if part.name == name)


def _listed(folders: list[Path], path: Path) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "source"])
        for folder in folders:
            for source in sorted(place for label in ("real", "fake") for place in (folder / label).iterdir()):
                table.writerows([str(one), source.parent.name, source.name] for one in sorted(source.iterdir()))
    return path


def _row(name: str, values: list[float], goal: str = "stated", met: bool = True) -> dict[str, Any]:
    mean, spread = float(np.mean(values)), float(np.std(values))
    ours = f"{mean:.3f} (splits: {', '.join(f'{value:.3f}' for value in values)})"
    return {
        "name": name,
        "baseline": f"standard deviation {spread:.3f}",
        "ours": ours,
        "ratio": mean,
        "goal": goal,
        "met": bool(met),
    }
