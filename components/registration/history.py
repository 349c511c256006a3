"""Who is champion, since when and why: the registry's aliases and the records, kept in step.

Each change is an event in the records' `promotions`, numbered by model name and only ever appended. It is written
first, then the aliases are set, then a confirmation is appended; the last two are safe to do twice. Whoever comes next
finishes what a killed process left between them, and records what was changed in the registry by hand. So after
`History.settle`, the registry's champion is the last event's.
"""

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from components import registry
from components.errors import InputError
from components.records import DuplicateError, Records, now, open_records

COLLECTION = "promotions"
PROMOTED, REFUSED, ROLLED_BACK, FOUND = "promoted", "refused", "rolled back", "found"
GATE, OUTSIDE = "the gate", "outside"

Event = dict[str, Any]


class History:
    """The history of one registered model.

    Args:
        records: Where its events are.
        name: Of the registered model.
    """

    def __init__(self, records: Records, name: str):
        self.records = records
        self.name = name
        self._last: Event | None = None  # as `settle` saw it

    def settle(self) -> registry.Version | None:
        """Bring the registry and the records into step, and return the champion."""
        while True:
            self._last = last = self._newest()
            if last and self.records.get(COLLECTION, _confirmation(last)) is None:
                self._carry_out(last)
            champion = registry.find(self.name)
            is_now, expected = champion.version if champion else "", last["champion_after"] if last else ""
            if is_now == expected:
                return champion
            text = f"the champion was changed in the registry itself, from {called(expected)} to {called(is_now)}"
            details = {"digest": champion.digest} if champion else {}
            with suppress(DuplicateError):  # a change by another process is under way: look again
                self.append(FOUND, is_now, champion=is_now, reasons=[text], by=OUTSIDE, details=details)

    def append(
        self,
        kind: str,
        version: str,
        *,
        champion: str,
        reasons: list[str],
        by: str,
        challenger: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Event:
        """Record an event and carry it out, after `settle`.

        Args:
            kind: PROMOTED, REFUSED, ROLLED_BACK or FOUND.
            version: Which it is about.
            champion: Who is champion after it; empty for nobody.
            reasons: Why, in sentences.
            by: Who decided.
            challenger: Who is challenger after it; empty for nobody, None to leave that as it is.
            details: More to keep with the event.

        Returns:
            The event.

        Raises:
            DuplicateError: Another process appended an event since `settle`; nothing has changed.
        """
        number, before = (self._last["number"], self._last["champion_after"]) if self._last else (0, "")
        aliases = {registry.CHAMPION: champion} if champion != before and kind != FOUND else {}
        aliases |= {} if challenger is None else {registry.CHALLENGER: challenger}
        event = {
            **(details or {}),
            "_id": f"{self.name}/{number + 1:06d}",
            "at": _after(self._last),
            "type": "event",
            "name": self.name,
            "number": number + 1,
            "kind": kind,
            "version": version,
            "champion_before": before,
            "champion_after": champion,
            "aliases": aliases,
            "reasons": reasons,
            "by": by,
        }
        self.records.append(COLLECTION, event)
        self._carry_out(event)
        self._last = event
        return event

    def events(self) -> list[Event]:
        """Return all events, oldest first."""
        return self.records.find(COLLECTION, self._events())[::-1]

    def decided(self, question: str) -> Event | None:
        """Return the newest event that answers a question of the gate."""
        return next(iter(self.records.find(COLLECTION, {"question": question}, limit=1)), None)

    def champion_at(self, moment: str) -> Event | None:
        """Return the event that made the champion of a moment; None where there was no champion.

        Args:
            moment: ISO 8601, in UTC if it does not say; a date alone means its end.
        """
        try:
            end = datetime.fromisoformat(f"{moment}T23:59:59.999999" if len(moment) == 10 else moment)
        except ValueError as error:
            raise InputError(f"{moment!r} is no moment; write 2026-01-31 or 2026-01-31T15:00") from error
        end = end if end.tzinfo else end.replace(tzinfo=UTC)
        reign = None
        for event in self.events():
            if event["champion_after"] != event["champion_before"] and datetime.fromisoformat(event["at"]) <= end:
                reign = event
        return reign if reign and reign["champion_after"] else None

    def rolled_back(self, digest: str) -> Event | None:
        """Return the event that rolled a detector back, unless it was made champion again later."""
        for event in reversed(self.events()):
            if event.get("dropped_digest") == digest:
                return event
            if event["kind"] != REFUSED and event.get("digest") == digest:
                return None
        return None

    def promote(self, version: str, reason: str) -> Event:
        """Make a version champion by hand.

        Raises:
            InputError: There is no such version, it is the champion already, or no reason is given.
        """
        champion, wanted = self.settle(), self._version(version)
        if champion and champion.version == version:
            raise InputError(f"version {version} of {self.name} is the champion already")
        reasons, details = [_given(reason)], {"digest": wanted.digest}
        return self.append(PROMOTED, version, champion=version, reasons=reasons, by=_person(), details=details)

    def roll_back(self, reason: str) -> Event:
        """Make the version champion that was so before the present one.

        Raises:
            InputError: There is no champion, or none before it, or no reason is given.
        """
        champion, reigns = self.settle(), _reigns(self.events())
        if champion is None or len(reigns) < 2:
            raise InputError(f"{self.name} has no earlier champion to go back to; see: ai-vs-real models history")
        earlier = self._version(reigns[-2])
        details = {"digest": earlier.digest, "dropped": champion.version, "dropped_digest": champion.digest}
        back, reasons = earlier.version, [_given(reason)]
        return self.append(ROLLED_BACK, back, champion=back, reasons=reasons, by=_person(), details=details)

    def _events(self) -> dict[str, str]:
        return {"type": "event", "name": self.name}

    def _newest(self) -> Event | None:
        return next(iter(self.records.find(COLLECTION, self._events(), limit=1)), None)

    def _carry_out(self, event: Event) -> None:
        while True:
            for alias, version in event["aliases"].items():
                self._point(alias, version)
            newest = self._newest()
            if newest is None or newest["_id"] == event["_id"]:
                break
            event = newest  # another process was faster: its event is the one that counts
        with suppress(DuplicateError):  # confirmed by another process that settled
            confirmation = {"_id": _confirmation(event), "type": "confirmation", "name": self.name}
            self.records.append(COLLECTION, confirmation)

    def _point(self, alias: str, version: str) -> None:
        try:
            registry.set_alias(self.name, alias, version)
        except InputError:
            if version in [known.version for known in registry.versions(self.name)]:
                raise
            # Deleted by hand since: there is nothing to point at, and `settle` records what it finds instead.

    def _version(self, version: str) -> registry.Version:
        by_version = {known.version: known for known in registry.versions(self.name)}
        if version not in by_version:
            raise InputError(f"{self.name} has no version {version!r}; it has {', '.join(by_version) or 'none'}")
        return by_version[version]


@contextmanager
def open_history(name: str) -> Iterator[History]:
    """Open the records and the history of one registered model in them.

    Raises:
        InputError: The records do not answer, or another process changed the champion at the same moment.
    """
    with open_records() as records:
        try:
            yield History(records, name)
        except DuplicateError as error:
            raise InputError(f"another process changed the champion of {name} just now; look, and try again") from error


def called(version: str) -> str:
    """Return how a sentence names a champion that there may not be."""
    return f"champion version {version}" if version else "no champion"


def _confirmation(event: Event) -> str:
    return f"{event['_id']}/confirmed"


def _after(last: Event | None) -> str:
    # Later than the event before even where two machines' clocks differ: order by time is order by number.
    if last is None:
        return now()
    least = datetime.fromisoformat(last["at"]) + timedelta(microseconds=1)
    return max(now(), least.isoformat(timespec="microseconds"))


def _reigns(events: list[Event]) -> list[str]:
    """Return the champions that a roll-back would walk through, the present one last: those rolled back are off."""
    stack: list[str] = []
    for event in events:
        if event["kind"] == ROLLED_BACK:
            while stack and stack[-1] != event["champion_after"]:
                stack.pop()
        elif event["champion_after"] and event["champion_after"] != event["champion_before"]:
            stack.append(event["champion_after"])
    return stack


def _given(reason: str) -> str:
    if not reason.strip():
        raise InputError("a reason is needed, for whoever reads the history later; give --reason TEXT")
    return reason.strip()


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "somebody"
