"""The page a person reads: how well the detector does, where it fails, and how the champion does on the same media."""

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup

from components.dataset import Dataset
from components.evaluation.limits import shortcuts
from components.evaluation.metrics import reliability
from components.evaluation_result import (
    CLEAN,
    HEADLINE,
    METRICS,
    WORST_RULE,
    DetectorResult,
    EvaluationResult,
    audit_in_words,
    in_words,
)
from components.explanation import FAKE, REAL, overlay
from components.page import parts, plots
from components.page.slices import change_badge, forest, with_interval
from components.units import Units

WORST, TYPICAL = 12, 8  # pictures of each sort
INTERVALS = (
    "Intervals are of 95 %: exact for rates (Clopper-Pearson), conservative for balanced accuracy, and by drawing "
    "groups again 1,000 times for ROC AUC."
)


def write_report(
    evaluation: EvaluationResult,
    data: Dataset,
    units: Units,
    heat_maps: Callable[[np.ndarray], np.ndarray] | None = None,
) -> str:
    """Return the evaluation page, one self-contained HTML file.

    Args:
        evaluation: What `evaluate` writes.
        data: The dataset, for the pictures of the worst mistakes.
        units: The units that were scored, in the order of the evaluation's scores.
        heat_maps: Maps where the detector looked, from views, uint8, (n, size, size, 3), to float32, (n, size, size),
            positive towards fake; None for no maps.
    """
    result = evaluation.candidate
    overall, lowest = result.overall, result.worst_slice
    lead = (
        f"Judged on {overall.n:,} pictures and clips of the test split, none of them seen in training: "
        f"{100 * (overall.accuracy_real or 0):.0f} % of the real media are called real, "
        f"{100 * (overall.accuracy_fake or 0):.0f} % of the fakes are called fake."
    )
    if lowest:
        lead += f" The worst slice: {lowest.words}."
    return parts.page(
        "Evaluation",
        [
            parts.numbers(
                {
                    "ROC AUC": overall.roc_auc,
                    "balanced accuracy": overall.balanced_accuracy,
                    "balanced accuracy in the worst slice": lowest.measures.balanced_accuracy if lowest else None,
                    "average precision": overall.average_precision,
                    "calibration error (ECE)": overall.ece,
                    **{f"ROC AUC from {name} alone": value for name, value in _shortcuts(evaluation).items()},
                }
            ),
            _limits(result),
            _champion(evaluation),
            _slices(evaluation),
            _curves(evaluation),
            _decisions(result),
            _abstention(result),
            _clips(result),
            _cross_source(result),
            _answers(result, data, units),
            _by_source(evaluation),
            _examples(result, data, units, heat_maps),
        ],
        lead=lead,
        footer=_footer(evaluation),
        notice=evaluation.note,
    )


def _shortcuts(evaluation: EvaluationResult) -> dict[str, float]:
    # What a classifier reaches that never looks at the picture: an accuracy that does not beat it says little.
    return {name: test["auc"] for name, test in shortcuts(evaluation.audit).items()}


def _for_comparison(evaluation: EvaluationResult) -> str:
    values = [f"{name} alone {value:.3f}" for name, value in _shortcuts(evaluation).items()]
    if not values:
        return ""
    return f" For comparison, the ROC AUC of shortcuts that never look at the picture: {', '.join(values)}."


def _limits(result: DetectorResult) -> Markup:
    return parts.section(
        "What it must not be used for",
        parts.bullets(result.limits) if result.limits else "Nothing stands out in the numbers below.",
        note="Written from the numbers on this page, the gravest first.",
    )


def _champion(evaluation: EvaluationResult) -> Markup:
    champion = evaluation.champion
    if not champion:
        return parts.section("Compared with the champion", "There is no champion yet: this detector is the first.")
    rows = []
    for name in HEADLINE:
        new, old = evaluation.candidate.overall.value(name), champion.overall.value(name)
        row = {"measure": METRICS[name].title, "candidate": new, "champion": old}
        rows.append(row | {"change": change_badge(name, new, old)})
    return parts.section(
        "Compared with the champion",
        parts.table(rows, {"measure": "", "candidate": "candidate", "champion": "champion", "change": "change"}),
        note=f"Version {evaluation.champion_version} of the registry, on the same rows, in the same process."
        + _for_comparison(evaluation),
    )


