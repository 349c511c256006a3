"""The detector that the service answers with, exchanged for a new champion without a restart."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.prediction.selection import Selected, select
from components.redaction import redact

FIRST_LOOKS_S = 2.0  # between two looks until there is a detector


@dataclass(frozen=True)
class Served:
    """A loaded detector.

    Attributes:
        examiner: Answers for files; see `components.prediction.verdict.Examiner`.
        version: Its version in the registry; empty for one from a directory.
        digest: Of the detector.
        limits: What the detector must not be used for, a sentence each.
        since: When it was loaded, seconds since 1970.
    """

    examiner: Any
    version: str
    digest: str
    limits: tuple[str, ...]
    since: float


@dataclass(frozen=True)
class Candidate:
    """The detector that should answer.

    Attributes:
        key: What distinguishes it from another detector.
        load: Loads it.
    """

    key: tuple[str, ...]
    load: Callable[[], Served]


class Champion:
    """Holds the detector and watches the registry for another champion.

    A new one is loaded beside the old one and takes its place between two requests; a request keeps the detector that
    it began with. Where the registry cannot be asked, the last detector goes on answering.

    Args:
        look: Returns the champion of now; None where there is none.
        every_s: Seconds between two looks; 0 for no further look once a detector is loaded.
    """

    def __init__(self, look: Callable[[], Candidate | None], every_s: float = 10.0):
        self._look, self._every_s = look, every_s
        self._served: Served | None = None
        self._key: tuple[str, ...] = ()
        self._error = "the detector is being loaded"
        self._failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champion", daemon=True)

    def start(self) -> None:
        """Begin to look and to load, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    @property
    def served(self) -> Served | None:
        """The detector to answer with, None before the first one is loaded."""
        return self._served

    @property
    def error(self) -> str:
        """What the last look or load failed with, in a line without secrets; empty where it did not fail."""
        return self._error

    @property
    def failures(self) -> int:
        """How many looks and loads have failed."""
        return self._failures

    def refresh(self) -> None:
        """Look once, and load another champion if there is one."""
        try:
            candidate = self._look()
            if candidate is None:
                self._error = "there is no champion yet; promote a detector with ai-vs-real run"
                return
            if candidate.key != self._key:
                self._served, self._key = candidate.load(), candidate.key
            self._error = ""
        except Exception as error:  # whatever it is, the detector that is loaded goes on answering
            self._failures += 1
            self._error = redact(str(error)) or type(error).__name__

    def _watch(self) -> None:
        while True:
            self.refresh()
            if self._served and not self._every_s:
                return
            if self._stop.wait(self._every_s if self._served else FIRST_LOOKS_S):
                return


def champion_of(model_name: str, open_examiner: Callable[[Selected], Any], every_s: float) -> Champion:
    """Return the champion of a registered model, watched.

    Args:
        model_name: Name of the registered model.
        open_examiner: Loads a detector.
        every_s: Seconds between two looks at the registry.
    """
    from components import registry

    def look() -> Candidate | None:
        version = registry.find(model_name)
        if version is None:
            return None
        key = (version.name, version.version, version.digest)
        return Candidate(key, lambda: _opened(f"{version.name}/{version.version}", model_name, open_examiner))

    return Champion(look, every_s)


def fixed(wanted: str, model_name: str, open_examiner: Callable[[Selected], Any]) -> Champion:
    """Return a detector that is never exchanged.

    Args:
        wanted: Which one; see `components.prediction.selection.select`.
        model_name: Name of the registered model where only an alias or a version is given.
        open_examiner: Loads a detector.
    """
    return Champion(lambda: Candidate((wanted,), lambda: _opened(wanted, model_name, open_examiner)), every_s=0.0)


def _opened(wanted: str, model_name: str, open_examiner: Callable[[Selected], Any]) -> Served:
    selected = select(wanted, model_name)
    examiner = open_examiner(selected)
    version = selected.version.get("version", "")
    return Served(examiner, version, examiner.card["digest"], selected.limits, time.time())
