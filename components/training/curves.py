"""The page that a training leaves: what was trained, and its learning curves."""

from typing import Any

from components import page


def render(history: dict[str, list[dict[str, float]]], card: dict[str, Any]) -> str:
    """Return the page as self-contained HTML.

    Args:
        history: Phase to the metrics of its epochs, in the order of training.
        card: The detector's card.
    """
    epochs = [metrics for phase in history.values() for metrics in phase]
    settings = [{"setting": name, "value": str(value)} for name, value in card["settings"].items()]
    return page.page(
        "Training",
        [
            page.numbers(
                {
                    "backbone": card["backbone"],
                    "epochs": len(epochs),
                    "seconds": sum(metrics["seconds"] for metrics in epochs),
                    "validation ROC AUC": card["validation"]["auc"],
                    "validation loss": card["validation"]["loss"],
                }
            ),
            page.section(
                "Learning curves",
                page.figure(_plot(history), "Loss and ROC AUC by epoch; a dotted line is where the next phase began."),
                note="Validation far above training in loss means that the pictures were learnt by heart.",
            ),
            page.section("Settings", page.table(settings)),
        ],
        lead=card.get("note")
        or f"From weights {card['weights']['name']}, recipe {card['recipe']}, view {card['view']}.",
        footer=f"Detector {card['digest'][:12]}, dataset {card['dataset_digest'][:12]}, commit {card['commit'][:12]}",
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
