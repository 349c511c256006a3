"""The settings of `components.settings` as options of a command."""

import argparse
from collections.abc import Sequence
from typing import Any

from components.settings import SETTINGS, Setting, completed, names_of


def add_pipeline_options(command: Any, names: Sequence[str] = tuple(SETTINGS)) -> None:
    """Add an option for settings, in their groups; a setting that is not given is not in the namespace.

    Args:
        command: A `main.Parser`.
        names: Of the settings.
    """
    groups: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        setting = SETTINGS[name]
        group = groups.get(setting.group) or command.add_argument_group(setting.group)
        groups[setting.group] = group
        brief, whole = _in_words(setting, whole=False), _in_words(setting, whole=True)
        option = group.add_argument(setting.option, default=argparse.SUPPRESS, help=brief, **_kind(setting))
        option.usual, option.whole = bool(setting.brief), whole
    if not all(SETTINGS[name].brief for name in names):
        command.add_help_all()


def _kind(setting: Setting) -> dict[str, Any]:
    if isinstance(setting.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    return {"type": type(setting.default), "metavar": setting.metavar}


def _in_words(setting: Setting, whole: bool) -> str:
    text = setting.brief if setting.brief and not whole else setting.help.removesuffix(".")
    if text[1].islower():  # no name in capitals
        text = text[0].lower() + text[1:]
    if whole and setting.choices and not all(choice in text for choice in setting.choices):
        text = f"{text}: {setting.accepted}"
    default = {True: "yes", False: "no"}[setting.default] if isinstance(setting.default, bool) else str(setting.default)
    if default and (whole or len(default) < 20):
        text = f"{text} ({default})"
    return text.replace("%", "%%")


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line gives, and what they imply.

    Args:
        options: What a command with `add_pipeline_options` was given.
    """
    return completed({name: getattr(options, name) for name in SETTINGS if hasattr(options, name)})


def stage_arguments(options: argparse.Namespace, stage: str) -> dict[str, Any]:
    """Return the settings of a stage that is run alone, checked: as given, else the defaults.

    Args:
        options: What a command with `add_pipeline_options` was given.
        stage: Such as "train".

    Raises:
        InputError: A setting is not accepted.
    """
    from pipelines.steps.validation import validate

    return validate(pipeline_arguments(options), names_of(stage))
