"""The recipes: what the head reads and how it learns. Nothing here imports Keras."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from components.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """What the head reads and how it learns.

    Attributes:
        depths: Depths of the backbone whose average-pooled features the head reads.
        spread: Whether it reads their standard deviation over the view as well.
        solved: Whether the head is solved for its features, a score for each source, in place of ten epochs.
        augment: Whether rotation, flip, zoom, brightness and contrast are drawn.
        training_degradations: Share of the views that is degraded, after the first draw.
        fine_tune_epochs: Of phase 2.
        fine_tune_learning_rate: Of phase 2.
    """

    depths: int
    spread: bool
    solved: bool
    augment: bool
    training_degradations: float
    fine_tune_epochs: int
    fine_tune_learning_rate: float


RECIPES = {
    # The classic recipe: the top of the backbone, both phases by gradient. A tenth of the rate of phase 1 in phase 2:
    # pretrained weights are to be adjusted, not replaced.
    "plain": Recipe(
        depths=1,
        spread=False,
        solved=False,
        augment=True,
        training_degradations=0.0,
        fine_tune_epochs=10,
        fine_tune_learning_rate=1e-4,
    ),
    # Traces of generators lie in early layers and in how much an activation varies. What augmentation draws, degraded
    # crops have already. Once the head is solved, phase 2 has not lowered the validation loss on the reference media in
    # any run; it is there for more of them.
    "deep": Recipe(
        depths=8,
        spread=True,
        solved=True,
        augment=False,
        training_degradations=1.0,
        fine_tune_epochs=0,
        fine_tune_learning_rate=1e-5,
    ),
}
# With weights "none", whatever the recipe asked for: there are no depths yet to read, and only one phase.
SCRATCH = replace(RECIPES["plain"], training_degradations=0.5, fine_tune_epochs=0)


def recipe_for(name: str, weights: str) -> Recipe:
    """Return the recipe of a name, or that of a training from scratch."""
    return SCRATCH if weights == "none" else RECIPES[name]


def resolved(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of training with the recipe's own values in the place of those below 0.

    Args:
        settings: By name, with recipe, weights, epochs, fine_tune_epochs, training_degradations, consistency and draws.

    Raises:
        InputError: The settings contradict each other.
    """
    own = recipe_for(settings["recipe"], settings["weights"])
    values = dict(settings)
    if values["fine_tune_epochs"] < 0:
        values["fine_tune_epochs"] = own.fine_tune_epochs if values["epochs"] > 1 else 0  # one epoch is one epoch
    if values["training_degradations"] < 0:
        values["training_degradations"] = own.training_degradations
    if values["consistency"] and not (own.solved and values["training_degradations"] and values["draws"] > 1):
        raise InputError(
            f"consistency is {values['consistency']:g}; it needs the recipe deep, pretrained weights, "
            "training_degradations above 0 and draws of at least 2: it compares a view with its degraded draws"
        )
    if values.get("last_component", "none") != "none" and (
        not own.solved or values["fine_tune_epochs"] or values["consistency"]
    ):
        raise InputError(
            "last_component needs the recipe deep and pretrained weights, without fine_tune_epochs and without "
            "consistency: only a head that is solved reads decoded pictures"
        )
    return values
