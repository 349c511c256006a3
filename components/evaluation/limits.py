"""What a detector must not be used for, in plain words, from the numbers alone."""

from typing import Any

from components.media import degradations

GOOD_ENOUGH = 0.80  # balanced accuracy
TRUSTED_ECE = 0.05
SHORTCUT_AUC = 0.75  # of a classifier that never looks at the picture itself
FEW_CLIPS = 20  # of each label
SHORTCUTS = {
    "metadata": "the files' metadata",
    "thumbnail": "an 8 x 8 thumbnail's pixels",
    "traces": "the traces of size and compression that the views keep",
}


def limits(evaluation: dict[str, Any]) -> list[str]:
    """Return what the candidate must not be used for, one sentence each, the gravest first.

    Args:
        evaluation: The evaluation as it stands in evaluation.json.
    """
    result = evaluation["candidate"]
    found = [
        *_sample(evaluation),
        *_alone(result),
        *_places(result),
        *_unseen(result),
        *_clips(result),
        *_probabilities(result),
        *_shortcuts(evaluation.get("audit") or {}),
    ]
    return found


def words(name: str) -> str:
    """Return the name of a slice in words."""
    by, _, value = name.partition(":")
    if by in degradations.RANGES:
        return degradations.describe(name)
    return {"all": "all, as delivered", "kind": f"{value}s", "label": f"{value} media"}.get(by, f"{by} {value}")


def _sample(evaluation: dict[str, Any]) -> list[str]:
    if not evaluation.get("note"):
        return []
    return ["Not for anything outside this exercise: the media were made for it, and no figure here is field accuracy."]


def _alone(result: dict[str, Any]) -> list[str]:
    overall = result["overall"]
    found = []
    if overall["balanced_accuracy"] < GOOD_ENOUGH:
        found.append(
            f"Not for decisions of any kind as it stands: taking both labels alike it is right "
            f"{_of_100(overall['balanced_accuracy'])} times in 100, where guessing is right 50 times."
        )
    rates = {
        name: result["selective"][name]["banded"]["false_positive_rate"]
        for name in ("clean", "degraded")
        if name in result["selective"]
    }
    worst = max(rates, key=lambda name: rates[name])
    if rates[worst] > 0:
        after = " after degradation" if worst == "degraded" else ""
        found.append(
            f"Not as the only evidence against anyone: of 100 real pictures and clips it calls "
            f"{_of_100(rates[worst])} fake{after}, those it left inconclusive not counted."
        )
    return found


def _places(result: dict[str, Any]) -> list[str]:
    weak = [
        one
        for one in result["slices"]
        if one["enough"] and one["by"] in ("kind", "source", "size", "degradation") and _value(one) < GOOD_ENOUGH
    ]
    found = []
    for by, lead in (
        ("degradation", "Not for media that went through this on their way"),
        ("source", "Not for telling these sources"),
        ("kind", "Not for these kinds"),
        ("size", "Not for originals of these short sides"),
    ):
        parts = sorted((one for one in weak if one["by"] == by), key=_value)
        if parts:
            named = ", ".join(f"{words(one['slice']).removeprefix(f'{by} ')} ({_of_100(_value(one))})" for one in parts)
            found.append(f"{lead} (right so often in 100, both labels alike): {named}.")
    return found


def _unseen(result: dict[str, Any]) -> list[str]:
    left_out = [one for one in result.get("cross_source") or [] if one["label"] == "fake"]
    if left_out:
        worst = min(left_out, key=lambda one: one["unseen"]["roc_auc"])
        auc = worst["unseen"]["roc_auc"]
        if auc < 0.9:
            return [
                f"Not for generators that it was not trained on: with {worst['source']} left out of training, the ROC "
                f"AUC on it falls to {auc:.2f} (with it: {worst['seen']['roc_auc']:.2f})."
            ]
        return []
    fakes = [name for name, values in result["by_source"].items() if values["n_fake"]]
    return [
        f"Not for generators other than {', '.join(fakes)}: nothing here says what it does on one it has never seen."
    ]


def _clips(result: dict[str, Any]) -> list[str]:
    clips = result["by_kind"].get("clip")
    if not clips:
        return ["Not for videos: none was in the test split."]
    few = min(clips["n_real"], clips["n_fake"])
    if few < FEW_CLIPS:
        return [
            f"Not for videos on the strength of this page: only {clips['n_real']} real and {clips['n_fake']} fake "
            "clips were judged."
        ]
    return []


def _probabilities(result: dict[str, Any]) -> list[str]:
    off = [one for one in result["slices"] if one["enough"] and (one["ece"] or 0) > max(TRUSTED_ECE, _chance(one))]
    off = sorted((one for one in off if one["by"] in ("all", "degradation")), key=lambda one: -one["ece"])
    if not off:
        return []
    named = ", ".join(f"{words(one['slice'])} ({one['ece']:.2f})" for one in off[:4])
    return [f"Not for reading its probability as a chance where what it says and what comes differ: {named}."]


def _chance(one: dict[str, Any]) -> float:
    return one["ece_by_chance"] or 0.0


def _shortcuts(audit: dict[str, Any]) -> list[str]:
    return [
        f"Not as proof that it sees the traces of generation: on these media {SHORTCUTS[name]} alone reach a ROC AUC "
        f"of {test['auc']:.2f}."
        for name, test in shortcuts(audit).items()
        if test["counts"] and test["auc"] >= SHORTCUT_AUC
    ]


def shortcuts(audit: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return by name what a classifier gets without looking at the picture: the audit's tests, on the pixels used."""
    tests = (audit or {}).get("tests", [])
    found = {test["name"]: test for test in tests if test["auc"] is not None}  # what comes after the view comes last
    return {name: found[name] for name in SHORTCUTS if name in found}


def _value(one: dict[str, Any]) -> float:
    return one["balanced_accuracy"]


def _of_100(share: float) -> str:
    return f"{int(100 * share)}" if share >= 0.01 else f"{100 * share:.1f}"
