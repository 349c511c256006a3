"""The page that explains one verdict."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.page import parts

TONES = {"real": "real", "fake": "fake", "unsure": "warn"}


def write_page(path: Path, answer: Mapping[str, Any]) -> Path:
    """Write the page of one verdict, there whole or not at all.

    Args:
        path: The file to write.
        answer: What `Verdict.to_json` gives, with its heat map.

    Returns:
        The path.
    """
    receipt = answer["receipt"]
    lines = [{"what": key.replace("_", " "), "value": value} for key, value in receipt.items()]
    body = parts.page(
        f"{Path(answer['path']).name}: {answer['verdict']}",
        [
            parts.numbers(
                {
                    "verdict": parts.badge(answer["verdict"], TONES[answer["verdict"]]),
                    "probability of fake": answer["probability"],
                    "frames looked at": answer["frames"],
                }
            ),
            _heat(answer),
            _timeline(answer),
            _deliveries(answer),
            _familiarity(answer),
            _nearest(answer),
            _provenance(answer),
            parts.section("Known limits of this detector", *answer["limits"]) if answer["limits"] else "",
            parts.section(
                "Receipt",
                parts.table(lines, code=["value"]),
                note="By what, and from what, this answer was made.",
            ),
        ],
        lead=answer["reason"][:1].upper() + answer["reason"][1:] or _words(answer),
        footer=answer["path"],
    )
    part = path.with_name(f".{path.name}.part")
    part.write_text(body, encoding="utf-8")
    part.replace(path)
    return path


def _words(answer: Mapping[str, Any]) -> str:
    band = answer["band"]
    if answer["verdict"] == "fake":
        return f"Its probability of fake, {answer['probability']:.2f}, lies above {band['high']:.2f}."
    return f"Its probability of fake, {answer['probability']:.2f}, lies below {band['low']:.2f}."


def _heat(answer: Mapping[str, Any]) -> str:
    if not answer["heat_map"]:
        return ""
    picture = base64.b64decode(answer["heat_map"].partition(",")[2])
    moment = answer["heat_map_time_s"]
    where = "" if moment is None else f", of the frame at {moment:.1f} s, the most suspicious of those looked at"
    return parts.section(
        "Where", parts.picture(picture, f"Orange looks fake, teal looks real{where}."), note="What pushed the answer."
    )


def _timeline(answer: Mapping[str, Any]) -> str:
    rows = [
        {
            "second": f"{moment['time_s']:.1f}",
            "probability of fake": moment["probability"],
            "": parts.bar({"fake": moment["probability"], "real": 1 - moment["probability"]}, 1.0),
        }
        for moment in answer["timeline"]
    ]
    suspicious = [f"{part['start_s']:.1f} s to {part['end_s']:.1f} s" for part in answer["segments"]]
    note = f"Suspicious from {', and from '.join(suspicious)}." if suspicious else "No part alone is suspicious."
    return parts.section("Timeline", parts.table(rows), note=note) if rows else ""


def _deliveries(answer: Mapping[str, Any]) -> str:
    rows = [
        {"delivery": delivery["words"], "probability of fake": delivery["probability"], "says": delivery["verdict"]}
        for delivery in answer["deliveries"]
    ]
    return (
        parts.section(
            "Delivery test", parts.table(rows), note="The file itself, as it would look after something happened to it."
        )
        if rows
        else ""
    )


def _familiarity(answer: Mapping[str, Any]) -> str:
    measured = answer["familiarity"]
    if not measured:
        return parts.section("Familiarity", "This detector was trained before familiarity was measured.")
    words = "Like the media that it was trained on" if measured["familiar"] else "Unlike all that it was trained on"
    return parts.section(
        "Familiarity",
        f"{words}: {measured['score']:.3f}, at least {measured['threshold']:.3f} is familiar; nearest source "
        f"{measured['nearest']}.",
    )


def _nearest(answer: Mapping[str, Any]) -> str:
    rows = [{**known, "distance": f"{known['distance']} of 64 bits"} for known in answer["nearest"]]
    text = parts.table(rows, code=["path"]) if rows else parts.paragraph("No training media is near to it.")
    return parts.section("Nearest training media", text, note="By perceptual hash; at most 4 bits is the same picture.")


def _provenance(answer: Mapping[str, Any]) -> str:
    provenance = answer["provenance"]
    c2pa = [
        {"C2PA": key.replace("_", " "), "value": str(value)}
        for key, value in (provenance["c2pa"] or {}).items()
        if value
    ]
    blocks = [parts.table(c2pa), parts.table(provenance["metadata"], code=["value"])]
    if not any(blocks):
        blocks = [parts.paragraph("The file says nothing of its origin.")]
    return parts.section(
        "What the file says of itself", *blocks, note="Easily removed or forged, so no part of the score."
    )
