"""Compare two registered detectors by the evaluations that are kept with them."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from components import registry
from components.errors import InputError
from components.evaluation_result import EvaluationResult, Judged, as_plain
from components.page import parts
from components.registration.gate import Decision, Gate, decide
from components.registration.register import EVALUATION
from components.registration.report import write_page


def compare(
    name: str, version: str, other: str = "", *, gate: str, decision_page: str | Path | None = None
) -> dict[str, Any]:
    """Say what the gate would say of a version if another version were champion.

    Args:
        name: Name of the registered model.
        version: The challenger.
        other: The version in the champion's place; the champion itself if empty.
        gate: The text of a `Gate`.
        decision_page: File for the page with both side by side, HTML; None for no page.

    Returns:
        version, other, would_promote, reasons, checks, and both overall results.

    Raises:
        InputError: A version is not there, or has no evaluation kept with it.
    """
    known = {entry.version: entry for entry in registry.versions(name)}
    other = other or next((entry.version for entry in known.values() if registry.CHAMPION in entry.aliases), "")
    for wanted in (version, other):
        if wanted not in known:
            raise InputError(f"{name} has no version {wanted or '(champion)'!r}; it has {', '.join(known) or 'none'}")
    challenger, champion = _evaluations(known[version], known[other])
    decision = decide(challenger, champion, Gate.parse(gate))
    if decision_page:
        write_page(
            decision_page,
            title=f"Version {version} of {name} against version {other}",
            lead=parts.sentence(f"it would be {'promoted' if decision.promote else 'refused'}: {decision.reasons[0]}"),
            version=version,
            decision=decision,
            gate=gate,
            challenger=challenger,
            champion=champion,
        )
    return _document(version, other, decision, challenger, champion)


def _document(version: str, other: str, decision: Decision, challenger: Judged, champion: Judged) -> dict[str, Any]:
    return {
        "version": version,
        "other": other,
        "would_promote": decision.promote,
        "reasons": decision.reasons,
        "checks": [vars(check) for check in decision.checks],
        "metrics": as_plain(challenger.result.overall),
        "other_metrics": as_plain(champion.result.overall),
    }


def _evaluations(version: registry.Version, other: registry.Version) -> tuple[Judged, Judged]:
    """Return both evaluations: of the same rows where one file holds both, else each its own."""
    files = {}
    with tempfile.TemporaryDirectory() as part:
        for entry in (version, other):
            path = registry.kept(entry, EVALUATION, Path(part) / entry.version)
            files[entry.digest] = EvaluationResult.read(path).sides
    for sides in files.values():
        both = {side.result.digest: side for side in sides if side}
        if {version.digest, other.digest} <= set(both):
            return both[version.digest], replace(both[other.digest], version=other.version)
    return files[version.digest][0], replace(files[other.digest][0], version=other.version)
