"""Evaluations as `evaluate` writes them, with scores of a wanted quality: real 0, fake 1, groups of two."""

import hashlib
from dataclasses import replace

import numpy as np

from components.bootstrap import draw_weights, intervals
from components.evaluation.metrics import measure
from components.evaluation.selective import risk_coverage
from components.evaluation_result import (
    Band,
    DetectorResult,
    EvaluationResult,
    Goals,
    Judged,
    Measures,
    Scores,
    Selective,
    SliceResult,
)

UNITS = 240
SHARED = {
    "dataset_digest": "d" * 64,
    "rows_digest": "r" * 64,
    "certificate": {"holds": True, "text": "No group and no near-duplicate crosses a split."},
    "audit": {"verdict": "pass", "text": "Metadata alone do not give the label away."},
}


def result(name, shift, degraded=None, seed=0, ece=0.05):
    """One detector's result: `shift` moves its fakes' scores away from the reals', in standard deviations."""
    random = np.random.default_rng(seed)
    labels = np.arange(UNITS) % 2
    noise = random.normal(size=UNITS)
    groups = [f"g{number // 4}-{number % 2}" for number in range(UNITS)]
    weights = draw_weights(np.array(groups), 200)

    def scored(by):
        return 1 / (1 + np.exp(-(noise + by * (labels - 0.5))))

    def part(by, named, probability):
        return SliceResult(
            name=named,
            by=by,
            enough=True,
            measures=replace(measure(labels, probability), ece=ece),
            intervals=intervals(labels, probability, np.array(groups), 0.5, weights),
            ece_by_chance=0.05,
        )

    conditions = {key: scored(by) for key, by in (degraded or {"jpeg:30": shift / 2}).items()}
    slices = [part("all", "all", scored(shift))]
    slices += [part("degradation", key, probability) for key, probability in conditions.items()]
    overall, band = slices[0].measures, Band(0.4, 0.6)
    kinds, sources = ["picture"] * UNITS, ["camera", "generator"] * (UNITS // 2)
    return DetectorResult(
        digest=hashlib.sha256(name.encode()).hexdigest(),
        backbone="b0",
        threshold=0.5,
        overall=overall,
        by_kind={"picture": overall},
        by_label={},
        by_source={},
        slices=slices,
        selective=Selective(band, risk_coverage(labels, scored(shift), 0.5, band)),
        goals=Goals(overall.balanced_accuracy, None, None, None, None, None),
        scores=Scores(
            unit=[f"u{number:03d}" for number in range(UNITS)],
            group=groups,
            label=labels.tolist(),
            kind=kinds,
            source=sources,
            probability=scored(shift).tolist(),
            degraded={key: probability.tolist() for key, probability in conditions.items()},
        ),
    )


def evaluation(name, shift, champion=None, **changes):
    """What `evaluate` writes; the champion is another's name, shift and version, `changes` are of the candidate."""
    theirs, their_shift, version = champion or ("", 0, "")
    return EvaluationResult(
        **SHARED,
        candidate=replace(result(name, shift), **changes),
        champion=result(theirs, their_shift) if champion else None,
        champion_version=version,
    )


def judged(name, shift, *, version="", overall=None, slices=None, scores=None, shared=None, **kept):
    """One side of a comparison; `overall` holds measures, `slices` and `scores` take the place of its own."""
    own = result(name, shift, **kept)
    changes = {"slices": slices, "scores": scores, "overall": overall and Measures(240, 120, 120, **overall)}
    own = replace(own, **{key: value for key, value in changes.items() if value is not None})
    return Judged(own, version=version, **{**SHARED, **(shared or {})})
