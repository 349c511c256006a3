"""What is answered about a file, and the rule that makes it: real, fake or unsure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from components.media.degradation_names import describe
from components.runtime import verdict_of

REAL, FAKE, UNSURE = "real", "fake", "unsure"


@dataclass(frozen=True)
class Delivered:
    """The answer after something that happens to files on their way.

    Attributes:
        name: The degradation, such as "jpeg:75".
        words: The same for a reader.
        probability: Of fake after it, in [0, 1].
        verdict: What that probability alone says: real or fake, by the threshold.
    """

    name: str
    words: str
    probability: float
    verdict: str


@dataclass(frozen=True)
class Moment:
    """One frame of a video: its time in seconds and its own probability of fake, in [0, 1]."""

    time_s: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of a video whose frames are each fake by the band: from, to (seconds) and worst probability."""

    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Verdict:
    """The answer about one file.

    Attributes:
        path: The file, as it was named.
        kind: picture or clip; None for a file that cannot be read.
        verdict: real, fake or unsure; None for a file that cannot be read.
        reason: Why it is unsure, a sentence; else empty.
        probability: Of fake, calibrated, in [0, 1].
        error: Why the file cannot be read, else None.
        frames: How many frames were looked at; 1 for a picture.
        band: `low` and `high`: between them the probability alone decides nothing.
        familiarity: `score`, `threshold`, `familiar` and `nearest` (a source); None where the detector states none.
        deliveries: The delivery test: the answer after each delivery.
        timeline: Of a video, in order.
        segments: Of a video: where it looks fake.
        provenance: What the file says of its origin: `c2pa` and `metadata`; never part of the verdict.
        nearest: The nearest training media by perceptual hash.
        receipt: By what and from what this answer was made.
        limits: What the detector must not be used for, a sentence each.
        heat_map: A PNG as a data URI: where it looks fake (orange) and real (teal); None unless asked for.
        heat_map_time_s: Of a video, the time of the frame in it.
    """

    path: str
    kind: str | None = None
    verdict: str | None = None
    reason: str = ""
    probability: float | None = None
    error: str | None = None
    frames: int = 0
    band: Mapping[str, float] = field(default_factory=dict)
    familiarity: Mapping[str, Any] | None = None
    deliveries: Sequence[Delivered] = ()
    timeline: Sequence[Moment] = ()
    segments: Sequence[Segment] = ()
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"c2pa": None, "metadata": []})
    nearest: Sequence[Mapping[str, Any]] = ()
    receipt: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()
    heat_map: str | None = None
    heat_map_time_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain dictionaries, lists, text and numbers."""
        return asdict(self)


def decide(
    card: Mapping[str, Any],
    probability: float,
    delivered: Mapping[str, float],
    familiarity: Mapping[str, Any] | None,
) -> tuple[str, str, list[Delivered]]:
    """Decide on a file.

    It is unsure where the probability lies inside the card's band, where the answer changes with the delivery, or
    where the file is unlike everything that the detector was trained on.

    Args:
        card: The detector's card.
        probability: Of fake, calibrated.
        delivered: The same after each delivery of the test.
        familiarity: `familiar` and `nearest`, or None where it was not measured.

    Returns:
        The verdict, its reason (a sentence; empty for real and fake), and the delivery test in words.
    """
    threshold = float(card["threshold"])
    after = [
        Delivered(name, describe(name), value, FAKE if value >= threshold else REAL)
        for name, value in delivered.items()
    ]
    verdict = verdict_of(card, probability)
    side = FAKE if probability >= threshold else REAL
    flips = [delivery.words for delivery in after if delivery.verdict != side]
    reason = ""
    if not math.isfinite(probability):
        reason = "the detector's answer is not a number"
    elif verdict == UNSURE:
        reason = _inside(card, probability)
    elif familiarity and not familiarity["familiar"]:
        verdict, reason = UNSURE, "unlike the media that the detector was trained on, so its probability means little"
    elif flips:
        reason = (
            f"no longer {verdict} after {' and after '.join(flips)}: the answer depends on how the file was delivered"
        )
        verdict = UNSURE
    return verdict, reason, after


def _inside(card: Mapping[str, Any], probability: float) -> str:
    band = card["abstention"]
    if probability >= float(card["threshold"]):
        rate = band.get("false_positive_rate")
        answered = f'"fake" is only answered from {band["high"]:.2f} on'
        cost = f" ({rate:.0%} false alarms on degraded media)" if rate is not None else ""
    else:
        rate = band.get("false_negative_rate")
        answered = f'"real" is only answered below {band["low"]:.2f}'
        cost = f" ({rate:.0%} miss rate on degraded media)" if rate is not None else ""
    return f"probability of fake {probability:.2f}; {answered}{cost}"


def segments_of(timeline: Sequence[Moment], high: float) -> list[Segment]:
    """Return the stretches of a video whose frames are each fake: from half-way to the frame before, to the one after.

    Args:
        timeline: The frames, in order.
        high: The probability from which a frame counts.
    """
    times = [moment.time_s for moment in timeline]
    segments: list[Segment] = []
    for number, moment in enumerate(timeline):
        if moment.probability < high:
            continue
        start = (times[number - 1] + times[number]) / 2 if number else times[0]
        end = (times[number] + times[number + 1]) / 2 if number + 1 < len(times) else times[number]
        if segments and abs(segments[-1].end_s - start) < 1e-9:
            last = segments.pop()
            start, best = last.start_s, max(last.probability, moment.probability)
        else:
            best = moment.probability
        segments.append(Segment(start, end, best))
    return segments
