"""The page a person reads: how well the detector does, where it fails, and beside whom."""

from typing import Any

import numpy as np

from components import page
from components.dataset import Dataset
from components.evaluation.limits import shortcuts, words
from components.evaluation.metrics import reliability
from components.explanation import heat_maps, overlay
from components.units import Units

WORST, TYPICAL = 12, 8  # pictures of each sort
NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy_real": "reals called real",
    "accuracy_fake": "fakes called fake",
    "ece": "calibration error (ECE)",
    "eer": "equal error rate",
}


def write_report(evaluation: dict[str, Any], data: Dataset, units: Units, model: Any = None) -> str:
    """Return the evaluation page, one self-contained HTML file.

    Args:
        evaluation: What `evaluate` writes.
        data: The dataset, for the pictures of the worst mistakes.
        units: The units that were scored, in the order of the evaluation's scores.
        model: The network, for maps of where it looked; None for none.
    """
    result = evaluation["candidate"]
    overall, lowest = result["overall"], result["worst_slice"]
    lead = (
        f"{overall['n']:,} pictures and clips of the test split, none of them seen in training. "
        f"Of 100 reals it calls {100 * overall['accuracy_real']:.0f} real, "
        f"of 100 fakes it calls {100 * overall['accuracy_fake']:.0f} fake."
    )
    if lowest:
        lead += f" It is weakest on {words(lowest['slice'])}."
    return page.page(
        "Evaluation",
        [
            _note(evaluation["note"]),
            page.numbers(
                {
                    "ROC AUC": overall["roc_auc"],
                    "balanced accuracy": overall["balanced_accuracy"],
                    "in the worst slice": lowest and lowest["balanced_accuracy"],
                    "average precision": overall["average_precision"],
                    "calibration error (ECE)": overall["ece"],
                    **{f"{name} AUC": value for name, value in _shortcuts(evaluation).items()},
                }
            ),
            _limits(evaluation),
            _beside(evaluation),
            _slices(evaluation),
            _curves(evaluation),
            _decisions(evaluation),
            _abstention(result),
            _clips(result),
            _cross_source(result),
            _where(evaluation),
            _examples(result, data, units, model),
        ],
        lead=lead,
        footer=_footer(evaluation),
    )


def _note(note: str) -> str:
    if not note:
        return ""
    return page.section("Read this first", page.Html(f"{page.badge('not field accuracy', 'warn')} {page.text(note)}"))


def _shortcuts(evaluation: dict[str, Any]) -> dict[str, float]:
    # What a classifier gets without looking: an accuracy that does not beat these says little.
    return {f"{name}-only": test["auc"] for name, test in shortcuts(evaluation["audit"]).items()}


def _for_comparison(evaluation: dict[str, Any]) -> str:
    parts = [f"{name} {value:.3f}" for name, value in _shortcuts(evaluation).items()]
    if not parts:
        return ""
    return f" For comparison, the ROC AUC that needs no look at the picture: {', '.join(parts)}."


def _limits(evaluation: dict[str, Any]) -> str:
    items = "".join(f"<li>{page.text(sentence)}</li>" for sentence in evaluation["candidate"]["limits"])
    return page.section(
        "What it must not be used for",
        page.Html(f"<ul>{items}</ul>") if items else "Nothing stands out in the numbers below.",
        note="Written from the numbers on this page.",
    )


def _beside(evaluation: dict[str, Any]) -> str:
    champion = evaluation["champion"]
    if not champion:
        return page.section("Beside the champion", "There is no champion yet: this is the first to be judged.")
    new, old = evaluation["candidate"]["overall"], champion["overall"]
    rows = []
    for key, name in NAMES.items():
        better = -1 if key in ("ece", "eer") else 1
        change = None if new[key] is None or old[key] is None else new[key] - old[key]
        rows.append({"measure": name, "candidate": new[key], "champion": old[key], "change": _change(change, better)})
    return page.section(
        "Beside the champion",
        page.table(rows, {"measure": "", "candidate": "candidate", "champion": "champion", "change": "change"}),
        note=f"Version {evaluation['champion_version']} of the registry, on the same rows, in the same process."
        + _for_comparison(evaluation),
    )


