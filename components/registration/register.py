"""Register a detector, and promote it if the gate lets it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components import registry
from components.detector import read_card
from components.errors import InputError
from components.progress import say
from components.records import Records, now, open_records
from components.registration.gate import Check, Decision, Gate, decide

PROMOTED, REFUSED = "promoted", "refused"


def find_champion(model: str | Path, model_name: str) -> str:
    """Return the version of the champion that a detector has to beat; empty where there is none, or it is the detector.

    Args:
        model: Directory of the detector.
        model_name: Of the registered model.
    """
    champion = registry.find(model_name)
    if champion is None or champion.digest == read_card(model)["digest"]:
        return ""
    return champion.version


def register(model: str | Path, evaluation: str | Path, *, model_name: str, gate: str) -> dict[str, Any]:
    """Register a detector as challenger, and promote it to champion if the gate lets it.

    The decision and its numbers are recorded. What was decided before on the same detector, evaluation and gate, with
    the same champion, is returned as it is recorded.

    Args:
        model: Directory of the detector.
        evaluation: The JSON file that `evaluate` wrote.
        model_name: Of the registered model.
        gate: The text of a `Gate`.

    Returns:
        decision (promoted, refused), reasons, version, champion_version, metrics, and the checks one by one.

    Raises:
        InputError: The evaluation is of another detector, or the registry or the records do not answer.
    """
    card, judged = read_card(model), _read_evaluation(Path(evaluation))
    if judged["candidate"]["digest"] != card["digest"]:
        raise InputError(f"{evaluation} judges another detector than {model}; evaluate this one first")
    policy = Gate.parse(gate)
    question = _digest(model_name, card["digest"], json.dumps(judged, sort_keys=True), str(policy))
    with open_records() as records:
        champion = registry.find(model_name)
        known = records.find("promotions", {"question": question}, limit=1)
        if known and known[0]["champion_after"] == (champion.version if champion else ""):
            say("register", f"{known[0]['decision']} before, as version {known[0]['version']}; nothing has changed")
            return known[0]
        decision = judge(judged, policy, champion)
        version = _enter(model_name, Path(model), card, champion, decision)
        outcome = {
            "_id": f"{model_name}/{now()}",
            "at": now(),
            "question": question,
            "name": model_name,
            "decision": PROMOTED if decision.promote else REFUSED,
            "version": version,
            "champion_before": champion.version if champion else "",
            "champion_after": version if decision.promote else champion.version if champion else "",
            "reasons": decision.reasons,
            "checks": [asdict(check) for check in decision.checks],
            "gate": str(policy),
            "metrics": judged["candidate"]["overall"],
            "champion_metrics": judged["champion"]["overall"] if judged["champion"] else None,
            "model_digest": card["digest"],
            "dataset_digest": judged["dataset_digest"],
            "rows_digest": judged["rows_digest"],
            "run_id": card.get("run_id", ""),
        }
        _record(records, outcome, card, judged)
    say("register", f"{outcome['decision']}: version {version} of {model_name}: {'; '.join(outcome['reasons'])}")
    return outcome


def judge(evaluation: Mapping[str, Any], gate: Gate, champion: registry.Version | None) -> Decision:
    """Decide on a candidate, given who is champion now: it may be the candidate, or not who the evaluation met."""
    if champion and champion.digest == evaluation["candidate"]["digest"]:
        return Decision((Check("itself", False, f"it is the champion itself, version {champion.version}"),))
    met, is_now = evaluation["champion_version"], champion.version if champion else ""
    if met != is_now:
        text = f"it was compared with {_called(met)}, and now there is {_called(is_now)}: evaluate again"
        return Decision((Check("evaluation", False, text),))
    return decide(evaluation, gate)


def _called(version: str) -> str:
    return f"champion version {version}" if version else "no champion"


def _enter(
    name: str, model: Path, card: Mapping[str, Any], champion: registry.Version | None, decision: Decision
) -> str:
    """Put the detector into the registry under the alias that it earned and return its version."""
    if champion and champion.digest == card["digest"]:
        return champion.version
    tags = {"backbone": card.get("backbone", ""), "gate": decision.reasons[0]}
    version = registry.add_version(name, model, card.get("run_id", ""), tags).version
    registry.set_alias(name, registry.CHAMPION if decision.promote else registry.CHALLENGER, version)
    return version


def _record(records: Records, outcome: Mapping[str, Any], card: Mapping[str, Any], judged: Mapping[str, Any]) -> None:
    run = outcome["run_id"] or outcome["model_digest"]
    results = {who: _numbers(judged[who]) for who in ("candidate", "champion")}
    shared = {key: outcome[key] for key in ("model_digest", "dataset_digest", "rows_digest", "version", "decision")}
    records.put("results", {"_id": outcome["question"], "run": run, **shared, **results})
    records.put("runs", {"_id": run, "model_name": outcome["name"], **shared, "card": card})
    records.append("promotions", outcome)


def _numbers(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a result without the single scores: those are as many as the test has pictures."""
    return result and {key: value for key, value in result.items() if key != "scores"}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read_evaluation(path: Path) -> dict[str, Any]:
    try:
        evaluation = json.loads(path.read_text())
        assert isinstance(evaluation["candidate"]["overall"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path} is not an evaluation; make one with ai-vs-real evaluate") from error
    return evaluation