def _slices(evaluation: EvaluationResult) -> Markup:
    result, champion = evaluation.candidate, evaluation.champion
    rows: list[dict[str, Any]] = []
    for part in result.slices:
        key = "accuracy" if part.by == "label" else "balanced_accuracy"
        name = part.words + (f", against {part.against}" if part.against else "")
        row: dict[str, Any] = {
            "slice": parts.lines(name, parts.badge("worst slice", "bad")) if part == result.worst_slice else name,
            "real": part.measures.n_real,
            "fake": part.measures.n_fake,
            "accuracy": with_interval(part.measures.value(key), part.interval(key)),
            "roc_auc": with_interval(part.measures.roc_auc, part.interval("roc_auc")),
            "ece": part.measures.ece,
            "chance": part.ece_by_chance,
        }
        if champion:
            old = champion.slice(part.name)
            row["champion"] = old.measures.value(key) if old else None
            row["change"] = change_badge(key, part.measures.value(key), row["champion"])
        rows.append(row)
    columns = {
        "slice": "slice",
        "real": "real",
        "fake": "fake",
        "accuracy": "balanced accuracy",
        "roc_auc": "ROC AUC",
        "ece": "ECE",
        "chance": "ECE by chance",
        **({"champion": "champion", "change": "change"} if champion else {}),
    }
    goals = result.goals
    retained = ""
    if goals.worst_degraded and goals.worst_degraded_to_clean is not None:
        retained = (
            f" The worst degradation, {in_words(goals.worst_degraded)}, leaves "
            f"{100 * goals.worst_degraded_to_clean:.0f} % of the balanced accuracy on media as delivered."
        )
    return parts.section(
        "Slice by slice",
        forest(result, champion, ("candidate", "champion")),
        parts.details(
            "All figures",
            parts.table(rows, columns),
            f"{INTERVALS} For a label, the plain accuracy stands in place of the balanced one. Perfect probabilities "
            "stay below the ECE by chance 19 times in 20 on as few units; only an ECE above it is bad calibration.",
        ),
        note=f"Parts of the test split, and all of it after degradations that media meet. {WORST_RULE}{retained}"
        + _for_comparison(evaluation),
    )


def _curves(evaluation: EvaluationResult) -> Markup:
    from sklearn.metrics import precision_recall_curve, roc_curve

    drawn = [plots.canvas() for _ in range(3)]
    roc, precise, calibration = (axes for _, axes in drawn)
    sides = [("fake", evaluation.candidate, 2.0)] + (
        [("quiet", evaluation.champion, 1.3)] if evaluation.champion else []
    )
    for tone, result, width in reversed(sides):
        colour = plots.COLOURS[tone]
        labels, probability = np.array(result.scores.label), np.array(result.scores.probability)
        false_fake, true_fake, _ = roc_curve(labels, probability)
        precision, recall, _ = precision_recall_curve(labels, probability)
        roc.plot(false_fake, true_fake, color=colour, linewidth=width)
        precise.step(recall, precision, where="post", color=colour, linewidth=width)
        counts, stated, true = reliability(labels, probability)
        filled = counts > 0
        calibration.plot(stated[filled], true[filled], color=colour, linewidth=width, alpha=0.6)
        calibration.scatter(stated[filled], true[filled], s=8 + 140 * counts[filled] / counts.sum(), color=colour)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color=plots.COLOURS["rule"], linewidth=1, linestyle="--", zorder=1)
    texts = (
        ("ROC curve", "real media called fake", "fakes called fake"),
        ("Precision and recall", "recall: fakes called fake", "precision"),
        ("Calibration", "stated probability of fake", "share that is fake"),
    )
    figures = []
    for (plot, axes), (title, horizontal, vertical) in zip(drawn, texts, strict=True):
        axes.set(xlabel=horizontal, ylabel=vertical, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        figures.append(plots.figure(plot, title))
    names = [("candidate", "fake", ""), ("champion", "quiet", "")][: len(sides)]
    return parts.section(
        "Curves",
        parts.panels(*figures),
        parts.legend([*names, ("guessing, or perfect calibration", "quiet", "dashed")]),
        note="Precision is the share of fakes among what is called fake. On the dashed line of the calibration, a "
        "probability of 0.8 is right eight times in ten; a larger dot holds more answers.",
    )


def _decisions(result: DetectorResult) -> Markup:
    (true_real, false_fake), (false_real, true_fake) = result.overall.confusion
    table = parts.table(
        [
            {"": "real", "real": true_real, "fake": false_fake, "right": result.overall.accuracy_real},
            {"": "fake", "real": false_real, "fake": true_fake, "right": result.overall.accuracy_fake},
        ],
        {"": "it is", "real": "called real", "fake": "called fake", "right": "share right"},
    )
    band = result.selective.band
    unsure = [("unsure", "quiet", "block")] if band.low < band.high else []
    return parts.section(
        "Decisions",
        parts.panels(plots.figure(_histogram(result), "Probability of fake, real media and fakes"), table),
        parts.legend([("real", "real", "block"), ("fake", "fake", "block"), *unsure, ("threshold", "ink", "dashed")]),
        note=f"A file is called fake from a probability of {result.threshold:.2f} on. A probability supposes that as "
        "many files are fake as real.",
    )


def _histogram(result: DetectorResult) -> Any:
    labels, probability = np.array(result.scores.label), np.array(result.scores.probability)
    plot, axes = plots.canvas()
    band = result.selective.band
    if band.low < band.high:
        axes.axvspan(band.low, band.high, color=plots.COLOURS["quiet"], alpha=0.16, linewidth=0)
    edges = np.linspace(0, 1, 31)
    for label, name in enumerate(("real", "fake")):
        axes.hist(probability[labels == label], edges, color=plots.COLOURS[name], alpha=0.62)
    axes.axvline(result.threshold, color=plots.COLOURS["ink"], linewidth=1, linestyle="--")
    axes.set(xlabel="probability of fake", ylabel="pictures and clips", xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1])
    return plot


