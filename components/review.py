"""Contract: the review set, files whose verdict somebody called wrong.

A directory `review` in the run home:

- `pending/ID/`: `media` (the file), `entry.json` (the claim, the verdict, the model's version, when);
- `accepted/{real,fake}/review/ID`: the file, labelled media for a later run; `accepted/entries/ID.json`;
- `rejected/ID/`: as it was pending, with the reason.

An entry is moved by renames and never deleted.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import InputError

CLAIMS = ("real", "fake")
SOURCE = "review"  # of accepted files in a dataset
LONGEST_NOTE = 500  # characters
STATES = ("pending", "accepted", "rejected")


@dataclass(frozen=True)
class Entry:
    """One file of the review set.

    Attributes:
        id: The first 16 digits of the file's SHA-256.
        claim: What it is said to be: real or fake.
        verdict: The verdict that was called wrong, as the service gave it.
        at: When it came, ISO 8601, UTC.
        note: What the person said about it.
        state: pending, accepted or rejected.
        path: The file, relative to the review set.
        reason: Why it was rejected.
    """

    id: str
    claim: str
    verdict: Mapping[str, Any]
    at: str
    note: str = ""
    state: str = "pending"
    path: str = ""
    reason: str = field(default="")


class FullError(Exception):
    """The review set holds as many pending files as it takes."""


class ReviewSet:
    """The review set of a run home.

    Args:
        home: The run home.
    """

    def __init__(self, home: str | Path):
        self.directory = Path(home) / "review"

    def add(self, media: str | Path, claim: str, verdict: Mapping[str, Any], note: str = "", most: int = 0) -> Entry:
        """Keep a copy of a file and of what is claimed about it; the same file twice is one entry, the later claim.

        Args:
            media: The file.
            claim: real or fake.
            verdict: The verdict that is called wrong.
            note: In the person's own words, at most 500 characters; the rest is cut.
            most: Pending files from which on no further one is taken; 0 for no bound.

        Raises:
            InputError: The claim is neither of the labels.
            FullError: So many files are pending.
        """
        if claim not in CLAIMS:
            raise InputError(f"the claim {claim!r} is not accepted; claim real or fake")
        with Path(media).open("rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        pending = self.directory / "pending"
        pending.mkdir(parents=True, exist_ok=True)
        if most and not (pending / identity).exists() and sum(1 for _ in pending.iterdir()) >= most:
            raise FullError
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(identity, claim, dict(verdict), at, note[:LONGEST_NOTE], path=f"pending/{identity}/media")
        part = Path(tempfile.mkdtemp(dir=pending, prefix=".part-"))
        try:
            shutil.copyfile(media, part / "media")
            _write(part / "entry.json", entry)
            try:
                os.rename(part, pending / identity)
            except OSError:  # it is there already
                os.replace(part / "entry.json", pending / identity / "entry.json")
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return entry

    def entries(self, state: str = "") -> list[Entry]:
        """Return the entries, oldest first, of one state or of all."""
        places = {
            "pending": self.directory.glob("pending/[!.]*/entry.json"),
            "accepted": self.directory.glob("accepted/entries/[!.]*.json"),
            "rejected": self.directory.glob("rejected/[!.]*/entry.json"),
        }
        entries = [_read(path) for name, paths in places.items() if state in ("", name) for path in paths]
        return sorted(entries, key=lambda entry: (entry.at, entry.id))

    def accept(self, identity: str, label: str = "") -> Entry:
        """Make a pending file labelled media for later runs.

        Args:
            identity: The entry's id, or as many of its first digits as no other has.
            label: real or fake, where the claim is not to be believed; the claim if empty.

        Raises:
            InputError: There is no such pending entry, or no such label.
        """
        entry = self._pending(identity)
        label = label or entry.claim
        if label not in CLAIMS:
            raise InputError(f"the label {label!r} is not accepted; use real or fake")
        place = f"accepted/{label}/{SOURCE}/{entry.id}"
        accepted = Entry(**{**asdict(entry), "claim": label, "state": "accepted", "path": place})
        target = self.directory / place
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.directory / "accepted" / "entries").mkdir(exist_ok=True)
        # The file first: a stop in between leaves the entry pending, to be accepted again.
        os.link(self.directory / entry.path, target) if not target.exists() else None
        _write(self.directory / "accepted" / "entries" / f"{entry.id}.json", accepted)
        self._retire(entry)
        return accepted

    def reject(self, identity: str, reason: str = "") -> Entry:
        """Set a pending file aside; it is kept, and no run takes it.

        Raises:
            InputError: There is no such pending entry.
        """
        entry = self._pending(identity)
        place = self.directory / "rejected" / entry.id
        rejected = Entry(
            **{**asdict(entry), "state": "rejected", "path": f"rejected/{entry.id}/media", "reason": reason}
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            raise InputError(f"{entry.id} was rejected before; it lies in {place}")
        _write(self.directory / "pending" / entry.id / "entry.json", rejected)
        os.rename(self.directory / "pending" / entry.id, place)
        return rejected

    def _retire(self, entry: Entry) -> None:
        # What was pending has another name now; the empty place goes.
        place = self.directory / "pending" / entry.id
        for name in ("media", "entry.json"):
            with contextlib.suppress(FileNotFoundError):
                (place / name).unlink()
        place.rmdir()

    def _pending(self, identity: str) -> Entry:
        entries = [entry for entry in self.entries("pending") if entry.id.startswith(identity.lower())]
        if not re.fullmatch(r"[0-9a-f]{1,16}", identity.lower()) or not entries:
            raise InputError(f"no pending file has the id {identity!r}; ai-vs-real review list shows them")
        if len(entries) > 1:
            raise InputError(f"{len(entries)} pending files have ids that begin with {identity!r}; give more digits")
        return entries[0]


def _write(path: Path, entry: Entry) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(asdict(entry), indent=1), encoding="utf-8")
    os.replace(part, path)


def _read(path: Path) -> Entry:
    try:
        return Entry(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not an entry of the review set: {error}") from None
