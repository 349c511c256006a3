"""What a file says of where it comes from: signed manifests and plain metadata. Never part of the score.

Metadata are easily removed and easily forged, so they stand beside a verdict and change nothing in it. They are read
in a worker process, as everything of a file that nobody vouches for.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.media.ffmpeg import INPUT, FFmpeg
from components.media.pictures import open_image

LONGEST = 600  # characters of a value that are kept
MOST = 40  # fields of a file that are kept
# IPTC's digital source types (cv.iptc.org/newscodes/digitalsourcetype) that say "made by a model".
AI_SOURCE_TYPES = ("trainedalgorithmicmedia", "compositewithtrainedalgorithmicmedia", "algorithmicmedia")
GENERATORS = re.compile(
    r"stable.?diffusion|sdxl|comfyui|automatic1111|invokeai|novelai|midjourney|dall.?e|openai|firefly|imagen\b|"
    r"\bsora\b|\brunway|\bkling\b|\bveo\b|\bflux\b|dreamstudio|ideogram|leonardo\.ai|made with ai|ai.generated|"
    r"synthid|google ai|grok|recraft",
    re.IGNORECASE,
)
# Keys under which generators leave prompts and settings in PNG text and EXIF comments.
PROMPT_KEYS = ("parameters", "prompt", "workflow", "sd-metadata", "dream", "invokeai_metadata", "generation_data")
PROMPT = re.compile(
    r"\bSteps: \d+|\bCFG scale: |\bSampler: |\"class_type\": ?\"KSampler|negative prompt:", re.IGNORECASE
)
EXIF = {0x010F: "Make", 0x0110: "Model", 0x0131: "Software", 0x010E: "ImageDescription", 0x013B: "Artist"}
EXIF |= {0x8298: "Copyright", 0x0132: "DateTime"}
EXIF_MORE = {0x9286: "UserComment", 0x9003: "DateTimeOriginal", 0xA434: "LensModel"}
IPTC = {(2, 65): "OriginatingProgram", (2, 80): "Byline", (2, 110): "Credit", (2, 115): "Source", (2, 120): "Caption"}
XMP = ("DigitalSourceType", "CreatorTool", "Credit", "AISystemUsed", "AIPromptInformation", "AIGeneratedContent")
MIME = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff"}
MIME |= {"AVIF": "image/avif", "HEIF": "image/heif", "GIF": "image/gif"}


def read_provenance(path: str | Path) -> Iterator[dict[str, Any]]:
    """Read what a file says of its origin.

    Args:
        path: The file.

    Yields:
        Once: `metadata`, a list of where, field, value and what it `suggests` ("ai", "camera" or ""); and `c2pa`, the
        manifest's state, or None where there is none.
    """
    path = Path(path)
    fields: list[dict[str, str]] = []
    image = None
    with contextlib.suppress(Exception):  # metadata that cannot be read are no metadata
        image = open_image(path)
    kind = MIME.get(image.format or "") if image is not None else "video/mp4"
    if image is not None:
        with contextlib.closing(image):
            for read in (_texts, _exif, _xmp, _iptc):
                with contextlib.suppress(Exception):
                    fields += read(image)
    else:
        with contextlib.suppress(Exception):
            fields += _container(path)
    yield {"c2pa": _c2pa(path, kind) if kind else None, "metadata": fields[:MOST]}


def suggests(field: str, value: str) -> str:
    """Return what a field of metadata suggests: "ai", "camera", or nothing."""
    if "sourcetype" in field.lower():
        return "ai" if any(value.lower().rstrip("/").endswith(kind) for kind in AI_SOURCE_TYPES) else ""
    if field.lower() in PROMPT_KEYS or PROMPT.search(value) or GENERATORS.search(value):
        return "ai"
    return "camera" if field in ("Make", "Model", "LensModel") and value.strip() else ""


def _field(where: str, field: str, value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        # EXIF's UserComment begins with eight bytes that name its encoding.
        value = value[8:].decode("utf-16-be" if value.startswith(b"UNICODE") else "utf-8", "replace")
    text = str(value).replace("\0", "").strip()
    return {"where": where, "field": str(field)[:80], "value": text[:LONGEST], "suggests": suggests(str(field), text)}


def _texts(image: Any) -> list[dict[str, str]]:
    texts = getattr(image, "text", None) or {}
    keys = [key for key in texts if key != "XML:com.adobe.xmp"]
    if image.format == "JPEG" and "comment" in image.info:
        return [_field("JPEG", "comment", image.info["comment"].decode("utf-8", "replace"))]
    return [_field("PNG text", key, texts[key]) for key in keys]


def _exif(image: Any) -> list[dict[str, str]]:
    exif = image.getexif()
    more = exif.get_ifd(0x8769)
    fields = [_field("EXIF", name, exif[tag]) for tag, name in EXIF.items() if exif.get(tag)]
    return fields + [_field("EXIF", name, more[tag]) for tag, name in EXIF_MORE.items() if more.get(tag)]


def _xmp(image: Any) -> list[dict[str, str]]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
    fields = []
    for name in XMP:
        # As an attribute, as an element, or as a reference; a parser of XML would be one more thing to attack.
        patterns = (
            rf'{name}="([^"]{{1,{LONGEST}}})"',
            rf"{name}>([^<]{{1,{LONGEST}}})<",
            rf'{name}[^>]{{0,200}}rdf:resource="([^"]{{1,{LONGEST}}})"',
        )
        matches = [match[1] for pattern in patterns if (match := re.search(pattern, text))]
        fields += [_field("XMP", name, value) for value in matches[:1]]
    return fields


def _iptc(image: Any) -> list[dict[str, str]]:
    from PIL import IptcImagePlugin

    info = IptcImagePlugin.getiptcinfo(image) or {}
    return [
        _field("IPTC", name, value.decode("utf-8", "replace"))
        for key, name in IPTC.items()
        if isinstance(value := info.get(key), bytes)
    ]


def _container(path: Path) -> list[dict[str, str]]:
    """Read a video container's own metadata in FFmpeg's text format for them, which escapes what could break a line."""
    with FFmpeg(path, ["-i", INPUT, "-map", "0:V:0", "-c", "copy", "-f", "ffmetadata", "pipe:1"]) as run:
        text = run.output()
    fields = []
    for line in re.split(r"(?<!\\)\n", text):
        key, separator, value = line.partition("=")
        if separator and not key.startswith((";", "[")) and key not in ("major_brand", "minor_version", "duration"):
            fields.append(_field("container", key, re.sub(r"\\(.)", r"\1", value, flags=re.S)))
    return fields


def _c2pa(path: Path, kind: str) -> dict[str, Any] | None:
    """Read and validate a C2PA manifest (C2PA Technical Specification 2): who signed, what was done, does it hold."""
    try:
        import c2pa
    except (ImportError, OSError):
        return None
    try:
        with open(path, "rb") as file, c2pa.Reader(kind, file) as reader:
            store = json.loads(reader.json())
    except Exception as error:
        if "ManifestNotFound" in f"{type(error).__name__}{error}" or "JumbfNotFound" in f"{error}":
            return None
        return {"state": "unreadable", "detail": str(error).splitlines()[0][:LONGEST] if str(error) else ""}
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    source_types = sorted({str(a.get("digitalSourceType", "")).rpartition("/")[2] for a in actions} - {""})
    made_by_ai = any(kind.lower() in AI_SOURCE_TYPES for kind in source_types)
    problems = [str(entry.get("code", ""))[:120] for entry in store.get("validation_status", [])]
    return {
        # Valid: whole and as it was signed. Trusted: signed by somebody on a list of known signers, which we have not.
        "state": str(store.get("validation_state", "Invalid" if problems else "Valid")).lower(),
        "problems": problems[:10],
        "signer": str(signature.get("issuer") or "")[:LONGEST],
        "signed_at": str(signature.get("time") or "")[:40],
        "generator": _generator(manifest)[:LONGEST],
        "actions": [str(action.get("action", ""))[:120] for action in actions][:20],
        "source_types": source_types[:5],
        "suggests": "ai" if made_by_ai else "",
    }


def _generator(manifest: dict[str, Any]) -> str:
    # A line of text in claims of version 1, a list of names and versions since.
    parts = [f"{part.get('name', '')} {part.get('version', '')}" for part in manifest.get("claim_generator_info") or []]
    return str(manifest.get("claim_generator") or ", ".join(part.strip() for part in parts))
