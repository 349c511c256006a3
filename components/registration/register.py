"""Register a detector, and promote it if the gate lets it."""

import hashlib
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components import registry, tracking
from components.detector import read_card
from components.errors import InputError
from components.evaluation_result import METRICS, DetectorResult, EvaluationResult, as_plain
from components.page import parts
from components.progress import say
from components.records import DuplicateError, Records, open_records
from components.registration.gate import Check, Decision, Gate, decide
from components.registration.history import GATE, PROMOTED, REFUSED, Event, History, called
from components.registration.report import write_page
from components.revision import barred, of_document
from components.runtime import verify

EVALUATION = "evaluation.json"  # as it is kept with a version


def find_champion(model: str | Path, model_name: str) -> str:
    """Return the version of the champion that a detector has to beat; empty where there is none, or it is the detector.

    Args:
        model: Directory of the detector.
        model_name: Of the registered model.
    """
    with open_records() as records:
        champion = History(records, model_name).settle()
    if champion is None or champion.digest == read_card(model)["digest"]:
        return ""
    return champion.version


def register(
    model: str | Path,
    evaluation: str | Path,
    *,
    model_name: str,
    gate: str,
    decision_page: str | Path | None = None,
) -> dict[str, Any]:
    """Register a detector as challenger, and promote it to champion if the gate lets it.

    The decision and its numbers are recorded. What was decided before on the same detector, evaluation and gate, with
    the same champion, is returned as it is recorded.

    Args:
        model: Directory of the detector.
        evaluation: The JSON file that `evaluate` wrote.
        model_name: Of the registered model.
        gate: The text of a `Gate`.
        decision_page: File for the page that a person reads, HTML; None for no page.

    Returns:
        decision (promoted, refused), reasons, version, champion_version, metrics, and the checks one by one.

    Raises:
        InputError: The evaluation is of another detector, the detector's export for the light runtime is missing or
            does not hold, or the registry or the records do not answer.
    """
    card, judged = read_card(model), EvaluationResult.read(evaluation)
    if judged.candidate.digest != card["digest"]:
        raise InputError(f"{evaluation} judges another detector than {model}; evaluate this one first")
    verify(model, card)
    policy = Gate.parse(gate)
    uncommitted = barred(of_document(card.get("revision")))
    question = _digest(model_name, judged.to_json(), str(policy), *filter(None, [uncommitted]))
    with open_records() as records:
        history = History(records, model_name)
        while True:
            champion, known = history.settle(), history.decided(question)
            if known and known["champion_after"] == (champion.version if champion else ""):
                say("register", f"{known['kind']} before, as version {known['version']}; nothing has changed")
                event = known
                break
            decision = judge(judged, policy, champion, history.rolled_back(card["digest"]))
            if uncommitted:
                decision = Decision((*decision.checks, Check("code", False, uncommitted)))
            details = _details(question, policy, decision, judged, card)
            _record(records, details, card, judged)
            with suppress(DuplicateError):  # another process changed the champion meanwhile: decide again
                event = _enter(history, Path(model), Path(evaluation), champion, decision, details, judged)
                say("register", f"{event['kind']}: version {event['version']}: {'; '.join(event['reasons'])}")
                break
    if decision_page:
        _write_page(decision_page, event, judged)
        if event is not known and event["mlflow_run"]:
            with suppress(tracking.MissingError):  # of a version that was there before, its run deleted since
                tracking.add(event["mlflow_run"], files={"pages/decision.html": Path(decision_page)})
    return {"decision": event["kind"], **event}


def judge(
    evaluation: EvaluationResult, gate: Gate, champion: registry.Version | None, rolled_back: Mapping[str, Any] | None
) -> Decision:
    """Decide on a candidate, given what the evaluation cannot know.

    Args:
        evaluation: What `evaluate` wrote.
        gate: What must be shown.
        champion: Who is champion now: it may be the candidate, or not who the evaluation met.
        rolled_back: The event that took the candidate out of service, if one did.
    """
    met, is_now = evaluation.champion_version, champion.version if champion else ""
    if champion and champion.digest == evaluation.candidate.digest:
        return Decision((Check("itself", False, f"it is the champion itself, version {is_now}"),))
    if rolled_back:
        text = f"it was rolled back on {rolled_back['at'][:10]} ({rolled_back['reasons'][0]}); promote it by hand"
        return Decision((Check("rolled back", False, text),))
    if met != is_now:
        text = f"it was compared with {called(met)}, and now there is {called(is_now)}: evaluate again"
        return Decision((Check("evaluation", False, text),))
    return decide(*evaluation.sides, gate)