def _abstention(result: DetectorResult) -> Markup:
    selective = result.selective
    plot, axes = plots.canvas()
    tones = {"as delivered": "real", "degraded": "fake"}
    for name, part in selective.parts.items():
        axes.plot(part.coverage, part.error, color=plots.COLOURS[tones[name]], linewidth=2)
    axes.axvline(0.8, color=plots.COLOURS["rule"], linewidth=1, linestyle="--")
    axes.set(xlabel="share answered, the surest first", ylabel="share answered wrongly", xlim=(0, 1.01))
    axes.set_ylim(bottom=0)
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
        "part": "media",
        "answered": "answered",
        "error": "wrong among these",
        "reals": "real called fake",
        "fakes": "fakes called fake",
        "full": "wrong at 100 %",
        "most": "wrong at 80 %",
    }
    band = selective.band
    promise = ""
    if band.false_positive_rate is not None and band.false_negative_rate is not None:
        promise = (
            f" The band was chosen on degraded validation media so that at most {100 * band.false_positive_rate:.0f} % "
            f"of the real media are called fake and {100 * band.false_negative_rate:.0f} % of the fakes real."
        )
    return parts.section(
        "When it is unsure",
        parts.panels(
            plots.figure(
                plot, "Risk against coverage", "The error when only the surest answers are given; dashed: 80 %."
            )
        ),
        parts.legend([(name, tones[name], "") for name in selective.parts]),
        parts.table(rows, columns),
        note=f"Between probabilities of {band.low:.2f} and {band.high:.2f} its answer is unsure.{promise}",
    )


def _clips(result: DetectorResult) -> Markup:
    if not result.clips:
        return Markup("")
    rows = [
        {
            "part": part,
            "way": way,
            **{key: measures.value(key) for key in ("roc_auc", "balanced_accuracy", "ece")},
        }
        for part, answers in (("as delivered", result.clips.clean), ("degraded", result.clips.degraded))
        if answers
        for way, measures in (("calibrated aggregate", answers.aggregate), ("mean of the frames", answers.mean))
    ]
    clips = result.by_kind["clip"]
    return parts.section(
        "Clips",
        parts.table(
            rows,
            {"part": "media", "way": "verdict by", "roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy"}
            | {"ece": "ECE"},
        ),
        note=f"{clips.n:,} clips. A clip's verdict weighs the mean, the extremes and the spread of its frames' "
        "logits, fitted on validation clips; for comparison, the plain mean of the frames' probabilities.",
    )


def _cross_source(result: DetectorResult) -> Markup:
    if not result.cross_source:
        return Markup("")
    rows = [
        {
            "source": source.source,
            "label": parts.badge(source.label, source.label),
            "n": source.n,
            "seen": source.seen.roc_auc,
            "unseen": source.unseen.roc_auc,
            "change": change_badge("roc_auc", source.unseen.roc_auc, source.seen.roc_auc),
            "strange": source.familiarity_auc,
            "wrong": source.wrong,
            "right": source.unseen.accuracy if source.right is None else source.right,
        }
        for source in result.cross_source
    ]
    columns = {
        "source": "source",
        "label": "label",
        "n": "test units",
        "seen": "ROC AUC, trained with it",
        "unseen": "ROC AUC, never seen",
        "change": "change",
        "strange": "AUC of familiarity",
        "wrong": "answered wrongly, never seen",
        "right": "answered rightly, never seen",
    }
    return parts.section(
        "On a source it has never seen",
        parts.table(rows, columns),
        note="One source at a time is left out, with its family: a head of sources on the features of the layers that "
        "this training left unchanged, trained with and without it, judged on its media against all of the other "
        "label.",
    )


