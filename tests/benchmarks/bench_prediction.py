"""From files to verdicts: against the plain ways of doing the same, with both backbones.

The media are made here: what matters is the work, not what is seen. The backbones are those beside the media, else
fresh ones, which compute as long.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import keras
import numpy as np
from clips import write_clip
from PIL import Image
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from timing import fastest, speed_row

from components import detector as detectors
from components import runtime
from components.bootstrap import draw_weights, replicates
from components.media.view import ViewPolicy
from components.prediction.examiner import Examiner
from components.training import model as training_model

SIZE, VIEW = 256, "crops256x9"
FEW = 24  # pictures of the directory row, which stand for 1,000: the time of each does not depend on the others
BEFORE = "9741181"  # the commit before the light runtime
WEIGHTS = {"mobilenetv2": "mobilenetv2_1.0_imagenet", "efficientnetb0": "efficientnetb0_photographs"}


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure every row with each backbone."""
    pictures = _write_pictures(work / "pictures")
    clip = write_clip(work / "clip.mp4", "1920x1080", 20, "-g", "25")
    for backbone, name in WEIGHTS.items():
        file = media.parent / "weights" / f"{name}_notop.weights.h5" if media else None
        network = _detector(work / backbone, backbone, str(file) if file and file.is_file() else "none", pictures)
        with Examiner(work / backbone) as examiner:
            yield from _warm(backbone, network, examiner, pictures)
            yield _directory(backbone, network, examiner, pictures)
            yield from _clip(backbone, network, examiner, clip)
        yield from _cold(backbone, work, pictures[0])
    yield _intervals()


def _write_pictures(folder: Path) -> list[Path]:
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.jpg" for number in range(FEW)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((1024, 768), Image.Resampling.BICUBIC), np.float32)
        # With a sensor's noise: what is perfectly smooth has no spread by which the features could be scaled.
        noisy = np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=88)
    return paths


def _detector(place: Path, backbone: str, weights: str, pictures: list[Path]) -> keras.Model:
    """Save a detector of the deep recipe whose head is drawn: its answers differ from file to file."""
    keras.utils.set_random_seed(0)
    network = training_model.build(backbone, weights, SIZE, depths=8, spread=True)
    views = np.concatenate([ViewPolicy.parse(VIEW).views(np.asarray(Image.open(path))) for path in pictures[:4]])
    read = keras.Model(network.inputs, network.get_layer("head_features").output)
    training_model.scale(network, [read.predict(views.astype("float32"), verbose=0)])
    head = network.get_layer("head_logit")
    shape = head.get_weights()[0].shape
    head.set_weights([np.random.default_rng(1).normal(0, 0.02, shape).astype("float32"), np.zeros(1, "float32")])
    card = {"view": VIEW, "sampling": "even:16", "delivery": "as-is", "threshold": 0.5}
    detectors.save(place, network, card)
    runtime.export(place, network, [(views[None, :9], "picture"), (views[None, 9:18], "picture")])
    return network


def _plain_views(path: Path) -> np.ndarray:
    return ViewPolicy.parse(VIEW).views(np.asarray(Image.open(path).convert("RGB")))


def _warm(backbone: str, network: keras.Model, examiner: Examiner, pictures: list[Path]) -> Iterator[dict]:
    """One picture after another, as a service meets them: the network alone, on the same crops."""
    crops = [_plain_views(path) for path in pictures[:8]]

    def times_of(ask: Callable[[np.ndarray], float]) -> tuple[np.ndarray, list[float]]:
        times, answers = [], []
        for views in crops:
            started = time.perf_counter()
            answers.append(ask(views))
            times.append(time.perf_counter() - started)
        return np.array(times), answers

    def plain(views: np.ndarray) -> float:
        return float(network.predict(views.astype("float32"), verbose=0).mean())

    def ours(views: np.ndarray) -> float:
        return float(examiner._network.logits(views[None])[0])

    times_of(plain), times_of(ours)
    rounds = [(times_of(plain), times_of(ours)) for _ in range(3)]
    before, after = (np.concatenate([one[side][0] for one in rounds]) for side in (0, 1))
    assert np.allclose(rounds[0][0][1], rounds[0][1][1], atol=2e-3)
    for name, share in (("p50", 50), ("p95", 95)):
        plain_s, ours_s = np.percentile(before, share), np.percentile(after, share)
        yield speed_row(f"one picture, warm, {name}, {backbone}", "model.predict", plain_s, ours_s, "9 crops", 5)


def _directory(backbone: str, network: keras.Model, examiner: Examiner, pictures: list[Path]) -> dict:
    """The pictures of a directory, one after another, file to verdict."""

    def plain() -> list[bool]:
        return [network.predict(_plain_views(path).astype("float32"), verbose=0).mean() >= 0 for path in pictures]

    def ours() -> list[bool]:
        return [examiner.examine(path, delivery_test=False).verdict == "fake" for path in pictures]

    (plain_s, before), (ours_s, after) = fastest(plain, ours, times=2)
    assert before == after
    name = f"1,000 pictures of a directory, {backbone} ({FEW} measured)"
    scale = 1000 / FEW
    return speed_row(name, "Pillow and model.predict in a loop", plain_s * scale, ours_s * scale, "same verdicts", 5)


