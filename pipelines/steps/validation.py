"""Everything that a step would refuse, checked before the first one runs: in about a second, without TensorFlow."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from components import settings
from components.errors import InputError


def validate(
    given: Mapping[str, Any], names: tuple[str, ...] = tuple(settings.SETTINGS), *, weights: bool = True
) -> dict[str, Any]:
    """Check settings as the steps will read them, and the weights that training starts from.

    Args:
        given: By name; a setting that is missing has its default.
        names: Of the settings to check.
        weights: Whether to look for the weights from this machine.

    Returns:
        The settings of these names, with the defaults.

    Raises:
        InputError: A setting is unknown or not accepted, two contradict each other, or the weights cannot be had.
    """
    settings.check(given)
    every = {**settings.DEFAULTS, **settings.completed(given)}
    values = {name: every[name] for name in names}
    for name, read in _readers().items():
        if name in values:
            read(values[name])
    if "weights" in values:
        from components.training import backbones, recipes

        recipes.resolved(every)
        if weights:
            backbones.check_weights(every["backbone"], every["weights"])
    if weights and "last_component" in values:
        from components import last_component

        last_component.check(values["last_component"])
    return values


def _readers() -> dict[str, Callable[[str], Any]]:
    # The grammar of a text belongs to the stage that reads it.
    from components.evaluation.cross_source import parse_families
    from components.extraction.extract import parse_tiers
    from components.media import degradations
    from components.media.videos import Sampling
    from components.media.view import Delivery, ViewPolicy
    from components.preprocessing.confounds import AuditPolicy
    from components.preprocessing.split import parse_hold_out
    from components.registration.gate import Gate

    return {
        "sampling": Sampling.parse,
        "view": ViewPolicy.parse,
        "delivery": Delivery.parse,
        "tiers": parse_tiers,
        "hold_out": parse_hold_out,
        "audit": AuditPolicy.parse,
        "test_degradations": degradations.parse,
        "families": parse_families,
        "gate": Gate.parse,
        "model_name": _check_model_name,
    }


def _check_model_name(name: str) -> None:
    if not re.fullmatch(r"[^/:\s][^/:\n]{0,249}", name):  # what MLflow refuses, and what no shell should need to quote
        raise InputError(f"model_name is {name!r}; it must have 1 to 250 characters, none of them / or :")
