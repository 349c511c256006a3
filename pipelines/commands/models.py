"""`ai-vs-real models`: the registered detectors, who is champion, who was and why."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.progress import printable
from components.settings import DEFAULTS


def add_parser(subparsers: Any) -> None:
    """Add the command `models` and its own commands."""
    parser = subparsers.add_parser("models", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=function.__doc__)
        added.add_argument("--model-name", default=DEFAULTS["model_name"], help="in the registry (%(default)s)")
        added.add_argument("--json", action="store_true", help="one JSON document on standard output")
        added.set_defaults(run=function)
        return added

    command("list", list_models, "every version with its numbers")
    comparing = command("compare", compare_models, "two versions side by side, as the gate sees them")
    comparing.add_argument("version", help="the challenger")
    comparing.add_argument("other", nargs="?", default="", help="in the champion's place (the champion)")
    comparing.add_argument("--gate", default=DEFAULTS["gate"], help="what must be shown (%(default)s)")
    comparing.add_argument("--page", type=Path, metavar="FILE", help="write the page with both, slice by slice")
    promoting = command("promote", promote, "make a version champion by hand")
    promoting.add_argument("version")
    rolling_back = command("rollback", roll_back, "go back to the champion before")
    for changing in (promoting, rolling_back):
        changing.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept in the history")
    history = command("history", show_history, "who was champion when, and why")
    history.add_argument(
        "--at", default="", metavar="DATE", help="only who was champion then: 2026-01-31, or with time"
    )


def list_models(options: argparse.Namespace) -> None:
    """List every version, newest first: its aliases, its numbers and what was decided on it."""
    from components import registry

    with _history(options.model_name) as history:
        history.settle()
        evaluated = {event["version"]: event for event in history.events() if "metrics" in event}
    rows = []
    for version in registry.versions(options.model_name):
        event = evaluated.get(version.version, {})
        metrics = event.get("metrics", {})
        rows.append(
            {
                "version": version.version,
                "aliases": list(version.aliases),
                "decision": event.get("kind", ""),
                "roc_auc": metrics.get("roc_auc"),
                "balanced_accuracy": metrics.get("balanced_accuracy"),
                "backbone": version.tags.get("backbone", ""),
                "registered": event.get("at", ""),
                "digest": version.digest,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print(f"no version of {options.model_name} is registered; make one with ai-vs-real run")
    for row in rows:
        numbers = [f"{name} {row[name]:.3f}" for name in ("roc_auc", "balanced_accuracy") if row[name] is not None]
        parts = [f"{row['version']:>4}", f"{','.join(row['aliases']):<11}", f"{row['decision']:<9}", *numbers]
        print(printable("  ".join([*parts, row["backbone"], row["registered"][:16]]).rstrip()))


def compare_models(options: argparse.Namespace) -> None:
    """Say what the gate would say of a version if another one were champion, by the evaluations kept with them."""
    from components.registration.compare import compare

    comparison = compare(
        options.model_name, options.version, options.other, gate=options.gate, decision_page=options.page
    )
    if options.json:
        print(json.dumps(comparison, indent=1))
        return
    print(f"version {comparison['version']} against {comparison['other']}:", end=" ")
    print("it would be promoted" if comparison["would_promote"] else "it would be refused")
    for check in comparison["checks"]:
        print(f"  {'holds' if check['passed'] else 'FAILS'}  {printable(check['text'])}")
    if options.page:
        print(f"  page   {options.page}")


def promote(options: argparse.Namespace) -> None:
    """Make a version champion by hand; the reason is kept in the history."""
    with _history(options.model_name) as history:
        _tell(options, history.promote(options.version, options.reason))


def roll_back(options: argparse.Namespace) -> None:
    """Make the version champion that was so before the present one, which no pipeline will promote again by itself."""
    with _history(options.model_name) as history:
        _tell(options, history.roll_back(options.reason))


def show_history(options: argparse.Namespace) -> None:
    """Show every promotion, refusal and roll-back, oldest first, or who was champion at a date, and why."""
    with _history(options.model_name) as history:
        history.settle()
        events = history.events()
        if options.at:
            reign = history.champion_at(options.at)
            events = [reign] if reign else []
    if options.json:
        print(json.dumps(events, indent=1))
        return
    if not events:
        at = f" at {options.at}" if options.at else ""
        print(f"{options.model_name} has no {'champion' if options.at else 'history'}{at}")
    for event in events:
        print(_line(event))


def _history(name: str) -> Any:
    from components.registration.history import open_history

    return open_history(name)


def _tell(options: argparse.Namespace, event: dict[str, Any]) -> None:
    print(json.dumps(event, indent=1) if options.json else _line(event))


def _line(event: dict[str, Any]) -> str:
    version, champion = event["version"] or "-", event["champion_after"] or "none"
    what = f"{event['at'][:19]}  {event['kind']:<11}  version {version}  champion {champion}"
    return printable(f"{what}  by {event['by']}: {'; '.join(event['reasons'])}")
