"""Score a collection: which files, shard by shard, and what came of it, as a table, records and a page."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.media.pictures import MediaError
from components.media.stores import as_text, store_of, written
from components.page import parts as page
from components.prediction.examiner import Examiner
from components.prediction.selection import select
from components.prediction.tables import counts, write_parquet
from components.prediction.verdict import Verdict
from components.progress import follow, say
from components.records import Records, open_records

TABLE, REPORT = "verdicts.parquet", "verdicts.html"
SUREST = 12  # files of each kind that the page names


def list_shards(media: str, model_name: str, version: str, shards: int) -> list[str]:
    """Pin the detector for a whole run, whoever becomes champion meanwhile, and cut a collection into shards.

    Args:
        media: A directory, or gs://BUCKET/PREFIX.
        model_name: Name of the registered model.
        version: Its version in the registry; empty for the champion of now.
        shards: In how many parts the collection is cut; fewer where it has fewer files.

    Returns:
        Each shard as text: which part, of how many, by which version, and a digest of the names in it.

    Raises:
        InputError: There is no file, no such model, or no such version.
    """
    names = _names(media)
    if not names:
        raise InputError(f"{media} holds no file; give a directory or gs://BUCKET/PREFIX with pictures and videos")
    pinned = select(f"{model_name}/{version}" if version else model_name, model_name).version["version"]
    count = max(1, min(shards, len(names)))
    parts = [[name for name in names if _part(name, count) == number] for number in range(count)]
    say("score", f"{len(names):,} files in {sum(map(bool, parts))} shards, by version {pinned} of {model_name}")
    return [f"{number}/{count}@{pinned}:{_digest(part)}" for number, part in enumerate(parts) if part]


def score_shard(media: str, shard: str, model_name: str, output: str | Path) -> dict[str, int]:
    """Give the verdict on every file of a shard; what this detector has scored before is taken from the records.

    A shard that was cut short goes on where it was: every verdict is recorded as it is given.

    Args:
        media: As it was listed.
        shard: As `list_shards` returned it.
        model_name: Name of the registered model.
        output: The file to write: a line of JSON for each file, in the order of the names.

    Returns:
        How many of each verdict, as `tables.counts`.
    """
    part, _, version = shard.partition(":")[0].partition("@")
    number, count = map(int, part.split("/"))
    names = [name for name in _names(media) if _part(name, count) == number]
    selected = select(f"{model_name}/{version}", model_name)
    with open_records() as records:
        opened = Examiner(selected.directory, version=selected.version, limits=selected.limits)
        with opened as examiner:
            answers = list(follow(_answers(media, names, examiner, records), "score", "files", len(names)))
    _write_lines(answers, Path(output))
    return counts(answers)


def score_files(paths: Sequence[str | Path], detector: str | Path, output: str | Path) -> None:
    """Give the verdict of a detector on some files, without a registry or records: the work of a shard alone.

    Args:
        paths: The files.
        detector: The detector's directory.
        output: The file to write: a line of JSON for each file.
    """
    with Examiner(detector) as examiner:
        _write_lines([examiner.examine(path).to_json() for path in paths], Path(output))


def summarize(shards: Sequence[str | Path], table: str | Path, report: str | Path, output: str = "") -> dict[str, int]:
    """Join the shards' verdicts into one table and a page.

    Args:
        shards: The files that `score_shard` wrote.
        table: The Parquet file to write.
        report: The page to write: counts, the surest, the unsure, by folder.
        output: A directory, or gs://BUCKET/PREFIX, that gets both as `TABLE` and `REPORT` as well; empty for none.

    Returns:
        How many of each verdict.

    Raises:
        InputError: The bucket does not take them.
    """
    answers = [json.loads(line) for shard in shards for line in Path(shard).read_text().splitlines()]
    answers.sort(key=lambda answer: answer["path"])
    write_parquet(table, answers)
    Path(report).write_text(_page(answers), encoding="utf-8")
    for path, name in ((table, TABLE), (report, REPORT)) if output else ():
        with written(f"{output.rstrip('/')}/{name}") as copy:
            shutil.copyfile(path, copy)
    return counts(answers)


def _answers(media: str, names: Sequence[str], examiner: Examiner, records: Records) -> Iterable[dict[str, Any]]:
    store = store_of(media)
    digest = examiner.card["digest"]
    for name in names:
        location = store.location(media, name)
        shown = as_text(location)
        key, checksum = f"{digest}/{shown}", store.checksum(location)
        known = records.get("verdicts", key)
        if known is not None and known["checksum"] == checksum:
            yield known["answer"]
            continue
        try:
            with store.fetch(location) as path:
                answer = examiner.examine(path, name=shown).to_json()
        except MediaError as error:
            answer = Verdict(shown, error=str(error)).to_json()
        records.put(
            "verdicts",
            {
                "_id": key,
                "path": shown,
                "checksum": checksum,
                "digest": digest,
                "model_version": answer["receipt"].get("version", ""),
                "verdict": answer["verdict"] or "unreadable",
                "probability": answer["probability"],
                "answer": answer,
            },
        )
        yield answer


def _names(media: str) -> list[str]:
    names = [""] if os.path.isfile(media) else sorted(store_of(media).names(media))
    return [name for name in names if name] or ([media] if os.path.isfile(media) else [])


def _part(name: str, count: int) -> int:
    # By the name alone, so that a file stays in its shard whatever else is added.
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") % count


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _write_lines(answers: Iterable[Mapping[str, Any]], output: Path) -> None:
    part = output.with_name(f".{output.name}.part")
    part.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
    os.replace(part, output)


def _page(answers: Sequence[Mapping[str, Any]]) -> str:
    total = counts(answers)
    read = [answer for answer in answers if answer["verdict"]]
    surest = sorted(read, key=lambda answer: -abs(answer["probability"] - 0.5))
    folders: dict[str, list[Mapping[str, Any]]] = {}
    for answer in answers:
        folders.setdefault(answer["path"].rpartition("/")[0], []).append(answer)
    receipt: dict[str, Any] = next((answer["receipt"] for answer in read), {})
    return page.page(
        "Verdicts on a collection",
        [
            page.numbers({"files": len(answers), **total}),
            page.section("By folder", page.table([{"folder": name, **counts(part)} for name, part in folders.items()])),
            _listed("Surest fakes", [answer for answer in surest if answer["verdict"] == "fake"]),
            _listed("Surest reals", [answer for answer in surest if answer["verdict"] == "real"]),
            _listed("Unsure", [answer for answer in read if answer["verdict"] == "unsure"]),
            _listed("Unreadable", [answer for answer in answers if not answer["verdict"]]),
        ],
        lead=f"{len(answers):,} files: " + ", ".join(f"{count:,} {name}" for name, count in total.items()) + ".",
        footer=f"version {receipt.get('version', '')} of {receipt.get('model', '')}",
    )


def _listed(title: str, answers: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        {
            "file": answer["path"],
            "probability of fake": answer["probability"],
            "why": answer["error"] or answer["reason"],
        }
        for answer in answers[:SUREST]
    ]
    return page.section(title, page.table(rows, code=["file"])) if rows else ""
