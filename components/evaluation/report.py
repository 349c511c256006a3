"""The page a person reads: how well the detector does, where it fails, and beside whom."""

from typing import Any

import numpy as np

from components import page
from components.dataset import Dataset
from components.evaluation.metrics import reliability
from components.units import Units

WORST = 12
NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy_real": "reals called real",
    "accuracy_fake": "fakes called fake",
    "ece": "calibration error (ECE)",
    "eer": "equal error rate",
}


def write_report(evaluation: dict[str, Any], data: Dataset, units: Units) -> str:
    """Return the evaluation page, one self-contained HTML file.

    Args:
        evaluation: What `evaluate` writes.
        data: The dataset, for the pictures of the worst mistakes.
        units: The units that were scored, in the order of the evaluation's scores.
    """
    result = evaluation["candidate"]
    overall = result["overall"]
    lead = (
        f"{overall['n']:,} pictures and clips of the test split, none of them seen in training. "
        f"Of 100 reals it calls {100 * overall['accuracy_real']:.0f} real, "
        f"of 100 fakes it calls {100 * overall['accuracy_fake']:.0f} fake."
    )
    return page.page(
        "Evaluation",
        [
            _note(evaluation["note"]),
            page.numbers(
                {
                    "ROC AUC": overall["roc_auc"],
                    "average precision": overall["average_precision"],
                    "balanced accuracy": overall["balanced_accuracy"],
                    "calibration error (ECE)": overall["ece"],
                    **_audit_numbers(evaluation["audit"]),
                }
            ),
            _beside(evaluation),
            _curves(evaluation),
            _decisions(result),
            _where(result),
            _mistakes(result, data, units),
        ],
        lead=lead,
        footer=_footer(evaluation),
    )


def _note(note: str) -> str:
    if not note:
        return ""
    return page.section("Read this first", page.Html(f"{page.badge('not field accuracy', 'warn')} {page.text(note)}"))


def _audit_numbers(audit: dict[str, Any] | None) -> dict[str, Any]:
    # What a classifier gets without looking: an accuracy that does not beat these says little.
    audit = audit or {}
    return {
        f"{name} AUC": audit[key]["auc"] if isinstance(audit[key], dict) else audit[key]
        for key, name in (("metadata", "metadata-only"), ("thumbnail", "thumbnail-only"))
        if key in audit
    }


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
        note=f"Version {evaluation['champion_version']} of the registry, on the same rows, in the same process.",
    )


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


def _decisions(result: dict[str, Any]) -> str:
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
        note=f"Fake from a probability of {result['threshold']:.3f}, the dashed line.",
    )


def _histogram(result: dict[str, Any]) -> Any:
    labels, probability = np.array(result["scores"]["label"]), np.array(result["scores"]["probability"])
    plot, axis = page.canvas(10.2, 2.7)
    edges = np.linspace(0, 1, 41)
    for label, name in enumerate(("real", "fake")):
        axis.hist(probability[labels == label], edges, color=page.COLOURS[name], alpha=0.62, label=name)
    axis.axvline(result["threshold"], color="#23272e", linewidth=1, linestyle="--")
    axis.set(xlabel="probability of fake", ylabel="pictures and clips", xlim=(0, 1))
    axis.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
    return plot


def _where(result: dict[str, Any]) -> str:
    def rows(part: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "n_real": values["n_real"],
                "n_fake": values["n_fake"],
                "accuracy": values["accuracy"],
                "balanced_accuracy": values["balanced_accuracy"],
                "roc_auc": values["roc_auc"],
                "ece": values["ece"],
            }
            for name, values in part.items()
        ]

    columns = {
        "n_real": "reals",
        "n_fake": "fakes",
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "roc_auc": "ROC AUC",
        "ece": "ECE",
    }
    return page.section(
        "Where it holds and where it does not",
        page.heading("By source"),
        page.table(rows(result["by_source"]), {"name": "source", **columns}),
        page.heading("By kind"),
        page.table(rows(result["by_kind"]), {"name": "kind", **columns}),
        note="A source has one label, so only its accuracy means anything by itself.",
    )


def _mistakes(result: dict[str, Any], data: Dataset, units: Units) -> str:
    labels, probability = units.label, np.array(result["scores"]["probability"])
    wrong = np.flatnonzero((probability >= result["threshold"]) != (labels == 1))
    if not len(wrong):
        return page.section("The worst mistakes", "None: every picture and clip was called what it is.")
    blocks = []
    for label, words in ((0, "Reals called fake"), (1, "Fakes called real")):
        chosen = wrong[labels[wrong] == label]
        chosen = chosen[np.argsort(-np.abs(probability[chosen] - result["threshold"]), kind="stable")][:WORST]
        pictures = [(_picture(data, units, unit), _caption(units, probability, unit)) for unit in chosen]
        total = int((labels[wrong] == label).sum())
        if pictures:
            blocks += [page.heading(f"{words}: {total:,}"), page.gallery(pictures)]
    return page.section(
        "The worst mistakes",
        *blocks,
        note=f"The {WORST} that it was surest of, of each sort, as the detector sees them.",
    )


def _picture(data: Dataset, units: Units, unit: int) -> bytes:
    rows = units.rows_of(unit)
    return page.jpeg(data.views(rows[len(rows) // 2 :][:1])[0, 0], 128)


def _caption(units: Units, probability: np.ndarray, unit: int) -> str:
    kind = "" if units.kind[unit] == "picture" else " clip"
    return f"{probability[unit]:.2f} · {units.source[unit]}{kind}"


def _footer(evaluation: dict[str, Any]) -> str:
    result = evaluation["candidate"]
    model = " ".join(part for part in (result["backbone"], result["recipe"], result["view"]) if part)
    return (
        f"Detector {result['digest'][:12]} ({model}) · dataset {evaluation['dataset_digest'][:12]} · "
        f"test rows {evaluation['rows_digest'][:12]}"
    )
