"""From files to verdicts, and from verdicts to intervals: against the plain ways of doing the same."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import keras
import numpy as np
from clips import write_clip
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from timing import fastest, speed_row

from components import detector as detectors
from components.bootstrap import draw_weights, replicates
from components.detector import Detector
from components.media.videos import Sampling
from components.media.view import ViewPolicy, read_views
from components.prediction.verdict import check

SIZE = 256


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure; `media` is not needed: what matters is the work, not what is seen."""
    keras.utils.set_random_seed(0)
    base = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool")(base.output)
    model = keras.Model(base.inputs, keras.layers.Dense(1, name="head_logit")(pooled))
    card = {"view": f"resize{SIZE}", "sampling": "keyframes:16", "delivery": "as-is", "threshold": 0.5}
    detectors.save(work / "detector", model, card)
    detector = Detector(work / "detector")
    yield _pictures(detector)
    yield _clip(detector, work)
    yield _intervals()


def _pictures(detector: Detector) -> dict:
    """One picture after another, as a service meets them."""
    pictures = np.random.default_rng(0).integers(0, 256, (12, 1, SIZE, SIZE, 3), dtype=np.uint8)

    def plain() -> list[float]:
        return [float(detector.model.predict(one.astype("float32"), verbose=0)[0, 0]) for one in pictures]

    def ours() -> list[float]:
        return [float(detector.logits(one[None])[0]) for one in pictures]

    (plain_s, before), (ours_s, after) = fastest(plain, ours, times=4)
    assert np.allclose(before, after, atol=1e-3)
    return speed_row(
        "one picture at a time, EfficientNetB0", "model.predict", plain_s / 12, ours_s / 12, "compiled call", 1.5
    )


def _clip(detector: Detector, work: Path) -> dict:
    """20 s of 1080p to a verdict."""
    path = write_clip(work / "clip.mp4", "1920x1080", 20, "-g", "50")

    def plain() -> tuple[int, float]:
        # What tutorials do: decode all, keep a frame a second, resize, predict one by one, average.
        video, logits, number = cv2.VideoCapture(str(path)), [], 0
        while True:
            found, frame = video.read()
            if not found:
                break
            if number % 25 == 0:
                view = cv2.resize(frame[:, 420:1500, ::-1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
                logits.append(detector.model.predict(view[None].astype("float32"), verbose=0)[0, 0])
            number += 1
        return len(logits), float(np.mean(logits))

    def ours() -> tuple[int, float]:
        views = [one for one, _ in read_views(path, ViewPolicy.parse(f"resize{SIZE}"), Sampling.parse("keyframes:16"))]
        logits = detector.logits(np.stack(views))
        return len(logits), float(logits.mean())

    (plain_s, (many, before)), (ours_s, (few, after)) = fastest(plain, ours)
    (answer,) = check([path], work / "detector")
    assert answer["frames"] == few
    assert abs(before - after) < 0.3, (before, after)
    shown = f"{few} keyframes in one batch"
    return speed_row(
        "20 s of 1080p to a verdict", f"all decoded, {many} frames predicted one by one", plain_s, ours_s, shown, 3
    )


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
