"""Which detector answers: the champion, a registered version, a directory or an address."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components import home, registry, tracking
from components.errors import InputError

EVALUATION = "evaluation.json"  # as it is kept with a version


@dataclass(frozen=True)
class Selected:
    """A detector on this machine's disk.

    Attributes:
        directory: Where it lies.
        version: What a receipt says of it: `model`, `version`, `alias`; empty for a directory.
        limits: What it must not be used for, a sentence each; empty where its evaluation is not at hand.
    """

    directory: Path
    version: Mapping[str, str]
    limits: tuple[str, ...] = ()


def select(wanted: str, default_name: str) -> Selected:
    """Find a detector and bring it to this machine.

    Args:
        wanted: NAME, NAME@ALIAS, NAME/VERSION, a directory, or an address that MLflow understands (models:/...,
            runs:/..., gs://...); empty for the champion of `default_name`.
        default_name: Of the registered model where only an alias or a version is given.

    Raises:
        InputError: There is no such detector.
    """
    text = wanted.strip() or default_name
    if (Path(text) / "card.json").is_file():
        return Selected(Path(text), {})
    text = text.removeprefix("models:/")
    if re.match(r"[a-z0-9]+:/", text):
        return Selected(_downloaded(text), {})
    parsed = re.fullmatch(r"(?P<name>[\w.-]*)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))?", text)
    if not parsed:
        raise InputError(
            f"model {wanted!r} is not understood; give NAME, NAME@ALIAS, NAME/VERSION, a detector's directory, or an "
            "address such as models:/NAME/3"
        )
    name = parsed["name"] or default_name
    alias = parsed["alias"] or ("" if parsed["version"] else registry.CHAMPION)
    registered = _version(name, alias, parsed["version"] or "")
    about = {"model": registered.name, "version": registered.version, "alias": alias or ",".join(registered.aliases)}
    return Selected(registry.fetch(registered), about, _limits(registered))


def _version(name: str, alias: str, number: str) -> registry.Version:
    registered = registry.find(name, alias) if alias else None
    if number:
        registered = next((version for version in registry.versions(name) if version.version == number), None)
    if registered is not None:
        return registered
    if number:
        raise InputError(f"{name!r} has no version {number}; see: ai-vs-real models list --model-name {name}")
    if alias != registry.CHAMPION:
        raise InputError(f"no version of {name!r} has the alias {alias!r}; see: ai-vs-real models list")
    raise InputError(
        f"there is no champion of {name!r} in {tracking.public_uri()}; make one with ai-vs-real run, or give a "
        "detector with --model"
    )


def _downloaded(address: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        fetched = Path(download_artifacts(address, dst_path=tempfile.mkdtemp(prefix="ai-vs-real-")))
    except (MlflowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no detector can be fetched from {address}: {reason}; check the address") from error
    for place in (fetched, fetched / "data" / "detector"):
        if (place / "card.json").is_file():
            return place
    raise InputError(f"{address} holds no detector: card.json is missing; give the address of a registered version")


def _limits(version: registry.Version) -> tuple[str, ...]:
    """Return the limits of a version's own evaluation, kept beside its files for the next time."""
    remembered = home.place() / "detectors" / f"{version.tags['sha256']}.limits.json"
    if not remembered.is_file():
        try:
            with tempfile.TemporaryDirectory() as part:
                evaluation = json.loads(registry.kept(version, EVALUATION, Path(part)).read_text())
            limits = evaluation["candidate"].get("limits") or []
        except (InputError, OSError, ValueError, KeyError):
            return ()  # registered by hand, without an evaluation
        part_of_file = remembered.with_suffix(".part")
        try:
            part_of_file.write_text(json.dumps(limits))
            part_of_file.replace(remembered)
        except OSError:  # a run home that can only be read
            return tuple(limits)
    return tuple(json.loads(remembered.read_text()))
