"""Score a detector under every condition and measure it: one of the two results of an evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components import outputs
from components.bootstrap import draw_weights
from components.calibration import score_under
from components.dataset import Dataset, DatasetWriter, batches
from components.detector import Detector, calibrated
from components.errors import InputError
from components.evaluation.answers import answered
from components.evaluation.metrics import measure
from components.evaluation.selective import compare_clips, risk_coverage
from components.evaluation.slices import slices
from components.evaluation_result import (
    CLEAN,
    Band,
    ClipAnswers,
    Clips,
    DetectorResult,
    Goals,
    Measures,
    Scores,
    Selective,
    SliceResult,
    worst_slice,
)
from components.familiarity import Familiarity, of_units
from components.media import degradations
from components.progress import follow
from components.runtime import Runtime
from components.units import Units, unit_probabilities

ROWS_AT_ONCE = 16


def judge(detector: Detector, data: Dataset, units: Units, conditions: list[str]) -> DetectorResult:
    """Judge a detector on some units, clean and under each degradation.

    Args:
        detector: What is judged.
        data: The dataset.
        units: Its units that count.
        conditions: Names of degradations.

    Returns:
        What came of it; neither the sources left out nor the limits are in it.
    """
    kinds = set(units.kind)
    conditions = [name for name in conditions if any(degradations.applies(name, kind) for kind in kinds)]
    by_file = [name for name in conditions if degradations.acts_on_files(name)]
    scorer = Scorer(detector)
    with _seen_by(detector, data, units, by_file) as (views, seen):
        answers = {
            name: _answers(scorer, views, seen, name)
            for name in follow([CLEAN, *conditions], "evaluate", "conditions", 1 + len(conditions))
        }
    logits = {name: answer.logits for name, answer in answers.items()}
    probabilities = {name: _probabilities(detector, units, values, name) for name, values in logits.items()}
    threshold = detector.threshold
    clean = probabilities[CLEAN]

    def by(values: np.ndarray) -> dict[str, Measures]:
        names = sorted(set(values))
        return {str(v): measure(units.label[values == v], clean[values == v], threshold) for v in names}

    parts = slices(units, probabilities, threshold, draw_weights(units.group))
    selective = _selective(detector, units, probabilities)
    card = detector.card
    return DetectorResult(
        digest=card["digest"],
        backbone=card.get("backbone", ""),
        recipe=card.get("recipe", ""),
        view=str(card.get("view", "")),
        threshold=float(threshold),
        overall=measure(units.label, clean, threshold),
        by_kind=by(units.kind),
        by_label=by(np.array(["real", "fake"], dtype=object)[units.label]),
        by_source=by(units.source),
        slices=parts,
        selective=selective,
        clips=_clips(detector, units, logits, probabilities),
        answers=[
            answered(name, detector.card, units, probabilities[name], answer.familiarity)
            for name, answer in answers.items()
            if answer.familiarity is not None
        ],
        goals=_goals(parts, selective),
        scores=Scores(
            unit=units.path.tolist(),
            group=units.group.tolist(),
            label=units.label.tolist(),
            kind=units.kind.tolist(),
            source=units.source.tolist(),
            probability=clean.tolist(),
            degraded={name: _known(probabilities[name]) for name in conditions},
        ),
    )


def _probabilities(detector: Detector, units: Units, logits: np.ndarray, name: str) -> np.ndarray:
    # NaN where a condition does not apply; anywhere else a probability that is not finite is an error.
    applies = np.array([name == CLEAN or degradations.applies(name, kind) for kind in units.kind])
    out = np.full(len(units), np.nan)
    chosen = units.only(applies)
    out[applies] = unit_probabilities(detector.card, chosen, logits[applies[units.owner]])
    return out


def _known(probabilities: np.ndarray) -> list[float | None]:
    return [value if value == value else None for value in probabilities.tolist()]


def _answers(scorer: "Scorer", views: Dataset, units: Units, name: str) -> "Answers":
    applies = np.array([name == CLEAN or degradations.applies(name, kind) for kind in units.kind])
    logits = np.full(len(units.rows), np.nan, dtype=np.float32)
    known = scorer.familiarity if name in views.tiers else None
    familiarity = np.full(len(units), np.nan) if known else None
    chosen = units.only(applies)
    if not len(chosen):
        return Answers(logits, familiarity)
    if name in views.tiers:
        scored, features = scorer.tier(views, chosen, name)
        if known is not None and familiarity is not None and features is not None:
            familiarity[applies] = known.scores(of_units(features, chosen.owner), chosen.kind)[0]
    else:
        scored = score_under(scorer.logits, views, chosen, np.full(len(chosen), name, dtype=object))
    logits[applies[units.owner]] = scored
    return Answers(logits, familiarity)


@dataclass(frozen=True)
class Answers:
    """What a detector says under one condition.

    Attributes:
        logits: Of the rows, (rows,); NaN where the condition does not apply.
        familiarity: Of the units, (units,), likewise; None where it is not measured.
    """

    logits: np.ndarray
    familiarity: np.ndarray | None


class Scorer:
    """A detector's answers by the light runtime, where it was exported, else by Keras.

    Args:
        detector: What scores.
    """

    def __init__(self, detector: Detector):
        self.detector, self.runtime, self.familiarity = detector, None, None
        if detector.exported:
            self.runtime = Runtime(detector.directory)
            if "familiarity" in detector.card:
                self.familiarity = Familiarity.read(detector.directory)

    def logits(self, views: np.ndarray) -> np.ndarray:
        """Score views, uint8, (rows, views, size, size, 3): logits, float32, (rows,)."""
        return self.runtime.logits(views) if self.runtime else self.detector.logits(views)

    def tier(self, data: Dataset, units: Units, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Score the rows of units in one tier of a dataset: logits, (rows,), and features, (rows, features)."""
        logits, features = [], []
        for rows in batches(units.rows, ROWS_AT_ONCE):
            views = data.views(rows, name)
            if self.runtime:
                part, read = self.runtime.logits_and_features(views)
                features.append(read)
            else:
                part = self.detector.logits(views)
            logits.append(part)
        return np.concatenate(logits), np.concatenate(features) if features else None


