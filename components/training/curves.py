"""The page that a training leaves: what was trained, and its learning curves."""

from typing import Any

from markupsafe import Markup

from components.page import parts, plots
from components.revision import of_document


def render(history: dict[str, list[dict[str, float]]], card: dict[str, Any]) -> str:
    """Return the page as self-contained HTML.

    Args:
        history: Phase to the metrics of its epochs, in the order of training.
        card: The detector's card.
    """
    epochs = [metrics for phase in history.values() for metrics in phase]
    settings = [{"setting": name, "value": str(value)} for name, value in card["settings"].items()]
    trained = (
        f"{card['backbone']} from weights {card['weights']['name']}, recipe {card['recipe']}, view {card['view']}."
    )
    return parts.page(
        "Training",
        [
            parts.numbers(
                {
                    "epochs": "none: solved" if card["depths"] and len(epochs) == 1 else len(epochs),
                    "seconds": round(sum(metrics["seconds"] for metrics in epochs)),
                    "validation ROC AUC, view by view": card["validation"]["auc"],
                    "validation loss, view by view": card["validation"]["loss"],
                }
            ),
            _curves(history) if len(epochs) > 1 else "",
            _depths(card["depths"]),
            parts.section("Settings", parts.table(settings, code=["setting"])),
        ],
        lead=trained,
        footer=f"Detector {card['digest'][:12]} · dataset {card['dataset_digest'][:12]} · "
        f"commit {of_document(card.get('revision'))}",
        notice=card.get("note", ""),
    )


def _curves(history: dict[str, list[dict[str, float]]]) -> Markup:
    epochs = [metrics for phase in history.values() for metrics in phase]
    kept = min(range(len(epochs)), key=lambda number: epochs[number]["val_loss"])
    phases = [name for name, phase in history.items() if phase]
    figures = []
    for name, title in (("loss", "Loss"), ("auc", "ROC AUC")):
        plot, axes = plots.canvas()
        number = range(1, len(epochs) + 1)
        training, validation = ([metrics[prefix + name] for metrics in epochs] for prefix in ("", "val_"))
        axes.plot(number, training, color=plots.COLOURS["quiet"])
        axes.plot(number, validation, color=plots.COLOURS["real"])
        axes.axvline(kept + 1, color=plots.COLOURS["fake"], linewidth=1, linestyle="--")
        axes.scatter([kept + 1], [validation[kept]], s=40, color=plots.COLOURS["fake"], zorder=3)
        end = 0.5
        for phase in phases[:-1]:
            end += len(history[phase])
            axes.axvline(end, color=plots.COLOURS["quiet"], linestyle=":")
        axes.set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        figures.append(plots.figure(plot, title))
    began = [(f"{name} begins", "quiet", "dotted") for name in phases[1:]]
    return parts.section(
        "Learning curves",
        parts.panels(*figures),
        parts.legend(
            [
                ("training", "quiet", ""),
                ("validation", "real", ""),
                (f"kept: epoch {kept + 1}", "fake", "dashed"),
                *began,
            ]
        ),
        note="The epoch with the lowest validation loss is kept. A validation loss far above the training loss means "
        "that the pictures were learnt by heart.",
    )


def _depths(depths: list[dict[str, Any]]) -> Markup:
    if not depths:
        return Markup("")
    *each, together = depths
    rows = [
        {"read": depth["layer"], "pixels": f"{depth['pixels']} × {depth['pixels']}", "features": depth["features"]}
        | {"auc": depth["auc"]}
        for depth in each
    ]
    rows[-1]["read"] += ", the top alone"
    rows.append({"read": "all together: this detector's head", "pixels": "", **together})
    columns = {
        "read": "the head reads",
        "pixels": "resolution",
        "features": "features",
        "auc": "validation ROC AUC, all views",
    }
    return parts.section(
        "What the head reads",
        parts.table(rows, columns),
        note="The head was solved, not trained in epochs: a regularised multinomial regression of the sources on the "
        "mean and the spread of the activations at each depth; fake is what a fake source likelier made. For "
        "comparison, heads solved on each depth alone. The ROC AUC is that of "
        "validation pictures and frames, each by the mean of its views, as the detector is used.",
    )
