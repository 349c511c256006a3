"""Contract: where a model came from, and what came of a file: by the records and the registry, in both directions.

model version -> run -> commit -> image tags -> pipeline digest -> data version -> split certificate -> media
a media file, its content or its source -> datasets -> runs -> model versions
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import registry
from components.errors import InputError
from components.records import Records
from components.revision import of_document

LEARNT = ("train", "validation")  # splits that a detector is made with; the test split only judges it
UNKNOWN = "not recorded"


def of_model(records: Records, name: str, which: str = registry.CHAMPION) -> dict[str, Any]:
    """Trace a registered detector back to the media that it was made of.

    Args:
        records: Where what happened is kept.
        name: Of the registered model.
        which: An alias or a version.

    Returns:
        `model`: name, version, aliases, digest, decision and its reasons; `training`: the run, the code's revision and
        the package's version; `pipeline`: the run, its digest, the images and the arguments; `data`: version, digest,
        where the media lay, view and sampling; `certificate`: whether it holds, and its sentence; `media`: files by
        split, label and source. What no record holds is None or empty.

    Raises:
        InputError: There is no such version.
    """
    version = _version(name, which)
    digest = version.digest
    event = _first(records, "promotions", {"type": "event", "name": name, "version": version.version})
    training = _first(records, "runs", {"type": "training", "digest": digest}) or {}
    pipeline = _first(records, "runs", {"type": "pipeline", "digest": digest}) or {}
    card = training.get("card", {})
    dataset_digest = training.get("dataset_digest") or card.get("dataset_digest", "")
    dataset = records.get("datasets", dataset_digest) or {} if dataset_digest else {}
    made_by = training.get("revision") or pipeline.get("revision")
    certificate = dataset.get("certificate") or {}
    return {
        "model": {
            "name": name,
            "version": version.version,
            "aliases": list(version.aliases),
            "digest": digest,
            "decision": (event or {}).get("kind", ""),
            "reasons": (event or {}).get("reasons", []),
        },
        "training": {
            "run": training.get("_id", version.run_id),
            "at": training.get("at", ""),
            "revision": of_document(made_by).document(),
            "package": card.get("versions", {}).get("ai-vs-real", pipeline.get("package", "")),
            "backbone": card.get("backbone", ""),
        },
        "pipeline": {
            "run": pipeline.get("_id") or training.get("pipeline_run", ""),
            "digest": pipeline.get("pipeline_digest") or training.get("pipeline_digest", ""),
            "images": pipeline.get("images") or training.get("images", []),
            "arguments": pipeline.get("arguments", {}),
        },
        "data": {
            "version": training.get("data_version") or pipeline.get("data_version", ""),
            "digest": dataset_digest,
            "media": dataset.get("media", ""),
            "view": dataset.get("view", ""),
            "sampling": dataset.get("sampling", ""),
        },
        "certificate": {"holds": certificate.get("holds"), "text": certificate.get("text", "")},
        "media": _media_of(records, dataset_digest),
    }


def of_media(
    records: Records, names: list[str], *, content: str = "", source: str = "", path: str = ""
) -> dict[str, Any]:
    """Trace media to every detector that was trained or judged on them.

    Args:
        records: Where what happened is kept.
        names: Of the registered models that are asked about.
        content: The sha256 of a file; one of the three is given.
        source: A camera, generator or uploader.
        path: Of a file, as the media were listed.

    Returns:
        `files`: how many files, counted once by content; `datasets`: for each that holds some, its digest, its data
        version, and files by split, and how many were rejected; `models`: for each detector of such a dataset, name,
        version, aliases, digest, `trained` (files that it learnt from) and `judged` (files of its test split alone);
        `retrain`: the versions that have learnt from them, as NAME/VERSION.
    """
    where = {
        field: value for field, value in (("content_sha256", content), ("source", source), ("path", path)) if value
    }
    datasets: dict[str, Counter] = {}
    contents = set()
    for media in records.scan("media", where):
        split = media.get("split", "") if media["status"] == "accepted" else "rejected"
        datasets.setdefault(media["dataset"], Counter())[split] += 1
        contents.add(media.get("content_sha256") or media["_id"])
    models, versions = [], {name: registry.versions(name) for name in names}
    described = []
    for dataset, splits in sorted(datasets.items()):
        runs = records.find("runs", {"type": "training", "dataset_digest": dataset})
        version = next((run["data_version"] for run in runs if run.get("data_version")), "")
        described.append({"digest": dataset, "version": version, "splits": dict(sorted(splits.items()))})
        for digest in dict.fromkeys(run["digest"] for run in runs):
            for name, listed in versions.items():
                for entry in listed:
                    if entry.digest == digest:
                        models.append(_model(name, entry, dataset, splits))
    models.sort(key=lambda model: (model["name"], -int(model["version"])))
    retrain = [f"{model['name']}/{model['version']}" for model in models if model["trained"]]
    return {"files": len(contents), "datasets": described, "models": models, "retrain": retrain}


def content_of(file: str) -> str:
    """Return the sha256 that a file or its hash stands for; empty where the text is neither."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", file):
        return file.lower()
    path = Path(file)
    if not path.is_file():
        return ""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def model_in_words(trace: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a model's lineage as steps, each with its title and what is known of it."""
    model, training, pipeline, data = (trace[name] for name in ("model", "training", "pipeline", "data"))
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    decided = f", {model['decision']}: {'; '.join(model['reasons'])}" if model["decision"] else ""
    made = f"{training['run'] or UNKNOWN}, {training['at'][:19]}" if training["at"] else training["run"] or UNKNOWN
    images = ", ".join(pipeline["images"]) or ("processes, no image" if pipeline["run"] else UNKNOWN)
    media = trace["media"]
    splits = "; ".join(
        f"{split}: "
        + ", ".join(f"{count:,} {label} from {source}" for (label, source), count in sorted(counts.items()))
        for split, counts in _by_split(media).items()
    )
    holds = {True: "holds", False: "DOES NOT HOLD", None: UNKNOWN}[trace["certificate"]["holds"]]
    where = data["media"] if isinstance(data["media"], str) else ", ".join(data["media"])
    return [
        ("model", f"{model['name']} version {model['version']}{aliases}{decided}"),
        ("detector", model["digest"]),
        ("run", made),
        ("commit", str(of_document(training["revision"]))),
        ("images", images),
        ("pipeline", f"{pipeline['digest'] or UNKNOWN}" + (f", run {pipeline['run']}" if pipeline["run"] else "")),
        ("data", f"version {data['version'] or UNKNOWN}, dataset {data['digest'] or UNKNOWN}"),
        ("split", f"{holds}. {trace['certificate']['text']}".strip()),
        ("media", (f"{where}: " if where else "") + (splits or UNKNOWN)),
    ]


def media_in_words(trace: Mapping[str, Any]) -> list[str]:
    """Say in sentences which detectors learnt from media, and what must be trained again without them."""
    if not trace["datasets"]:
        return ["No dataset that is recorded holds it."]
    lines = [f"{trace['files']:,} file{'s' * (trace['files'] != 1)} in {len(trace['datasets'])} dataset(s):"]
    for dataset in trace["datasets"]:
        splits = ", ".join(f"{count:,} {split}" for split, count in dataset["splits"].items())
        lines.append(f"  dataset {dataset['digest'][:12]}, data version {dataset['version'] or UNKNOWN}: {splits}")
    for model in trace["models"]:
        aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
        learnt = f"learnt from {model['trained']:,}" if model["trained"] else "learnt from none"
        lines.append(
            f"  {model['name']} version {model['version']}{aliases} {learnt}, was judged on {model['judged']:,}"
        )
    if trace["retrain"]:
        lines.append(f"Without them these must be trained again: {', '.join(trace['retrain'])}.")
    else:
        lines.append("No registered detector has learnt from them.")
    return lines


def write_page(path: Path, trace: Mapping[str, Any]) -> None:
    """Write a model's lineage as a page that a person reads, HTML."""
    from components.page.parts import details, page, section, table

    model = trace["model"]
    rows = [{"step": title, "what": text} for title, text in model_in_words(trace)]
    media = [
        {"split": entry["split"], "label": entry["label"], "source": entry["source"], "files": entry["count"]}
        for entry in trace["media"]
    ]
    arguments = [
        {"parameter": name, "value": str(value)} for name, value in sorted(trace["pipeline"]["arguments"].items())
    ]
    sections = [
        section("From the model to its media", table(rows), note="Each step is what the one above was made of or by."),
        section("Media", table(media), note="Files by split, label and source.") if media else "",
        section("Parameters", details("that differ from their defaults", table(arguments))) if arguments else "",
    ]
    lead = f"Where version {model['version']} of {model['name']} came from."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Lineage of {model['name']} {model['version']}", sections, lead=lead), encoding="utf-8")


def _version(name: str, which: str) -> registry.Version:
    listed = registry.versions(name)
    for version in listed:
        if version.version == which or which in version.aliases:
            return version
    there = (
        ", ".join(version.version + "".join(f" @{alias}" for alias in version.aliases) for version in listed) or "none"
    )
    raise InputError(
        f"{name} has no version or alias {which!r}; it has {there}: write MODEL, MODEL@ALIAS or MODEL/VERSION"
    )


def _first(records: Records, collection: str, where: Mapping[str, str]) -> dict[str, Any] | None:
    return next(iter(records.find(collection, where, limit=1)), None)


def _model(name: str, version: registry.Version, dataset: str, splits: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "version": version.version,
        "aliases": list(version.aliases),
        "digest": version.digest,
        "dataset": dataset,
        "trained": sum(splits.get(split, 0) for split in LEARNT),
        "judged": splits.get("test", 0),
    }


def _media_of(records: Records, dataset: str) -> list[dict[str, Any]]:
    counted: Counter = Counter()
    for media in records.scan("media", {"dataset": dataset, "status": "accepted"}) if dataset else ():
        counted[media.get("split", ""), media.get("label") or "", media.get("source") or ""] += 1
    return [
        {"split": split, "label": label, "source": source, "count": count}
        for (split, label, source), count in sorted(counted.items())
    ]


def _by_split(media: list[dict[str, Any]]) -> dict[str, dict[tuple[str, str], int]]:
    splits: dict[str, dict[tuple[str, str], int]] = {}
    for entry in media:
        splits.setdefault(entry["split"], {})[entry["label"], entry["source"]] = entry["count"]
    return splits