def _enter(
    history: History,
    model: Path,
    evaluation: Path,
    champion: registry.Version | None,
    decision: Decision,
    details: Mapping[str, Any],
    judged: EvaluationResult,
) -> Event:
    """Put the detector into the registry, and the decision with the alias that it earned into the history."""
    incumbent = champion.version if champion else ""
    if champion and champion.digest == details["digest"]:
        version, run_id, challenger = champion.version, "", None
    else:
        tags = {"backbone": details["backbone"], "gate": decision.reasons[0]}
        description = describe(judged)
        entered = registry.add_version(history.name, model, details["run_id"], tags, description)
        registry.keep(entered, {EVALUATION: evaluation})
        tracking.add(entered.run_id, metrics=metrics_of(judged.candidate), note=description)
        version, run_id, challenger = entered.version, entered.run_id, "" if decision.promote else entered.version
    return history.append(
        PROMOTED if decision.promote else REFUSED,
        version,
        champion=version if decision.promote else incumbent,
        challenger=challenger,
        reasons=decision.reasons,
        by=GATE,
        details={**details, "mlflow_run": run_id},
    )


def describe(judged: EvaluationResult) -> str:
    """Return what a version is, on what data, and what it must not be used for, in Markdown."""
    candidate = judged.candidate
    count = f"{candidate.overall.n:,} pictures and clips ({candidate.overall.n_real:,} real)"
    lines = [
        f"Tells real from AI-generated pictures and videos. Backbone {candidate.backbone}, detector "
        f"{candidate.digest[:12]}.",
        f"Trained on dataset {judged.dataset_digest[:12]}, judged on {count} of its test split. {judged.note}".strip(),
        "It must not be used beyond these limits:",
        "\n".join(f"- {limit}" for limit in candidate.limits or ["None were found by its evaluation."]),
    ]
    return "\n\n".join(lines)


def metrics_of(result: DetectorResult) -> dict[str, float]:
    """Return every test metric as MLflow names it: `test/METRIC`, and `test/CONDITION/METRIC` of each slice of all.

    Args:
        result: Of one detector.

    Returns:
        Finite numbers: over all, on the worst slice (`worst_slice`), and under each degradation and tier.
    """
    measured = {"": result.overall}
    measured |= {f"{entry.name}/": entry.measures for entry in result.slices if entry.by == "degradation"}
    if worst := result.worst_slice:
        measured["worst_slice/"] = worst.measures
    return {
        f"test/{re.sub(r'[^A-Za-z0-9_./ -]', '-', part)}{name}": float(value)
        for part, measures in measured.items()
        for name in METRICS
        if (value := getattr(measures, name, None) if part else result.value(name)) is not None and math.isfinite(value)
    }


def _write_page(path: str | Path, event: Event, judged: EvaluationResult) -> None:
    challenger, champion = judged.sides
    write_page(
        path,
        title=f"{event['kind'].capitalize()}: version {event['version']} of {event['name']}",
        lead=parts.sentence(event["reasons"][0]),
        version=event["version"],
        decision=Decision(tuple(Check(**check) for check in event["checks"])),
        gate=event["gate"],
        challenger=challenger,
        champion=champion,
    )


def _details(
    question: str, gate: Gate, decision: Decision, judged: EvaluationResult, card: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "question": question,
        "gate": str(gate),
        "checks": [asdict(check) for check in decision.checks],
        "metrics": as_plain(judged.candidate.overall),
        "champion_metrics": judged.champion and as_plain(judged.champion.overall),
        "digest": card["digest"],
        "dataset_digest": judged.dataset_digest,
        "rows_digest": judged.rows_digest,
        "backbone": card.get("backbone", ""),
        "run_id": card.get("mlflow_run", ""),
        "data_version": card.get("data_version", ""),
        "revision": of_document(card.get("revision")).document(),
    }


def _record(records: Records, details: Mapping[str, Any], card: Mapping[str, Any], judged: EvaluationResult) -> None:
    run = details["run_id"] or details["digest"]
    shared = {key: details[key] for key in ("digest", "dataset_digest", "rows_digest")}
    results = {"candidate": _numbers(judged.candidate), "champion": _numbers(judged.champion)}
    records.put("results", {"_id": details["question"], "run": run, **shared, **results})
    made_by = {key: details[key] for key in ("data_version", "revision")} | card.get("pipeline", {})
    records.put("runs", {"_id": run, "type": "training", **shared, **made_by, "card": card})


def _numbers(result: DetectorResult | None) -> dict[str, Any] | None:
    """Return a result without the single scores: those are as many as the test has pictures."""
    return {key: value for key, value in as_plain(result).items() if key != "scores"} if result else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
