"""Evaluations as `evaluate` writes them, with scores of a wanted quality: real 0, fake 1, groups of two."""

import hashlib

import numpy as np

from components.bootstrap import draw_weights, intervals, replicates

UNITS = 240
MEASURES = ("roc_auc", "average_precision", "balanced_accuracy", "accuracy", "accuracy_real", "accuracy_fake")


def result(name, shift, degraded=None, seed=0, ece=0.05):
    """One detector's result: `shift` moves its fakes' scores away from the reals', in standard deviations."""
    random = np.random.default_rng(seed)
    labels = np.arange(UNITS) % 2
    noise = random.normal(size=UNITS)
    groups = [f"g{number // 4}-{number % 2}" for number in range(UNITS)]
    weights = draw_weights(np.array(groups), 200)

    def scored(by):
        return 1 / (1 + np.exp(-(noise + by * (labels - 0.5))))

    def measured(kind, named, probability):
        once = np.ones((1, UNITS), "float32")
        values = {key: float(value[0]) for key, value in replicates(labels, probability, 0.5, once).items()}
        return {
            "slice": named,
            "by": kind,
            "enough": True,
            **values,
            "ece": ece,
            "ece_by_chance": 0.05,
            "intervals": intervals(labels, probability, 0.5, weights),
        }

    conditions = {key: scored(by) for key, by in (degraded or {"jpeg:30": shift / 2}).items()}
    slices = [measured("all", "all", scored(shift))]
    slices += [measured("degradation", key, probability) for key, probability in conditions.items()]
    return {
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "threshold": 0.5,
        "overall": {**{key: slices[0][key] for key in MEASURES}, "ece": ece, "n": UNITS},
        "slices": slices,
        "scores": {
            "unit": [f"u{number:03d}" for number in range(UNITS)],
            "group": groups,
            "label": labels.tolist(),
            "kind": ["picture"] * UNITS,
            "source": ["camera", "generator"] * (UNITS // 2),
            "probability": scored(shift).tolist(),
            "degraded": {key: probability.tolist() for key, probability in conditions.items()},
        },
    }


SHARED = {
    "dataset_digest": "d" * 64,
    "rows_digest": "r" * 64,
    "certificate": {"holds": True, "text": "no group and no near-duplicate stands in two splits"},
    "audit": {"verdict": "pass", "text": "metadata alone tell nothing"},
}