def _pooled(units: Units, probabilities: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    # Labels and probabilities of every degraded unit.
    degraded = [values for name, values in probabilities.items() if name != CLEAN]
    if not degraded:
        return units.label[:0], probabilities[CLEAN][:0]
    values = np.concatenate(degraded)
    known = np.isfinite(values)
    return np.tile(units.label, len(degraded))[known], values[known]


def _selective(detector: Detector, units: Units, probabilities: dict[str, np.ndarray]) -> Selective:
    band = Band(**{"low": detector.threshold, "high": detector.threshold, **detector.card.get("abstention", {})})
    labels, degraded = _pooled(units, probabilities)
    return Selective(
        band=band,
        clean=risk_coverage(units.label, probabilities[CLEAN], detector.threshold, band),
        degraded=risk_coverage(labels, degraded, detector.threshold, band) if len(labels) else None,
    )


def _clips(
    detector: Detector, units: Units, logits: dict[str, np.ndarray], probabilities: dict[str, np.ndarray]
) -> Clips | None:
    clips = np.flatnonzero(units.kind == "clip")
    if not len(clips):
        return None

    def averaged(values: np.ndarray) -> np.ndarray:
        return np.array([calibrated(detector.card, values[units.owner == clip], "frame").mean() for clip in clips])

    shown = [name for name in logits if name == CLEAN or degradations.applies(name, "clip")]
    means = {name: averaged(logits[name]) for name in shown}

    def compared(names: list[str]) -> ClipAnswers:
        labels = np.tile(units.label[clips], len(names))
        aggregated = np.concatenate([probabilities[name][clips] for name in names])
        return compare_clips(labels, aggregated, np.concatenate([means[name] for name in names]), detector.threshold)

    degraded = [name for name in shown if name != CLEAN]
    return Clips(clean=compared([CLEAN]), degraded=compared(degraded) if degraded else None)


def _goals(parts: list[SliceResult], selective: Selective) -> Goals:
    """Pick the few numbers that sum up how the detector stands degradation."""
    clean = next(part.measures for part in parts if part.by == "all")
    degraded = [part for part in parts if part.by == "degradation" and part.enough]
    lowest = worst_slice(degraded)
    accuracies = [value for part in degraded if (value := part.measures.balanced_accuracy) is not None]
    eces = [value for part in (clean, *(part.measures for part in degraded)) if (value := part.ece) is not None]
    before, after = clean.balanced_accuracy, lowest.measures.balanced_accuracy if lowest else None
    return Goals(
        clean_balanced_accuracy=clean.balanced_accuracy,
        degraded_mean_balanced_accuracy=float(np.mean(accuracies)) if accuracies else None,
        worst_degraded=lowest.name if lowest else None,
        worst_degraded_to_clean=after / before if before and after is not None else None,
        ece_worst=max(eces, default=None),
        error_at_80_to_full=selective.degraded.ratio_80 if selective.degraded else None,
    )


@contextmanager
def _seen_by(detector: Detector, data: Dataset, units: Units, conditions: list[str]) -> Iterator[tuple[Dataset, Units]]:
    """Give the dataset as a detector sees it, under some conditions: its files are read again where that is needed.

    Args:
        detector: What looks.
        data: The dataset.
        units: Whose files are seen.
        conditions: Degradations that act on the files.
    """
    policies = ("view", "delivery")
    same = all(str(detector.card.get(key, data.card.get(key))) == str(data.card.get(key)) for key in policies)
    if same and not conditions:
        yield data, units
        return
    with outputs.passing("ai-vs-real-views-") as place:
        yield (
            _read_again(detector, data, units, conditions, place / "dataset"),
            replace(units, rows=np.arange(len(units.rows))),
        )


def _read_again(detector: Detector, data: Dataset, units: Units, conditions: list[str], place: Path) -> Dataset:
    from components.media.pictures import MediaError
    from components.media.stores import fetched
    from components.media.videos import Sampling
    from components.media.view import Delivery, ViewPolicy, read_views

    view = ViewPolicy.parse(detector.card.get("view") or data.card["view"])
    delivery = Delivery.parse(detector.card.get("delivery") or "as-is")
    sampling = Sampling.parse(data.card["sampling"])
    moments = data.column("time_s")
    tiers = (CLEAN, *conditions)
    with DatasetWriter(place, view.shape, tiers) as writer:
        for unit in follow(range(len(units)), "evaluate", "files read again", len(units)):
            path, rows = units.path[unit], units.rows_of(unit)
            try:
                with fetched(data.card.get("media", []), path) as file:
                    read = read_views(file, view, sampling, delivery, tiers, held_out=True)
                    views_at = {row.get("time_s"): views for views, row in read}
                wanted = [None if np.isnan(moments[row]) else moments[row] for row in rows]
                for moment in wanted:
                    writer.append(views_at[moment], {"label": int(units.label[unit])})
            except (MediaError, KeyError, OSError) as error:
                raise InputError(
                    f"the detector {detector.card['digest'][:12]} is to be judged by {view} of the files themselves, "
                    f"under {', '.join(tiers)}, and {path} cannot be read again ({error}); put the media back in place"
                ) from error
    return Dataset(place)
