"""Ask a detector about files: real, fake, and how sure."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.detector import Detector
from components.errors import InputError
from components.evaluation_result import in_words
from components.media import degradations
from components.progress import follow

# What a platform does to a file on its way: the answer must survive it.
DELIVERIES = ("jpeg:75", "scale:0.5", "crop:0.8")


def check(
    paths: Iterable[str | Path], detector: str | Path, *, version: str = "", delivery_test: bool = False
) -> Iterator[dict[str, Any]]:
    """Give the verdict on each file, through the same path from file to pixels as in training.

    Args:
        paths: Pictures and videos.
        detector: Directory of the detector.
        version: Its version in the registry, for the answer.
        delivery_test: Ask again after recompression, at half scale and cropped; an answer that flips is inconclusive.

    Yields:
        For each file, in order: path, verdict ("real", "fake" or "inconclusive"; None for a file that cannot be read),
        reason (a sentence on an inconclusive verdict, else empty), probability of fake in [0, 1], kind ("picture" or
        "clip"), frames used, model version and digest, error (None, or why the file cannot be read); with the delivery
        test also the probability after each delivery.

    Raises:
        InputError: There is no whole detector in the directory.
    """
    loaded = Detector(detector)
    for path in paths:
        yield {
            "path": str(path),
            **_answer(loaded, Path(path), delivery_test),
            "model_version": version,
            "model_digest": loaded.card["digest"],
        }


def check_media(media: str | Path, model_name: str, version: str, output: str | Path) -> None:
    """Write the verdict on every file below a directory as lines of JSON.

    Args:
        media: The directory, or one file.
        model_name: Name of the registered model.
        version: Its version in the registry; empty for the champion.
        output: The file to write, there whole or not at all.

    Raises:
        InputError: There is no media, no such model, or no such version.
    """
    from components import registry

    media, output = Path(media), Path(output)
    paths = [media] if media.is_file() else sorted(path for path in media.rglob("[!.]*") if path.is_file())
    if not paths:
        raise InputError(f"{media} holds no file; give a picture, a video, or a directory of them")
    if not version:
        champion = registry.find(model_name)
        if champion is None:
            raise InputError(f"{model_name!r} has no champion yet; train and promote one with ai-vs-real run")
        version = champion.version
    part = output.with_name(f".{output.name}.part")
    with part.open("w", encoding="utf-8") as lines:
        answers = check(paths, registry.download(model_name, version), version=version)
        for answer in follow(answers, "check", "files", len(paths)):
            lines.write(json.dumps(answer) + "\n")
    os.replace(part, output)


def _answer(detector: Detector, path: Path, delivery_test: bool) -> dict[str, Any]:
    from components.media.pictures import MediaError

    try:
        views, kind = _read(detector, path)
    except (MediaError, OSError) as error:
        nothing = {"verdict": None, "reason": "", "probability": None, "kind": None, "frames": 0}
        return {**nothing, "error": _reason(error)}
    probability = _probability(detector, views, kind)
    verdict = detector.verdict(probability)
    delivered = {name: _delivered(detector, views, kind, name) for name in DELIVERIES} if delivery_test else {}
    flips = [
        name
        for name, value in delivered.items()
        if (value >= detector.threshold) != (probability >= detector.threshold)
    ]
    reason = ""
    if verdict == "inconclusive":
        reason = _too_close(detector, probability)
    elif flips:
        told = " and ".join(in_words(name) for name in flips)
        verdict, reason = "inconclusive", f"no longer {verdict} when {told}: the answer hangs on how the file came"
    answer = {"verdict": verdict, "reason": reason, "probability": probability, "kind": kind, "frames": len(views)}
    return {**answer, **({"delivered": delivered} if delivery_test else {}), "error": None}


def _probability(detector: Detector, views: np.ndarray, kind: str) -> float:
    logits = detector.logits(views)
    return detector.clip_probability(logits) if kind == "clip" else float(detector.calibrate(logits, "picture")[0])


def _delivered(detector: Detector, views: np.ndarray, kind: str, name: str) -> float:
    degraded = degradations.apply(name, views.reshape(-1, *views.shape[2:])).reshape(views.shape)
    return _probability(detector, degraded, kind)


def _too_close(detector: Detector, probability: float) -> str:
    band = detector.card["abstention"]
    if probability >= detector.threshold:
        edge, rate = f"from {band['high']:.2f} on", f"{100 * band['false_positive_rate']:.0f} of 100 reals called fake"
        return f"leans to fake at {probability:.2f}, but only {edge} are at most {rate} when media are degraded"
    edge, rate = f"below {band['low']:.2f}", f"{100 * band['false_negative_rate']:.0f} of 100 fakes called real"
    return f"leans to real at {probability:.2f}, but only {edge} are at most {rate} when media are degraded"


def _read(detector: Detector, path: Path) -> tuple[np.ndarray, str]:
    from components.media.videos import Sampling
    from components.media.view import Delivery, ViewPolicy, read_views

    card = detector.card
    read = list(
        read_views(
            path,
            ViewPolicy.parse(card["view"]),
            Sampling.parse(card.get("sampling", "even:8")),
            Delivery.parse(card.get("delivery", "as-is")),
        )
    )
    kind = "clip" if read[0][1]["kind"] == "frame" else "picture"
    return np.stack([views for views, _ in read]), kind


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    reason, detail = getattr(error, "reason", str(error)), getattr(error, "detail", "")
    return f"{reason}: {detail}" if detail else reason
