"""The page that a training leaves: what was trained, and its learning curves."""

from typing import Any

from components import page
from components.revision import of_document


def render(history: dict[str, list[dict[str, float]]], card: dict[str, Any]) -> str:
    """Return the page as self-contained HTML.

    Args:
        history: Phase to the metrics of its epochs, in the order of training.
        card: The detector's card.
    """
    epochs = [metrics for phase in history.values() for metrics in phase]
    learnt = page.section(
        "Learning curves",
        page.figure(_plot(history), "Loss and ROC AUC by epoch; a dotted line is where the next phase began."),
        note="Validation far above training in loss means that the pictures were learnt by heart.",
    )
    settings = [{"setting": name, "value": str(value)} for name, value in card["settings"].items()]
    return page.page(
        "Training",
        [
            page.numbers(
                {
                    "epochs": "none: solved" if card["depths"] and len(epochs) == 1 else len(epochs),
                    "seconds": round(sum(metrics["seconds"] for metrics in epochs)),
                    "validation ROC AUC, view by view": card["validation"]["auc"],
                    "validation loss, view by view": card["validation"]["loss"],
                }
            ),
            learnt if len(epochs) > 1 else "",
            _depths(card["depths"]),
            page.section("Settings", page.table(settings)),
        ],
        lead=card.get("note")
        or f"{card['backbone']} from weights {card['weights']['name']}, recipe {card['recipe']}, view {card['view']}.",
        footer=f"Detector {card['digest'][:12]}, dataset {card['dataset_digest'][:12]}, "
        f"{of_document(card.get('revision'))}",
    )


def _depths(depths: list[dict[str, Any]]) -> str:
    if not depths:
        return ""
    *each, together = depths
    rows = [
        {"read": one["layer"], "pixels": f"{one['pixels']} x {one['pixels']}", "features": one["features"]}
        | {"auc": one["auc"]}
        for one in each
    ]
    rows[-1]["read"] += ", the top alone"
    rows.append({"read": "all together: this detector's head", "pixels": "", **together})
    columns = {
        "read": "the head reads",
        "pixels": "resolution",
        "features": "features",
        "auc": "validation ROC AUC, all views",
    }
    return page.section(
        "What the head reads",
        page.table(rows, columns),
        note="The head was solved, not trained in epochs: a regularised logistic regression of the mean and the spread "
        "of the activations at each depth. Beside it heads solved on each depth alone. The ROC AUC is of validation "
        "pictures and frames, each by the mean of its views, as the detector is used.",
    )


def _plot(history: dict[str, list[dict[str, float]]]) -> Any:
    epochs = [metrics for phase in history.values() for metrics in phase]
    plot, axes = page.canvas(9, 3.4, columns=2)
    for axis, name, label in zip(axes, ("loss", "auc"), ("loss", "ROC AUC"), strict=True):
        number = range(1, len(epochs) + 1)
        axis.plot(number, [metrics[name] for metrics in epochs], color=page.COLOURS["quiet"], label="training")
        axis.plot(
            number, [metrics[f"val_{name}"] for metrics in epochs], color=page.COLOURS["real"], label="validation"
        )
        end = 0.5
        for phase in list(history.values())[:-1]:
            end += len(phase)
            axis.axvline(end, color=page.COLOURS["quiet"], linestyle=":")
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.legend(frameon=False)
    return plot
