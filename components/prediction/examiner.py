"""Asks a detector about files: loaded once, asked many times, from any thread."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.containers import VERSION
from components.known_media import KnownMedia
from components.media.degradation_names import CLEAN
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views
from components.media.workers import KILLED, LIMITS, Limits, Workers
from components.prediction.provenance import read_provenance
from components.prediction.verdict import UNSURE, Moment, Verdict, decide, segments_of
from components.runtime import Runtime, verdict_of
from components.units import NOT_FOR_VIDEOS

# What happens to the file itself on its way; the answer must survive it.
DELIVERIES = ("jpeg:75", "jpeg:40", "resize:0.5", "cut:0.8")
KEYFRAMES = Sampling("keyframes", 16)  # cheapest to read: a first look at a video
ENOUGH_KEYFRAMES = 8  # with fewer the first look decides nothing
DELIVERED_FRAMES = 4  # of a video that the delivery test looks at: each costs as much as a picture
FEW = Sampling("even", DELIVERED_FRAMES)


class Examiner:
    """A detector that answers about files.

    Args:
        detector: The detector's directory.
        version: What the receipt says of where it comes from: `model`, `version`, `alias`.
        limits: What the detector must not be used for, a sentence each.
        workers: Processes that read files; a pool of its own, of one process, if not given.
        reading: The bounds of one file in that pool.
        threads: Threads of one forward pass; 0 for as many as there are cores.
        longest_s: Of a video, in seconds; a longer one is not read. 0 for any.
        engine: "runtime", or "keras": the reference, which needs TensorFlow.

    Raises:
        InputError: There is no whole detector in the directory.
    """

    def __init__(
        self,
        detector: str | Path,
        *,
        version: Mapping[str, str] | None = None,
        limits: Sequence[str] = (),
        workers: Workers | None = None,
        reading: Limits = LIMITS,
        threads: int = 0,
        longest_s: float = 0.0,
        engine: str = "runtime",
    ):
        self.directory = Path(detector)
        self._workers = workers or Workers(1, reading)
        self._own = workers is None
        self._workers.start()  # they import what they need while the network is loaded
        try:
            self._network: Any = _keras(self.directory) if engine == "keras" else Runtime(detector, threads=threads)
        except BaseException:
            self.close()
            raise
        self._threads, self._loading = threads, threading.Lock()
        self._depths: Runtime | None = None
        self.card: Mapping[str, Any] = self._network.card
        self._view = ViewPolicy.parse(self.card["view"])
        self._sampling = Sampling.parse(self.card.get("sampling") or "even:8")
        self._delivery = Delivery.parse(self.card.get("delivery") or "as-is")
        self._whole = len(self.card.get("tiers") or [CLEAN]) > 1  # as the training's views were decoded
        threshold = float(self.card["threshold"])
        self._band = self.card.get("abstention") or {"low": threshold, "high": threshold}
        self._known = KnownMedia(self.directory)
        self._familiarity = _familiarity(self.directory)
        self._limits, self._longest_s = tuple(limits), longest_s
        self._receipt = {
            "model": "",
            "version": "",
            "alias": "",
            **(version or {}),
            "run": self.card.get("mlflow_run", ""),
            "commit": (self.card.get("revision") or {}).get("commit", ""),
            "data_version": self.card.get("data_version", ""),
            "view": self.card["view"],
            "delivery": str(self._delivery),
            "package": VERSION,
            "digest": self.card["digest"],
            "engine": self.card["runtime"]["engine"] if engine == "runtime" else "keras",
        }

    def __enter__(self) -> "Examiner":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the reading processes, if they are this examiner's own."""
        if self._own:
            self._workers.close()

    def examine(
        self, path: str | Path, *, name: str = "", delivery_test: bool = True, explain: bool = False
    ) -> Verdict:
        """Answer about one file.

        Args:
            path: The file.
            name: What the answer calls it; its path if not given.
            delivery_test: Whether it is looked at again as it would look recompressed, at half scale and cropped.
            explain: Whether a heat map is made.

        Returns:
            The answer; `error` says why where the file cannot be read.
        """
        shown = name or str(path)
        try:
            try:
                rows, sampling, delivered = self._examined(path, delivery_test)
            except MediaError as error:
                if error.detail != KILLED:
                    raise
                rows, sampling, delivered = self._examined(path, delivery_test)  # once more: it may not be the file
        except MediaError as error:
            return Verdict(shown, error=str(error), receipt={**self._receipt, "frames": 0, "sampling": ""})
        clip = rows[0].about["kind"] == "frame"
        logits = np.array([row.logits[0] for row in rows])
        probability = self._probability(logits, clip)
        familiarity = self._familiar(np.stack([row.features for row in rows]).mean(axis=0), clip)
        verdict, reason, deliveries = decide(self.card, probability, delivered, familiarity)
        timeline = self._timeline(rows, logits) if clip else []
        nearest = self._known.nearest([row.about["perceptual_hash"] for row in rows])
        answer = Verdict(
            path=shown,
            kind="clip" if clip else "picture",
            verdict=verdict,
            reason=reason,
            probability=probability,
            frames=len(rows),
            band={key: float(self._band[key]) for key in ("low", "high")},
            familiarity=familiarity,
            deliveries=deliveries,
            timeline=timeline,
            segments=segments_of(timeline, float(self._band["high"])),
            provenance=self._provenance(path),
            nearest=[vars(known) for known in nearest],
            receipt={**self._receipt, "frames": len(rows), "sampling": str(sampling) if clip else ""},
            limits=tuple(limit for limit in self._limits if clip or not limit.startswith(NOT_FOR_VIDEOS)),
        )
        return self._explained(path, answer) if explain else answer

    def _examined(self, path: str | Path, delivery_test: bool) -> tuple[list["_Row"], Sampling, dict[str, float]]:
        rows, sampling = self._look(path)
        clip = rows[0].about["kind"] == "frame"
        return rows, sampling, self._after_deliveries(path, sampling, rows, clip) if delivery_test else {}

    def _look(self, path: str | Path) -> tuple[list["_Row"], Sampling]:
        """Score a picture, or a video's keyframes; where these do not clearly decide, the frames as in training."""
        rows = list(self._rows(path, KEYFRAMES))
        if rows[0].about["kind"] == "picture" or str(self._sampling) == str(KEYFRAMES):
            return rows, KEYFRAMES
        if len(rows) >= ENOUGH_KEYFRAMES:
            logits = np.array([row.logits[0] for row in rows])
            error = logits.std(ddof=1) / np.sqrt(len(logits))  # of their mean: other frames would move it by as much
            answers = {verdict_of(self.card, self._probability(logits + by, clip=True)) for by in (-error, 0, error)}
            if len(answers) == 1 and UNSURE not in answers:
                return rows, KEYFRAMES
        return list(self._rows(path, self._sampling)), self._sampling

    def _rows(self, path: str | Path, sampling: Sampling, conditions: Sequence[str] = (CLEAN,)) -> Iterator["_Row"]:
        arguments = (path, self._view, sampling, self._delivery, conditions, self._whole, self._longest_s)
        for views, about in self._workers.read(read_rows, *arguments):
            # Condition by condition, each as a row of its own.
            each = views.reshape(len(conditions), -1, *views.shape[1:])
            logits, features = self._network.logits_and_features(each)
            yield _Row(logits, features[0], about)

    def _probability(self, logits: np.ndarray, clip: bool) -> float:
        return self._network.clip_probability(logits) if clip else float(self._network.calibrate(logits)[0])

    def _after_deliveries(
        self, path: str | Path, sampling: Sampling, rows: Sequence["_Row"], clip: bool
    ) -> dict[str, float]:
        # Of a video a few frames are delivered; the others count as moved by as much as these.
        few = replace(sampling, amount=min(sampling.amount, DELIVERED_FRAMES)) if sampling.kind != "rate" else FEW
        again = np.stack([row.logits for row in self._rows(path, few, (CLEAN, *DELIVERIES))])
        moved = (again[:, 1:] - again[:, :1]).mean(axis=0)
        plain = np.array([row.logits[0] for row in rows])
        return {name: self._probability(plain + by, clip) for name, by in zip(DELIVERIES, moved, strict=True)}

    def _familiar(self, features: np.ndarray, clip: bool) -> dict[str, Any] | None:
        if self._familiarity is None:
            return None
        measured = self._familiarity.measure(features, "clip" if clip else "picture")
        return {
            "score": float(measured.score),
            "threshold": float(measured.threshold),
            "familiar": bool(measured.familiar),
            "nearest": str(measured.nearest),
        }

    def _timeline(self, rows: list["_Row"], logits: np.ndarray) -> list[Moment]:
        values = self._network.calibrate(logits, "frame")
        return [Moment(float(row.about["time_s"]), float(value)) for row, value in zip(rows, values, strict=True)]

    def _provenance(self, path: str | Path) -> dict[str, Any]:
        with contextlib.suppress(MediaError):
            (read,) = self._workers.read(read_provenance, path)
            return read
        return {"c2pa": None, "metadata": []}

    def _explained(self, path: str | Path, answer: Verdict) -> Verdict:
        from components.prediction.explanation import heat_map, read_tiles

        worst = max(answer.timeline, key=lambda moment: moment.probability, default=None)
        moment = worst.time_s if worst else None
        sampling = Sampling.parse(answer.receipt["sampling"] or str(self._sampling))
        with self._loading:  # the activations are large and rarely wanted
            depths = self._depths = self._depths or Runtime(self.directory, threads=self._threads, depths=True)
        try:
            ((tiles, corners, pixels),) = self._workers.read(
                read_tiles, path, self._view, self._delivery, sampling, moment
            )
        except MediaError:
            return answer
        return replace(answer, heat_map=heat_map(depths, tiles, corners, pixels), heat_map_time_s=moment)


