"""One thing that the doctor looked at."""

from dataclasses import dataclass

from components.redaction import redact


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: The thing.
        ok: Whether it serves; None where that could not be seen from here.
        observed: What is there.
        needed: What would serve.
        fix: What to do; empty where nothing is to be done.
    """

    what: str
    ok: bool | None
    observed: str
    needed: str = ""
    fix: str = ""

    def __post_init__(self):
        object.__setattr__(self, "observed", redact(self.observed))

    def __str__(self) -> str:
        """Return the finding as a line."""
        mark = {True: "ok  ", False: "FAIL", None: "?   "}[self.ok]
        rest = (
            ""
            if self.ok
            else "".join(f"; {text}" for text in (self.needed and f"needs {self.needed}", self.fix) if text)
        )
        return f"{mark}  {self.what}: {self.observed}{rest}"


def line_of(error: Exception) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
