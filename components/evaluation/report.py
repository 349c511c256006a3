"""The page a person reads: how well the detector does, where it fails, and beside whom."""

from typing import Any

import numpy as np

from components import page
from components.dataset import Dataset
from components.evaluation.limits import shortcuts
from components.evaluation.metrics import reliability
from components.evaluation_result import (
    HEADLINE,
    METRICS,
    WORST_RULE,
    DetectorResult,
    EvaluationResult,
    Interval,
    change,
    in_words,
)
from components.explanation import heat_maps, overlay
from components.units import Units

WORST, TYPICAL = 12, 8  # pictures of each sort


def write_report(evaluation: EvaluationResult, data: Dataset, units: Units, model: Any = None) -> str:
    """Return the evaluation page, one self-contained HTML file.

    Args:
        evaluation: What `evaluate` writes.
        data: The dataset, for the pictures of the worst mistakes.
        units: The units that were scored, in the order of the evaluation's scores.
        model: The network, for maps of where it looked; None for none.
    """
    result = evaluation.candidate
    overall, lowest = result.overall, result.worst_slice
    lead = (
        f"Judged on {overall.n:,} pictures and clips of the test split, none of them seen in training: "
        f"{100 * overall.accuracy_real:.0f} % of the real media are called real, "
        f"{100 * overall.accuracy_fake:.0f} % of the fakes are called fake."
    )
    if lowest:
        lead += f" The worst slice is {lowest.words}."
    return page.page(
        "Evaluation",
        [
            _note(evaluation.note),
            page.numbers(
                {
                    "ROC AUC": overall.roc_auc,
                    "balanced accuracy": overall.balanced_accuracy,
                    "in the worst slice": lowest and lowest.measures.balanced_accuracy,
                    "average precision": overall.average_precision,
                    "calibration error (ECE)": overall.ece,
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


def _shortcuts(evaluation: EvaluationResult) -> dict[str, float]:
    # What a classifier gets without looking: an accuracy that does not beat these says little.
    return {f"{name}-only": test["auc"] for name, test in shortcuts(evaluation.audit).items()}


def _for_comparison(evaluation: EvaluationResult) -> str:
    parts = [f"{name} {value:.3f}" for name, value in _shortcuts(evaluation).items()]
    if not parts:
        return ""
    return f" For comparison, the ROC AUC that needs no look at the picture: {', '.join(parts)}."


def _limits(evaluation: EvaluationResult) -> str:
    items = "".join(f"<li>{page.text(sentence)}</li>" for sentence in evaluation.candidate.limits)
    return page.section(
        "What it must not be used for",
        page.Html(f"<ul>{items}</ul>") if items else "Nothing stands out in the numbers below.",
        note="Written from the numbers on this page.",
    )


def _beside(evaluation: EvaluationResult) -> str:
    champion = evaluation.champion
    if not champion:
        return page.section("Beside the champion", "There is no champion yet: this is the first to be judged.")
    rows = []
    for name in HEADLINE:
        new, old = evaluation.candidate.overall.value(name), champion.overall.value(name)
        row = {"measure": METRICS[name].title, "candidate": new, "champion": old}
        rows.append(row | {"change": _change(name, new, old)})
    return page.section(
        "Beside the champion",
        page.table(rows, {"measure": "", "candidate": "candidate", "champion": "champion", "change": "change"}),
        note=f"Version {evaluation.champion_version} of the registry, on the same rows, in the same process."
        + _for_comparison(evaluation),
    )


def _slices(evaluation: EvaluationResult) -> str:
    """Both detectors, slice by slice."""
    result, champion = evaluation.candidate, evaluation.champion
    rows = []
    for part in result.slices:
        old = champion and champion.slice(part.name)
        name = part.words + (f", against {part.against}" if part.against else "")
        marked = page.Html(f"{page.text(name)} {page.badge('worst slice', 'bad')}")
        key = "accuracy" if part.by == "label" else "balanced_accuracy"
        row = {
            "slice": marked if part == result.worst_slice else name,
            "units": f"{part.measures.n_real:,} + {part.measures.n_fake:,}",
            "accuracy": _with_interval(part.measures.value(key), part.interval(key)),
            "roc_auc": _with_interval(part.measures.roc_auc, part.interval("roc_auc")),
            "ece": part.measures.ece,
            "chance": part.ece_by_chance,
        }
        if champion:
            row["champion"] = old and old.measures.value(key)
            row["change"] = _change(key, part.measures.value(key), row["champion"])
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
    goals = result.goals
    retained = ""
    if goals.worst_degraded:
        retained = (
            f" The worst degradation, {in_words(goals.worst_degraded)}, leaves "
            f"{100 * goals.worst_degraded_to_clean:.0f} % of the balanced accuracy as delivered."
        )
    return page.section(
        "Slice by slice",
        page.figure(_forest(evaluation), "Balanced accuracy of each slice with its 95 % interval."),
        page.table(rows, columns),
        note="Parts of the test split, and all of it under degradations such as media meet on their way. In brackets "
        "the 95 % interval, by drawing groups again 1,000 times; for a label the plain accuracy. ECE by chance: on as "
        "few units perfect probabilities stay below it 19 times in 20; only an ECE above it is bad calibration. "
        + WORST_RULE
        + retained
        + _for_comparison(evaluation),
    )


def _with_interval(value: float | None, interval: Interval | None) -> str | None:
    if value is None or interval is None:
        return None if value is None else f"{value:.3f}"
    low, high = (f"{edge:.2f}".removeprefix("0") for edge in (interval.low, interval.high))
    return f"{value:.3f} ({low}\N{NON-BREAKING HYPHEN}{high})".replace(" ", "\N{NO-BREAK SPACE}")


def _forest(evaluation: EvaluationResult) -> Any:
    shown = [part for part in evaluation.candidate.slices if part.measures.balanced_accuracy is not None]
    plot, axis = page.canvas(10.2, 1.0 + 0.26 * len(shown))
    sides = [
        ("champion", evaluation.champion, page.COLOURS["quiet"], 0.16),
        ("candidate", evaluation.candidate, page.COLOURS["fake"], -0.16),
    ]
    for side, result, colour, offset in sides:
        if not result:
            continue
        for place, part in enumerate(shown):
            part = result.slice(part.name)
            if not part or part.measures.balanced_accuracy is None:
                continue
            strength = 1.0 if part.enough else 0.35
            height = place + (offset if evaluation.champion else 0.0)
            interval = part.interval("balanced_accuracy")
            if interval:
                axis.plot([interval.low, interval.high], [height] * 2, color=colour, alpha=strength, lw=1.6)
            label = side if place == 0 else None
            value = part.measures.balanced_accuracy
            axis.scatter(value, height, s=22, color=colour, alpha=strength, zorder=3, label=label)
    overall = evaluation.candidate.overall.balanced_accuracy
    axis.axvline(overall, color=page.COLOURS["fake"], linewidth=0.8, linestyle=":")
    axis.axvline(0.5, color="#c9c6bf", linewidth=1, linestyle="--")
    axis.set_yticks(range(len(shown)), [part.words for part in shown])
    axis.set(xlabel="balanced accuracy; 0.5 is guessing; pale: too few units to judge", ylim=(len(shown) - 0.4, -0.6))
    bounds = [part.interval("balanced_accuracy").low for part in shown if part.enough]
    axis.set_xlim(min([0.45, *(bound - 0.02 for bound in bounds)]), 1.01)
    if evaluation.champion:
        axis.legend(frameon=False, fontsize=9, loc="upper left")
    return plot


def _change(metric: str, ours: float | None, theirs: float | None) -> Any:
    changed = change(metric, ours, theirs)
    if changed is None:
        return None
    difference, better = changed
    tone = "quiet" if abs(difference) < 0.0005 else "good" if better else "bad"
    return page.badge(f"{difference:+.3f}", tone)


def _curves(evaluation: EvaluationResult) -> str:
    from sklearn.metrics import precision_recall_curve, roc_curve

    plot, axes = page.canvas(10.2, 3.5, columns=3)
    sides = [
        ("candidate", evaluation.candidate, page.COLOURS["fake"], 2.0),
        ("champion", evaluation.champion, page.COLOURS["quiet"], 1.3),
    ]
    for name, result, colour, width in sides:
        if not result:
            continue
        labels, probability = np.array(result.scores.label), np.array(result.scores.probability)
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
    if evaluation.champion:
        axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    return page.section(
        "Curves",
        page.figure(plot, "ROC curve, precision over recall, and what was said against what came."),
        note="Left and middle: the nearer to the upper corner, the better. Right: on the dashed line, "
        "a probability of 0.8 is right eight times in ten; a larger dot holds more answers.",
    )


def _decisions(evaluation: EvaluationResult) -> str:
    result = evaluation.candidate
    (true_real, false_fake), (false_real, true_fake) = result.overall.confusion
    table = page.table(
        [
            {"": "real", "real": true_real, "fake": false_fake, "right": result.overall.accuracy_real},
            {"": "fake", "real": false_real, "fake": true_fake, "right": result.overall.accuracy_fake},
        ],
        {"": "it is", "real": "called real", "fake": "called fake", "right": "share right"},
    )
    return page.section(
        "Decisions",
        page.figure(_histogram(result), "How many reals and fakes were given which probability of being fake."),
        table,
        note=f"Fake from a probability of {result.threshold:.2f}, the dashed line; a probability supposes as many "
        "fakes as reals." + _for_comparison(evaluation),
    )


def _histogram(result: DetectorResult) -> Any:
    labels, probability = np.array(result.scores.label), np.array(result.scores.probability)
    plot, axis = page.canvas(10.2, 2.7)
    edges = np.linspace(0, 1, 41)
    for label, name in enumerate(("real", "fake")):
        axis.hist(probability[labels == label], edges, color=page.COLOURS[name], alpha=0.62, label=name)
    axis.axvline(result.threshold, color="#23272e", linewidth=1, linestyle="--")
    band = result.selective.band
    if band.low < band.high:
        axis.axvspan(band.low, band.high, color=page.COLOURS["quiet"], alpha=0.13, linewidth=0, label="unsure")
    axis.set(xlabel="probability of fake", ylabel="pictures and clips", xlim=(0, 1))
    axis.legend(frameon=False, fontsize=9, loc="upper center", ncols=3)
    return plot


def _abstention(result: DetectorResult) -> str:
    selective = result.selective
    plot, axis = page.canvas(6.4, 3.0)
    for (name, part), colour in zip(
        selective.parts.items(), (page.COLOURS["real"], page.COLOURS["fake"]), strict=False
    ):
        axis.plot(part.coverage, part.error, color=colour, linewidth=2, label=name)
    axis.axvline(0.8, color="#c9c6bf", linewidth=1, linestyle="--")
    axis.set(xlabel="share of files answered, the surest first", ylabel="share answered wrongly", xlim=(0, 1.01))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    rows = [
        {
            "part": name,
            "answered": part.banded.coverage,
            "error": part.banded.error,
            "reals": part.banded.false_positive_rate,
            "fakes": part.banded.true_positive_rate,
            "full": part.error_full,
            "most": part.error_at_80,
        }
        for name, part in selective.parts.items()
    ]
    columns = {
        "part": "",
        "answered": "answered",
        "error": "of these wrong",
        "reals": "reals called fake",
        "fakes": "fakes called fake",
        "full": "wrong at 100 %",
        "most": "wrong at 80 %",
    }
    band = selective.band
    promise = ""
    if band.false_positive_rate is not None:
        promise = (
            f" The band was chosen on degraded validation media so that at most {100 * band.false_positive_rate:.0f} % "
            f"of the real media are called fake and {100 * band.false_negative_rate:.0f} % of the fakes real."
        )
    return page.section(
        "When it is unsure",
        page.figure(plot, "Risk against coverage: the error among the answers when only the surest are given."),
        page.table(rows, columns),
        note=f"Between probabilities of {band.low:.2f} and {band.high:.2f} its answer is unsure." + promise,
    )


def _clips(result: DetectorResult) -> str:
    if not result.clips:
        return ""
    rows = [
        {
            "part": part,
            "way": way,
            **{key: measures.value(key) for key in ("roc_auc", "balanced_accuracy", "ece")},
        }
        for part, answers in (("as delivered", result.clips.clean), ("degraded", result.clips.degraded))
        if answers
        for way, measures in (
            ("own calibrated aggregate", answers.aggregate),
            ("mean of the frames", answers.mean),
        )
    ]
    clips = result.by_kind["clip"]
    return page.section(
        "Clips",
        page.table(
            rows,
            {"part": "", "way": "verdict by", "roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}
            | {"ece": "ECE"},
        ),
        note=f"{clips.n:,} clips. A clip's verdict weighs the mean, the extremes and the spread of its frames' "
        "logits, fitted on validation clips; beside it the plain mean of the frames' probabilities.",
    )


def _cross_source(result: DetectorResult) -> str:
    if not result.cross_source:
        return ""
    rows = [
        {
            "source": source.source,
            "label": page.badge(source.label, source.label),
            "n": source.n,
            "seen": source.seen.roc_auc,
            "unseen": source.unseen.roc_auc,
            "change": _change("roc_auc", source.unseen.roc_auc, source.seen.roc_auc),
            "right": source.unseen.accuracy,
        }
        for source in result.cross_source
    ]
    columns = {
        "source": "source",
        "label": "label",
        "n": "test units",
        "seen": "AUC, trained with it",
        "unseen": "AUC, never seen",
        "change": "change",
        "right": "called right, never seen",
    }
    return page.section(
        "On a source it has never seen",
        page.table(rows, columns),
        note="Leave one source out: a linear head on the features of the layers that this training left as they were, "
        "trained with and without the source, judged on its test media against all of the other label.",
    )


def _where(evaluation: EvaluationResult) -> str:
    rows = [
        {
            "source": name,
            "label": page.badge(*["real" if measured.n_real else "fake"] * 2),
            "n": measured.n,
            "accuracy": measured.accuracy,
        }
        for name, measured in evaluation.candidate.by_source.items()
    ]
    return page.section(
        "By source",
        page.table(rows, {"source": "source", "label": "it is", "n": "units", "accuracy": "called so"}),
        note="How much of each source is called what it is." + _for_comparison(evaluation),
    )


def _examples(result: DetectorResult, data: Dataset, units: Units, model: Any) -> str:
    labels, probability = units.label, np.array(result.scores.probability)
    right = (probability >= result.threshold) == (labels == 1)
    sureness = np.abs(probability - result.threshold)
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


def _footer(evaluation: EvaluationResult) -> str:
    result = evaluation.candidate
    said = " ".join((part or {}).get("text", "") for part in (evaluation.certificate, evaluation.audit)).strip()
    model = " ".join(part for part in (result.backbone, result.recipe, result.view) if part)
    return (
        f"Detector {result.digest[:12]} ({model}) · dataset {evaluation.dataset_digest[:12]} · "
        f"test rows {evaluation.rows_digest[:12]}" + (f" · {said}" if said else "")
    )