def _slices(evaluation: dict[str, Any]) -> str:
    """Both detectors, slice by slice."""
    result, champion = evaluation["candidate"], evaluation["champion"]
    before = {one["slice"]: one for one in champion["slices"]} if champion else {}
    rows = []
    for one in result["slices"]:
        old = before.get(one["slice"], {})
        name = words(one["slice"]) + (f", against {one['against']}" if one["against"] else "")
        marked = page.Html(f"{page.text(name)} {page.badge('weakest', 'bad')}")
        lowest = result["worst_slice"] and result["worst_slice"]["slice"] == one["slice"]
        key = "accuracy" if one["by"] == "label" else "balanced_accuracy"
        row = {
            "slice": marked if lowest else name,
            "units": f"{one['n_real']:,} + {one['n_fake']:,}",
            "accuracy": _with_interval(one, key),
            "roc_auc": _with_interval(one, "roc_auc"),
            "ece": one["ece"],
            "chance": one["ece_by_chance"],
        }
        if champion:
            row["champion"] = old.get(key)
            changed = None if one[key] is None or old.get(key) is None else one[key] - old[key]
            row["change"] = _change(changed, 1)
        rows.append(row)
    columns = {
        "slice": "slice",
        "units": "reals + fakes",
        "accuracy": "balanced accuracy",
        "roc_auc": "ROC AUC",
        "ece": "ECE",
        "chance": "ECE by chance",
        **({"champion": "champion", "change": "change"} if champion else {}),
    }
    goals = result["goals"]
    retained = ""
    if goals["worst_degraded"]:
        retained = (
            f" The worst degradation, {words(goals['worst_degraded'])}, leaves "
            f"{100 * goals['worst_degraded_to_clean']:.0f} % of the balanced accuracy as delivered."
        )
    return page.section(
        "Slice by slice",
        page.figure(_forest(evaluation), "Balanced accuracy of each slice with its 95 % interval."),
        page.table(rows, columns),
        note="Parts of the test split, and all of it under degradations such as media meet on their way. In brackets "
        "the 95 % interval, by drawing groups again 1,000 times; for a label the plain accuracy. ECE by chance: on as "
        "few units perfect probabilities stay below it 19 times of 20; only an ECE above it is bad calibration."
        + retained
        + _for_comparison(evaluation),
    )


def _with_interval(one: dict[str, Any], key: str) -> str | None:
    if one[key] is None:
        return None
    interval = one["intervals"][key]
    if not interval:
        return f"{one[key]:.3f}"
    low, high = (f"{edge:.2f}".removeprefix("0") for edge in interval)
    return f"{one[key]:.3f} ({low}\N{NON-BREAKING HYPHEN}{high})".replace(" ", "\N{NO-BREAK SPACE}")


def _forest(evaluation: dict[str, Any]) -> Any:
    shown = [one for one in evaluation["candidate"]["slices"] if one["balanced_accuracy"] is not None]
    plot, axis = page.canvas(10.2, 1.0 + 0.26 * len(shown))
    sides = [("champion", page.COLOURS["quiet"], 0.16), ("candidate", page.COLOURS["fake"], -0.16)]
    for side, colour, offset in sides:
        if not evaluation[side]:
            continue
        found = {one["slice"]: one for one in evaluation[side]["slices"]}
        for place, one in enumerate(shown):
            value = found.get(one["slice"])
            if not value or value["balanced_accuracy"] is None:
                continue
            strength = 1.0 if value["enough"] else 0.35
            height = place + (offset if evaluation["champion"] else 0.0)
            if value["intervals"]["balanced_accuracy"]:
                axis.plot(value["intervals"]["balanced_accuracy"], [height] * 2, color=colour, alpha=strength, lw=1.6)
            first = side if place == 0 else None
            axis.scatter(value["balanced_accuracy"], height, s=22, color=colour, alpha=strength, zorder=3, label=first)
    overall = evaluation["candidate"]["overall"]["balanced_accuracy"]
    axis.axvline(overall, color=page.COLOURS["fake"], linewidth=0.8, linestyle=":")
    axis.axvline(0.5, color="#c9c6bf", linewidth=1, linestyle="--")
    axis.set_yticks(range(len(shown)), [words(one["slice"]) for one in shown])
    axis.set(xlabel="balanced accuracy; 0.5 is guessing; pale: too few units to judge", ylim=(len(shown) - 0.4, -0.6))
    bounds = [one["intervals"]["balanced_accuracy"][0] for one in shown if one["enough"]]
    axis.set_xlim(min([0.45, *(bound - 0.02 for bound in bounds)]), 1.01)
    if evaluation["champion"]:
        axis.legend(frameon=False, fontsize=9, loc="upper left")
    return plot


