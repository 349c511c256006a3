"""What the service accepts: every bound of a request, of its queue and of its links, in one place."""

import os
from dataclasses import dataclass, field

KEYS_VARIABLE = "AI_VS_REAL_API_KEYS"


@dataclass(frozen=True)
class Bounds:
    """The bounds of the service.

    Attributes:
        megabytes: Size of an upload or of the file behind a link, in 2**20 bytes.
        upload_seconds: From the first byte of a request to its last.
        answer_seconds: From a whole upload to its answer, the wait in the queue included.
        link_seconds: For the download of a link.
        video_seconds: Duration of a video.
        read_seconds: For the decoding of one file, in a process of its own.
        read_megabytes: Memory of that process, in 2**20 bytes.
        at_once: Files that are examined at the same time.
        queued: Files that wait beyond those; further ones are answered with 429.
        private_links: Whether links to private addresses are followed; for closed networks alone.
        review_files: Files that the review set takes before it asks for somebody to look at them.
    """

    megabytes: float = 200.0
    upload_seconds: float = 120.0
    answer_seconds: float = 120.0
    link_seconds: float = 30.0
    video_seconds: float = 3600.0
    read_seconds: float = 60.0
    read_megabytes: int = 520
    at_once: int = field(default_factory=lambda: max(1, os.cpu_count() or 1))
    queued: int = 32
    private_links: bool = False
    review_files: int = 10_000

    @property
    def bytes(self) -> int:
        """The largest upload, in bytes."""
        return int(self.megabytes * 2**20)


def api_keys() -> tuple[str, ...]:
    """Return the keys that callers may present, from AI_VS_REAL_API_KEYS, separated by commas; empty: none is asked."""
    return tuple(filter(None, map(str.strip, os.environ.get(KEYS_VARIABLE, "").split(","))))