def _clip(backbone: str, network: keras.Model, examiner: Examiner, path: Path) -> Iterator[dict]:
    """20 s of 1080p to a verdict, with the frames of training, and with keyframes first."""
    policy = ViewPolicy.parse(VIEW)

    def plain() -> bool:
        # What tutorials do: decode all, keep a frame a second, predict frame by frame, average.
        video, logits, number = cv2.VideoCapture(str(path)), [], 0
        while True:
            there, frame = video.read()
            if not there:
                break
            if number % 25 == 0:
                views = policy.views(np.ascontiguousarray(frame[..., ::-1]))
                logits.append(network.predict(views.astype("float32"), verbose=0).mean())
            number += 1
        return float(np.mean(logits)) >= 0

    def even() -> bool:
        logits = np.array([row.logits[0] for row in examiner._rows(path, examiner._sampling)])
        assert len(logits) >= 16
        return examiner._probability(logits, clip=True) >= 0.5

    def first() -> bool:
        answer = examiner.examine(path, delivery_test=False)
        assert answer.frames >= 16
        return answer.verdict == "fake"

    (plain_s, before), (even_s, after), (first_s, keyframes) = fastest(plain, even, first, times=2)
    assert before == after == keyframes
    baseline = "OpenCV decodes all, model.predict at 1 fps"
    yield speed_row(f"20 s of 1080p, 16 even frames, {backbone}", baseline, plain_s, even_s, "same verdict", 5)
    yield speed_row(f"20 s of 1080p, 16 keyframes, {backbone}", baseline, plain_s, first_s, "same verdict", 10)


def _cold(backbone: str, work: Path, picture: Path) -> Iterator[dict]:
    """A whole process for one picture: the command before the light runtime, and now."""
    tree, root = work / "before", Path(__file__).resolve().parents[2]
    subprocess.run(["git", "-C", root, "worktree", "add", "-q", "--detach", tree, BEFORE], check=True)
    try:
        sides = []
        for place, module, options in (
            (tree, "pipelines.cli", []),
            (root, "pipelines.commands.main", ["--no-delivery-test"]),
        ):
            command = [sys.executable, "-m", module, "check", picture, "--model", work / backbone, *options, "--json"]
            sides.append([_process(list(map(str, command)), place) for _ in range(2)])
        (plain_s, plain_mb), (ours_s, ours_mb) = (
            tuple(min(values) for values in zip(*side, strict=True)) for side in sides
        )
    finally:
        subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=False, capture_output=True)
    yield speed_row(f"check of one picture, cold, {backbone}", f"commit {BEFORE}", plain_s, ours_s, "whole process", 4)
    yield {
        "name": f"check of one picture, cold, memory, {backbone}",
        "baseline": f"commit {BEFORE}: {plain_mb:.0f} MB",
        "ours": f"{ours_mb:.0f} MB",
        "ratio": round(plain_mb / ours_mb, 2),
        "goal": ">= 3x",
        "met": plain_mb / ours_mb >= 3,
    }


# A process inherits its parent's largest resident memory, which is this one's: a small one stands between.
MEASURED = """
import resource, subprocess, sys, time

started = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _process(command: list[str], place: Path) -> tuple[float, float]:
    """Return the seconds and the largest resident memory, MB, of a process."""
    printed = subprocess.check_output([sys.executable, "-c", MEASURED, *command], cwd=place, text=True)
    seconds, kilobytes = printed.split()
    return float(seconds), int(kilobytes) / 1000


def _intervals() -> dict:
    """A slice's 1,000 draws of the bootstrap."""
    random = np.random.default_rng(1)
    labels = np.arange(600) % 2
    probabilities = np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    weights = draw_weights(np.arange(600) // 2)
    few = 50  # of the plain loop, scaled up

    def balanced(labels: np.ndarray, values: np.ndarray, sample_weight: np.ndarray) -> float:
        return balanced_accuracy_score(labels, values >= 0.5, sample_weight=sample_weight)

    def plain() -> np.ndarray:
        scores = (roc_auc_score, average_precision_score, balanced)
        return np.array([[one(labels, probabilities, sample_weight=draw) for one in scores] for draw in weights[:few]])

    def ours() -> np.ndarray:
        found = replicates(labels, probabilities, 0.5, weights)
        return np.stack([found[name] for name in ("roc_auc", "average_precision", "balanced_accuracy")], axis=1)

    (plain_s, before), (ours_s, after) = fastest(plain, ours, times=4)
    assert np.allclose(before, after[:few], atol=1e-4)
    plain_s *= len(weights) / few
    name = "bootstrap of a slice, 1,000 draws"
    return speed_row(name, "scikit-learn draw by draw", plain_s, ours_s, "all at once", 20)