def _change(change: float | None, better: int) -> Any:
    if change is None:
        return None
    tone = "quiet" if abs(change) < 0.0005 else "good" if change * better > 0 else "bad"
    return page.badge(f"{change:+.3f}", tone)


def _curves(evaluation: dict[str, Any]) -> str:
    from sklearn.metrics import precision_recall_curve, roc_curve

    plot, axes = page.canvas(10.2, 3.5, columns=3)
    sides = [("candidate", page.COLOURS["fake"], 2.0), ("champion", page.COLOURS["quiet"], 1.3)]
    for name, colour, width in sides:
        if not evaluation[name]:
            continue
        scores = evaluation[name]["scores"]
        labels, probability = np.array(scores["label"]), np.array(scores["probability"])
        false_fake, true_fake, _ = roc_curve(labels, probability)
        precision, recall, _ = precision_recall_curve(labels, probability)
        axes[0].plot(false_fake, true_fake, color=colour, linewidth=width, label=name)
        axes[1].step(recall, precision, where="post", color=colour, linewidth=width, label=name)
        counts, said, came = reliability(labels, probability)
        filled = counts > 0
        axes[2].plot(said[filled], came[filled], color=colour, linewidth=width, alpha=0.6)
        axes[2].scatter(said[filled], came[filled], s=8 + 140 * counts[filled] / counts.sum(), color=colour, zorder=3)
    for axis in (axes[0], axes[2]):
        axis.plot([0, 1], [0, 1], color="#c9c6bf", linewidth=1, linestyle="--", zorder=1)
    texts = (
        ("ROC", "reals called fake", "fakes called fake"),
        ("Precision and recall", "fakes found", "of those called fake, fake"),
        ("Calibration", "said: probability of fake", "came: share of fakes"),
    )
    for axis, (title, horizontal, vertical) in zip(axes, texts, strict=True):
        axis.set(title=title, xlabel=horizontal, ylabel=vertical, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if evaluation["champion"]:
        axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    return page.section(
        "Curves",
        page.figure(plot, "ROC curve, precision over recall, and what was said against what came."),
        note="Left and middle: the nearer to the upper corner, the better. Right: on the dashed line, "
        "a probability of 0.8 is right eight times in ten; a larger dot holds more answers.",
    )


def _decisions(evaluation: dict[str, Any]) -> str:
    result = evaluation["candidate"]
    (true_real, false_fake), (false_real, true_fake) = result["overall"]["confusion"]
    table = page.table(
        [
            {"": "real", "real": true_real, "fake": false_fake, "right": result["overall"]["accuracy_real"]},
            {"": "fake", "real": false_real, "fake": true_fake, "right": result["overall"]["accuracy_fake"]},
        ],
        {"": "it is", "real": "called real", "fake": "called fake", "right": "share right"},
    )
    return page.section(
        "Decisions",
        page.figure(_histogram(result), "How many reals and fakes were given which probability of being fake."),
        table,
        note=f"Fake from a probability of {result['threshold']:.2f}, the dashed line; a probability supposes as many "
        "fakes as reals." + _for_comparison(evaluation),
    )


def _histogram(result: dict[str, Any]) -> Any:
    labels, probability = np.array(result["scores"]["label"]), np.array(result["scores"]["probability"])
    plot, axis = page.canvas(10.2, 2.7)
    edges = np.linspace(0, 1, 41)
    for label, name in enumerate(("real", "fake")):
        axis.hist(probability[labels == label], edges, color=page.COLOURS[name], alpha=0.62, label=name)
    axis.axvline(result["threshold"], color="#23272e", linewidth=1, linestyle="--")
    band = result["selective"]["band"]
    if band["low"] < band["high"]:
        axis.axvspan(
            band["low"], band["high"], color=page.COLOURS["quiet"], alpha=0.13, linewidth=0, label="inconclusive"
        )
    axis.set(xlabel="probability of fake", ylabel="pictures and clips", xlim=(0, 1))
    axis.legend(frameon=False, fontsize=9, loc="upper center", ncols=3)
    return plot


def _abstention(result: dict[str, Any]) -> str:
    selective = result["selective"]
    parts = [(key, name) for key, name in (("clean", "as delivered"), ("degraded", "degraded")) if key in selective]
    plot, axis = page.canvas(6.4, 3.0)
    for (key, name), colour in zip(parts, (page.COLOURS["real"], page.COLOURS["fake"]), strict=False):
        axis.plot(selective[key]["coverage"], selective[key]["error"], color=colour, linewidth=2, label=name)
    axis.axvline(0.8, color="#c9c6bf", linewidth=1, linestyle="--")
    axis.set(xlabel="share of files answered, the surest first", ylabel="share answered wrongly", xlim=(0, 1.01))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    rows = [
        {
            "part": name,
            "answered": selective[key]["banded"]["coverage"],
            "error": selective[key]["banded"]["error"],
            "reals": selective[key]["banded"]["false_positive_rate"],
            "fakes": selective[key]["banded"]["true_positive_rate"],
            "full": selective[key]["error_full"],
            "most": selective[key]["error_at_80"],
        }
        for key, name in parts
    ]
    columns = {
        "part": "",
        "answered": "answered",
        "error": "of these wrong",
        "reals": "reals called fake",
        "fakes": "fakes found",
        "full": "wrong at 100 %",
        "most": "wrong at 80 %",
    }
    band = selective["band"]
    stated = band.get("false_positive_rate")
    promise = (
        f" The band was chosen on degraded validation media so that at most {100 * stated:.0f} of 100 reals are called "
        f"fake and {100 * band['false_negative_rate']:.0f} of 100 fakes real."
        if stated is not None
        else ""
    )
    return page.section(
        "When it had better not answer",
        page.figure(plot, "Risk against coverage: the error among the answers, when only the surest are given."),
        page.table(rows, columns),
        note=f"Between probabilities of {band['low']:.2f} and {band['high']:.2f} its answer is inconclusive." + promise,
    )


def _clips(result: dict[str, Any]) -> str:
    if not result["clips"]:
        return ""
    rows = [
        {
            "part": {"clean": "as delivered", "degraded": "degraded"}[part],
            "way": name,
            **{key: values[key] for key in ("roc_auc", "balanced_accuracy", "ece")},
        }
        for part, ways in result["clips"].items()
        for way, name in (("aggregate", "own calibrated aggregate"), ("mean", "mean of the frames"))
        for values in [ways[way]]
    ]
    clips = result["by_kind"]["clip"]
    return page.section(
        "Clips",
        page.table(
            rows,
            {"part": "", "way": "verdict by", "roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}
            | {"ece": "ECE"},
        ),
        note=f"{clips['n']:,} clips. A clip's verdict weighs the mean, the extremes and the spread of its frames' "
        "logits, fitted on validation clips; beside it the plain mean of the frames' probabilities.",
    )


def _cross_source(result: dict[str, Any]) -> str:
    if not result.get("cross_source"):
        return ""
    rows = [
        {
            "source": one["source"],
            "label": page.badge(one["label"], one["label"]),
            "n": one["n"],
            "seen": one["seen"]["roc_auc"],
            "unseen": one["unseen"]["roc_auc"],
            "change": _change(one["unseen"]["roc_auc"] - one["seen"]["roc_auc"], 1),
            "found": one["unseen"]["accuracy"],
        }
        for one in result["cross_source"]
    ]
    columns = {
        "source": "source",
        "label": "label",
        "n": "test units",
        "seen": "AUC, trained with it",
        "unseen": "AUC, never seen",
        "change": "change",
        "found": "called right, never seen",
    }
    return page.section(
        "On a source it has never seen",
        page.table(rows, columns),
        note="Leave one source out: a linear head on the features of the layers that this training left as they were, "
        "trained with and without the source, judged on its test media against all of the other label.",
    )


def _where(evaluation: dict[str, Any]) -> str:
    rows = [
        {
            "source": name,
            "label": page.badge(*["real" if measured["n_real"] else "fake"] * 2),
            "n": measured["n"],
            "accuracy": measured["accuracy"],
        }
        for name, measured in evaluation["candidate"]["by_source"].items()
    ]
    return page.section(
        "By source",
        page.table(rows, {"source": "source", "label": "it is", "n": "units", "accuracy": "called so"}),
        note="How much of each source is called what it is." + _for_comparison(evaluation),
    )


def _examples(result: dict[str, Any], data: Dataset, units: Units, model: Any) -> str:
    labels, probability = units.label, np.array(result["scores"]["probability"])
    right = (probability >= result["threshold"]) == (labels == 1)
    sureness = np.abs(probability - result["threshold"])
    chosen = {}
    for label, name in ((0, "Reals called fake"), (1, "Fakes called real")):
        wrong = np.flatnonzero(~right & (labels == label))
        surest = wrong[np.argsort(-sureness[wrong], kind="stable")][:WORST]
        chosen[f"{name}: {len(wrong):,}" + (f", the {WORST} it was surest of" if len(wrong) > WORST else "")] = surest
    for label, name in ((0, "Reals called real, typical ones"), (1, "Fakes called fake, typical ones")):
        hits = np.flatnonzero(right & (labels == label))
        middle = hits[np.argsort(sureness[hits], kind="stable")]
        chosen[name] = middle[max(0, len(middle) // 2 - TYPICAL // 2) :][:TYPICAL]
    every = np.concatenate(list(chosen.values()))
    if not len(every):
        return ""
    pixels = data.views([_middle_row(units, unit) for unit in every])[:, 0]
    heat = heat_maps(model, pixels) if model is not None else None
    strongest = np.quantile(np.abs(heat), 0.98) if heat is not None else 0.0
    cells = {}
    for number, unit in enumerate(every):
        shown = pixels[number]
        if heat is not None:
            shown = np.concatenate([shown, overlay(shown, heat[number], strongest)], axis=1)
        cells[unit] = (page.jpeg(shown, 128 * shown.shape[1] // shown.shape[0]), _caption(units, probability, unit))
    ratio = 2.0 if heat is not None else 1.0
    blocks = []
    for name, some in chosen.items():
        if len(some):
            blocks += [page.heading(name), page.gallery([cells[unit] for unit in some], ratio)]
    note = "The first view of each, as the detector sees it; the number is the probability of fake."
    if heat is not None:
        note += " Beside it where it looked (Grad-CAM): orange pushed towards fake, teal towards real."
    return page.section("The worst mistakes, and typical hits", *blocks, note=note)


def _middle_row(units: Units, unit: int) -> int:
    rows = units.rows_of(unit)
    return rows[len(rows) // 2]


def _caption(units: Units, probability: np.ndarray, unit: int) -> str:
    kind = "" if units.kind[unit] == "picture" else " clip"
    return f"{probability[unit]:.2f} · {units.source[unit]}{kind}"


def _footer(evaluation: dict[str, Any]) -> str:
    result = evaluation["candidate"]
    said = " ".join((evaluation[key] or {}).get("text", "") for key in ("certificate", "audit")).strip()
    model = " ".join(part for part in (result["backbone"], result["recipe"], result["view"]) if part)
    return (
        f"Detector {result['digest'][:12]} ({model}) · dataset {evaluation['dataset_digest'][:12]} · "
        f"test rows {evaluation['rows_digest'][:12]}" + (f" · {said}" if said else "")
    )
