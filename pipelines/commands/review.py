"""`ai-vs-real review`: the files whose verdict somebody called wrong."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from components.home import run_home
from components.progress import printable
from components.review import CLAIMS, STATES, ReviewSet


def add_parser(subparsers: Any) -> None:
    """Add the command `review` and its own commands."""
    parser = subparsers.add_parser("review", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the files, oldest first", description=show.__doc__)
    listing.add_argument("--state", choices=STATES, default="pending", help="which of them (%(default)s)")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")
    listing.set_defaults(run=show)
    accepting = commands.add_parser("accept", help="make files labelled media", description=accept.__doc__)
    accepting.add_argument("ids", nargs="+", metavar="ID", help="as the list shows them, or their first digits")
    accepting.add_argument("--label", choices=CLAIMS, default="", help="what they are (as claimed)")
    accepting.set_defaults(run=accept)
    rejecting = commands.add_parser("reject", help="set files aside", description=reject.__doc__)
    rejecting.add_argument("ids", nargs="+", metavar="ID", help="as the list shows them, or their first digits")
    rejecting.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept")
    rejecting.set_defaults(run=reject)


def show(options: argparse.Namespace) -> None:
    """List the files of the review set: claim, verdict and where the file lies."""
    review = ReviewSet(run_home())
    entries = review.entries(options.state)
    if options.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        probability = entry.verdict.get("probability")
        said = entry.verdict.get("verdict", "no verdict")
        sure = f" ({probability:.2f})" if isinstance(probability, float) else ""
        note = f'  "{entry.note}"' if entry.note else ""
        print(
            printable(
                f"{entry.id}  claimed {entry.claim}, answered {said}{sure}  {review.directory / entry.path}{note}"
            )
        )
    if not entries:
        print(f"no {options.state} files")


def accept(options: argparse.Namespace) -> None:
    """Accept files as labelled media: `ai-vs-real run MEDIA --with-review` takes them as the source `review`."""
    review = ReviewSet(run_home())
    for identity in options.ids:
        entry = review.accept(identity, options.label)
        print(printable(f"{entry.id}: accepted as {entry.claim}, {review.directory / entry.path}"))


def reject(options: argparse.Namespace) -> None:
    """Set files aside: they are kept, and no run takes them."""
    review = ReviewSet(run_home())
    for identity in options.ids:
        entry = review.reject(identity, options.reason)
        print(printable(f"{entry.id}: rejected, {review.directory / entry.path}"))
