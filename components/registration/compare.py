"""Compare two registered detectors by the evaluations that are kept with them."""

import json
import tempfile
from pathlib import Path
from typing import Any

from components import registry
from components.errors import InputError
from components.registration.gate import Decision, Evaluation, Gate, decide, sides
from components.registration.register import EVALUATION
from components.registration.report import write_page


def compare(
    name: str, version: str, other: str = "", *, gate: str, decision_page: str | Path | None = None
) -> dict[str, Any]:
    """Say what the gate would say of a version if another one were champion.

    Args:
        name: Of the registered model.
        version: The challenger.
        other: The one in the champion's place; where empty, the champion.
        gate: The text of a `Gate`.
        decision_page: File for the page with both side by side, HTML; None for no page.

    Returns:
        version, other, would_promote, reasons, checks, and both overall results.

    Raises:
        InputError: A version is not there, or has no evaluation kept with it.
    """
    found = {one.version: one for one in registry.versions(name)}
    other = other or next((one.version for one in found.values() if registry.CHAMPION in one.aliases), "")
    for wanted in (version, other):
        if wanted not in found:
            raise InputError(f"{name} has no version {wanted or '(champion)'!r}; it has {', '.join(found) or 'none'}")
    challenger, champion = _evaluations(found[version], found[other])
    decision = decide(challenger, champion, Gate.parse(gate))
    if decision_page:
        write_page(
            decision_page,
            title=f"Version {version} of {name} against version {other}",
            lead=f"{'It would be promoted' if decision.promote else 'It would be refused'}: {decision.reasons[0]}.",
            decision=decision,
            gate=gate,
            challenger=challenger,
            champion=champion,
        )
    return _told(version, other, decision, challenger, champion)


def _told(version: str, other: str, decision: Decision, challenger: Evaluation, champion: Evaluation) -> dict[str, Any]:
    return {
        "version": version,
        "other": other,
        "would_promote": decision.promote,
        "reasons": decision.reasons,
        "checks": [vars(check) for check in decision.checks],
        "metrics": challenger["overall"],
        "other_metrics": champion["overall"],
    }


def _evaluations(version: registry.Version, other: registry.Version) -> tuple[Evaluation, Evaluation]:
    """Return both evaluations: of the same rows where one file holds both, else each one's own."""
    files = {}
    with tempfile.TemporaryDirectory() as part:
        for one in (version, other):
            path = registry.kept(one, EVALUATION, Path(part) / one.version)
            files[one.digest] = sides(json.loads(path.read_text()))
    for candidate, champion in files.values():
        both = {one["digest"]: one for one in (candidate, champion) if one}
        if {version.digest, other.digest} <= set(both):
            return both[version.digest], {**both[other.digest], "version": other.version}
    return files[version.digest][0], {**files[other.digest][0], "version": other.version}