class _Row:
    """What was computed of a picture or of one frame: a logit for each condition, and the head's features as it is."""

    def __init__(self, logits: np.ndarray, features: np.ndarray, about: dict[str, Any]):
        self.logits, self.features, self.about = logits, features, about


def read_rows(
    path: str | Path,
    view: ViewPolicy,
    sampling: Sampling,
    delivery: Delivery,
    conditions: Sequence[str],
    whole: bool,
    longest_s: float = 0.0,
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Read the views of a file as training did; see `read_views`. It runs in a worker.

    Raises:
        MediaError: The file gives no pixels, or is a video of more than `longest_s` seconds, where that is not 0.
    """
    for views, about in read_views(path, view, sampling, delivery, conditions, whole=whole):
        if longest_s and (seconds := _seconds(about)) > longest_s:
            raise MediaError("too long", f"a video of {seconds:.0f} s; at most {longest_s:.0f} s are accepted")
        yield views, {key: about[key] for key in ("kind", "time_s", "perceptual_hash")}


def _seconds(about: Mapping[str, Any]) -> float:
    # Of the whole video by what its container says, else up to this frame.
    return max(8 * about["bytes"] / about["bitrate"] if about["bitrate"] else 0.0, about["time_s"] or 0.0)


class _Keras:
    """The reference behind the runtime's interface."""

    def __init__(self, directory: Path):
        from components.detector import Detector

        detector = Detector(directory)
        self.model = detector.model  # loaded now, so that a damaged one is reported before any file is read
        self.card = detector.card
        self.logits, self.calibrate = detector.logits, detector.calibrate
        self.clip_probability = detector.clip_probability

    def logits_and_features(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.logits(views), np.zeros((len(views), 0), np.float32)


def _keras(directory: Path) -> _Keras:
    return _Keras(directory)


def _familiarity(directory: Path) -> Any:
    if not (directory / "familiarity.npz").is_file():
        return None
    from components.familiarity import Familiarity

    return Familiarity.read(directory)


def dumps(verdict: Verdict) -> str:
    """Return a verdict as one line of JSON."""
    return json.dumps(verdict.to_json(), ensure_ascii=True)
