"""What a detector must not be used for, in plain words, from the numbers alone."""

from typing import Any

import numpy as np

from components.evaluation_result import DetectorResult, EvaluationResult, SliceResult
from components.units import NOT_FOR_VIDEOS

GOOD_ENOUGH = 0.80  # balanced accuracy
TRUSTED_WRONG = 0.10  # share of a left-out source that is answered wrongly
TRUSTED_ECE = 0.05
SHORTCUT_AUC = 0.75  # of a classifier that never looks at the picture itself
FEW_CLIPS = 20  # of each label
TRUSTED_UNSEEN_AUC = 0.9  # on a source left out of training
SHORTCUTS = {
    "metadata": "the files' metadata alone reach",
    "thumbnail": "the pixels of an 8 × 8 thumbnail alone reach",
    "traces": "the traces of size and compression in the views alone reach",
}


def limits(evaluation: EvaluationResult) -> list[str]:
    """Return what the candidate must not be used for, one sentence each, the gravest first.

    Args:
        evaluation: The evaluation; the limits that stand in it already are not read.
    """
    result = evaluation.candidate
    return [
        *_sample(evaluation),
        *_alone(result),
        *_places(result),
        *_unseen(result),
        *_unfamiliar(result),
        *_clips(result),
        *_probabilities(result),
        *_shortcuts(evaluation.audit or {}),
    ]


def _sample(evaluation: EvaluationResult) -> list[str]:
    if not evaluation.note:
        return []
    return ["Not for anything outside this exercise: the media were made for it, and no figure here is field accuracy."]


def _alone(result: DetectorResult) -> list[str]:
    sentences = []
    balanced = result.overall.balanced_accuracy
    if balanced is not None and balanced < GOOD_ENOUGH:
        sentences.append(
            f"Not for decisions of any kind as it stands: its balanced accuracy is {_percent(balanced)}, and guessing "
            "reaches 50 %."
        )
    rates = [(part.banded.false_positive_rate or 0.0, name) for name, part in result.selective.parts.items()]
    rate, worst = max(rates)
    if rate > 0:
        where = "degraded real files" if worst == "degraded" else "real files"
        sentences.append(
            f"Not as the only evidence against anyone: it calls {_percent(rate)} of {where} fake, not counting "
            "those where it is unsure."
        )
    return sentences


def _places(result: DetectorResult) -> list[str]:
    weak = [part for part in result.slices if part.enough and part.by != "label" and _value(part) < GOOD_ENOUGH]
    sentences = []
    for by, lead in (
        ("degradation", "Not for media that went through any of these"),
        ("source", "Not for these sources"),
        ("kind", "Not for these kinds of media"),
        ("size", "Not for originals of these sizes"),
    ):
        parts = sorted((part for part in weak if part.by == by), key=_value)
        if parts:
            named = ", ".join(_named(part, worst=part == result.worst_slice) for part in parts)
            sentences.append(f"{lead} (balanced accuracy in brackets): {named}.")
    return sentences


def _unseen(result: DetectorResult) -> list[str]:
    left_out = [
        (unseen, seen, source.source)
        for source in result.cross_source or []
        if source.label == "fake"
        and (unseen := source.unseen.roc_auc) is not None
        and (seen := source.seen.roc_auc) is not None
    ]
    if left_out:
        unseen, seen, name = min(left_out)
        if unseen < TRUSTED_UNSEEN_AUC:
            return [
                f"Not for generators that it was not trained on: with {name} left out of training, the ROC AUC "
                f"on it falls from {seen:.2f} to {unseen:.2f}."
            ]
        return []
    fakes = [name for name, measures in result.by_source.items() if measures.n_fake]
    return [
        f"Not for generators other than {', '.join(fakes)}: it was not measured on a generator that it has never seen."
    ]


def _unfamiliar(result: DetectorResult) -> list[str]:
    measured = [(wrong, part.source) for part in result.cross_source or [] if (wrong := part.wrong) is not None]
    if not measured:
        return []
    (worst, source), mean = max(measured), float(np.mean([wrong for wrong, _ in measured]))
    if worst <= TRUSTED_WRONG:
        return []
    return [
        f"Not for sources unlike those it was trained on: of a source left out of training it answers "
        f"{_percent(mean)} wrongly on average, and {_percent(worst)} of {source}."
    ]


def _clips(result: DetectorResult) -> list[str]:
    clips = result.by_kind.get("clip")
    if not clips:
        return [f"{NOT_FOR_VIDEOS}: the test split holds none."]
    if min(clips.n_real, clips.n_fake) < FEW_CLIPS:
        return [f"{NOT_FOR_VIDEOS} yet: it was judged on only {clips.n_real} real and {clips.n_fake} fake clips."]
    return []


def _probabilities(result: DetectorResult) -> list[str]:
    off = [
        part
        for part in result.slices
        if part.enough
        and part.by in ("all", "degradation")
        and (part.measures.ece or 0) > max(TRUSTED_ECE, part.ece_by_chance or 0)
    ]
    if not off:
        return []
    off = sorted(off, key=lambda part: -(part.measures.ece or 0))
    named = ", ".join(f"{part.words} (ECE {part.measures.ece:.2f})" for part in off[:4])
    return [f"Its probabilities are miscalibrated under: {named}."]


def _shortcuts(audit: dict[str, Any]) -> list[str]:
    return [
        f"Not as proof that it recognises traces of generation: on these media {SHORTCUTS[name]} a ROC AUC of "
        f"{test['auc']:.2f}."
        for name, test in shortcuts(audit).items()
        if test["counts"] and test["auc"] >= SHORTCUT_AUC
    ]


def shortcuts(audit: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return by name the tests of the audit whose classifier never looks at the picture, on the pixels that are used.

    Args:
        audit: As in the dataset's card; None if it has none.
    """
    tests = (audit or {}).get("tests", [])
    known = {test["name"]: test for test in tests if test["auc"] is not None}  # the tests after the view come last
    return {name: known[name] for name in SHORTCUTS if name in known}


def _named(part: SliceResult, worst: bool) -> str:
    words = part.words.removeprefix(f"{part.by} ")
    return f"{words} ({_percent(_value(part))}{', the worst slice' if worst else ''})"


def _value(part: SliceResult) -> float:
    value = part.measures.balanced_accuracy
    return float("nan") if value is None else value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"