def _answers(result: DetectorResult, data: Dataset, units: Units) -> Markup:
    if not result.answers:
        return Markup("")
    rows = [
        {
            "condition": in_words(condition.name),
            "source": source.source,
            "label": parts.badge(source.label, source.label) if source.label != "both" else "both",
            "n": source.n,
            "answered": source.answered,
            "wrong": source.wrong,
            "unfamiliar": source.unfamiliar,
        }
        for condition in result.answers
        for source in (condition.all, *(condition.by_source if condition.name == CLEAN else ()))
    ]
    columns = {
        "condition": "condition",
        "source": "source",
        "label": "label",
        "n": "units",
        "answered": "answered",
        "wrong": "answered wrongly",
        "unfamiliar": "unlike the training media",
    }
    places = {path: number for number, path in enumerate(units.path.tolist())}
    least = [places[path] for path in result.answers[0].least_familiar if path in places]
    pixels = data.views([_middle_row(units, unit) for unit in least])[:, 0]
    pictures = [(parts.jpeg(picture), units.source[unit]) for picture, unit in zip(pixels, least, strict=True)]
    return parts.section(
        "What is answered, and what is unfamiliar",
        parts.table(rows, columns),
        parts.heading("The least familiar test media"),
        parts.gallery(pictures),
        note="A verdict needs a probability outside the band and a file that is like the training media; what is not "
        "answered is unsure.",
    )


def _by_source(evaluation: EvaluationResult) -> Markup:
    rows = [
        {
            "source": name,
            "label": parts.badge(*["real" if measures.n_real else "fake"] * 2),
            "n": measures.n,
            "accuracy": measures.accuracy,
        }
        for name, measures in evaluation.candidate.by_source.items()
    ]
    return parts.section(
        "By source",
        parts.table(rows, {"source": "source", "label": "label", "n": "units", "accuracy": "called right"}),
        note="The share of each source that is called what it is.",
    )


def _examples(
    result: DetectorResult, data: Dataset, units: Units, heat_maps: Callable[[np.ndarray], np.ndarray] | None
) -> Markup:
    labels, probability = units.label, np.array(result.scores.probability)
    right = (probability >= result.threshold) == (labels == 1)
    sureness = np.abs(probability - result.threshold)
    chosen = {}
    for label, name in ((0, "Real media called fake"), (1, "Fakes called real")):
        wrong = np.flatnonzero(~right & (labels == label))
        surest = wrong[np.argsort(-sureness[wrong], kind="stable")][:WORST]
        chosen[f"{name}: {len(wrong):,}" + (f", the {WORST} surest" if len(wrong) > WORST else "")] = surest
    for label, name in ((0, "Real media called real, typical answers"), (1, "Fakes called fake, typical answers")):
        hits = np.flatnonzero(right & (labels == label))
        middle = hits[np.argsort(sureness[hits], kind="stable")]
        chosen[name] = middle[max(0, len(middle) // 2 - TYPICAL // 2) :][:TYPICAL]
    every = np.concatenate(list(chosen.values()))
    if not len(every):
        return Markup("")
    pixels = data.views([_middle_row(units, unit) for unit in every])[:, 0]
    heat = heat_maps(pixels) if heat_maps else None
    strongest = float(np.quantile(np.abs(heat), 0.98)) if heat is not None else 0.0
    cells = {}
    for number, unit in enumerate(every):
        shown = pixels[number]
        if heat is not None:
            shown = np.concatenate([shown, overlay(shown, heat[number], strongest)], axis=1)
        cells[unit] = (parts.jpeg(shown, 128 * shown.shape[1] // shown.shape[0]), _caption(units, probability, unit))
    ratio = 2.0 if heat is not None else 1.0
    blocks = []
    for name, some in chosen.items():
        if len(some):
            blocks += [parts.heading(name), parts.gallery([cells[unit] for unit in some], ratio)]
    note = "The first view of each, as the detector sees it; the number is the probability of fake."
    if heat is not None:
        note += " On the right, where it looked (Grad-CAM), on the scale below."
        colours = [f"rgb({', '.join(map(str, colour))})" for colour in (REAL, (128, 128, 128), FAKE)]
        scale = f"real, \N{MINUS SIGN}{strongest:.2f} on the logit", f"+{strongest:.2f}, fake"
        blocks.insert(0, parts.colour_bar(colours, *scale))
    return parts.section("The worst mistakes, and typical answers", *blocks, note=note)


def _middle_row(units: Units, unit: int) -> int:
    rows = units.rows_of(unit)
    return rows[len(rows) // 2]


def _caption(units: Units, probability: np.ndarray, unit: int) -> str:
    kind = "" if units.kind[unit] == "picture" else " clip"
    return f"{probability[unit]:.2f} · {units.source[unit]}{kind}"


def _footer(evaluation: EvaluationResult) -> str:
    result = evaluation.candidate
    model = ", ".join(part for part in (result.backbone, result.recipe, result.view) if part)
    return (
        f"Detector {result.digest[:12]} ({model}) · dataset {evaluation.dataset_digest[:12]} · "
        f"test rows {evaluation.rows_digest[:12]} · {audit_in_words(evaluation.audit)}"
    )
