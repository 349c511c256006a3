"""`ai-vs-real data`: versions of datasets, in your own Git repository and on your own remote."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.home import run_home
from components.progress import printable


def add_parser(commands: Any) -> None:
    """Add the command `data` and its own commands."""
    parser = commands.add_parser("data", description=__doc__)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def action(name: str, function: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=function.__doc__)
        added.add_argument(
            "--repository", default="", metavar="DIR", help="in the Git repository of your data versions (.)"
        )
        added.add_argument("--json", action="store_true", help="one JSON document on standard output")
        added.set_defaults(run=function)
        return added

    making = action("snapshot", snapshot, "make a version of a dataset")
    making.add_argument(
        "dataset", type=Path, nargs="?", help="what preprocess wrote; the last run's dataset if left out"
    )
    making.add_argument("-m", "--message", default="", metavar="TEXT", help="of the commit")
    pushing = action("push", push, "send versions to the remote")
    pushing.add_argument("versions", nargs="*", metavar="VERSION", help="which; all if none is named")
    pulling = action("pull", pull, "bring a version here")
    pulling.add_argument("version", metavar="VERSION")
    pulling.add_argument("--output", type=Path, metavar="DIR", help="where to (data/VERSION in the repository)")
    action("list", list_versions, "every version with its counts")
    comparing = action("diff", diff, "what differs between two versions")
    comparing.add_argument("before", metavar="VERSION")
    comparing.add_argument("after", metavar="VERSION")
    for reaching in (pushing, pulling, comparing):
        reaching.add_argument("--remote", default="", metavar="NAME", help="a remote of DVC (its default)")
        reaching.add_argument(
            "--dagshub", default="", metavar="USER/REPO", help="DagsHub; its token in DAGSHUB_USER_TOKEN"
        )


def snapshot(options: argparse.Namespace) -> None:
    """Commit a version of a dataset: shards, manifest, certificate and media list, their bytes kept by DVC."""
    dataset = options.dataset or _last_dataset()
    repository = _repository(options)
    version = repository.snapshot(dataset, options.message)
    if options.json:
        print(json.dumps({"version": version, "repository": str(repository.root)}))
    else:
        print(f"{version}  in {repository.root}; push it with ai-vs-real data push, and git push --follow-tags")


def push(options: argparse.Namespace) -> None:
    """Send the bytes of versions to the remote; what is there is not sent again."""
    sent, place = _repository(options).push(options.versions)
    print(json.dumps({"files": sent, "remote": place}) if options.json else f"{sent:,} files sent to {place}")


def pull(options: argparse.Namespace) -> None:
    """Bring a version here, bit for bit as it was snapshot."""
    place = _repository(options).pull(options.version, options.output)
    print(json.dumps({"dataset": str(place)}) if options.json else place)


def list_versions(options: argparse.Namespace) -> None:
    """List every version, the newest first."""
    versions = _repository(options).versions()
    if options.json:
        cards = [
            {"version": version.version, "here": version.here, "counts": version.card.get("counts")}
            for version in versions
        ]
        print(json.dumps(cards, indent=1))
        return
    if not versions:
        print("no version is there yet; make one with ai-vs-real data snapshot DATASET")
    for version in versions:
        counts = version.card["counts"]
        splits = ", ".join(f"{name} {split['files']:,}" for name, split in counts["splits"].items())
        where = "here" if version.here else "on the remote"
        print(
            f"{version.version}  {counts['files']:,} files ({splits}), {counts['rows']:,} rows, "
            f"{version.card['view']}  {where}"
        )


def diff(options: argparse.Namespace) -> None:
    """Say what differs: files by source and label, other content and labels, groups that moved between splits."""
    from components.versions.difference import difference

    changes = difference(_repository(options), options.before, options.after)
    print(json.dumps(changes, indent=1) if options.json else "\n".join(map(printable, changes["words"])))


def _repository(options: argparse.Namespace) -> Any:
    from components.versions.repository import DataRepository

    remote, dagshub = getattr(options, "remote", ""), getattr(options, "dagshub", "")
    return DataRepository(options.repository, remote=remote, dagshub=dagshub)


def _last_dataset() -> str:
    from components.errors import InputError
    from components.records import open_records

    with open_records() as records:
        runs = records.find("runs", {"type": "pipeline", "outcome": "completed"}, limit=1)
    if not runs:
        raise InputError(f"no run in {run_home()} has left a dataset; name one, or make one with ai-vs-real run")
    return runs[0]["dataset"]
