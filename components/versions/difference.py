"""What differs between two versions of a dataset, in words."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from components.dataset import LABELS
from components.versions.repository import DataRepository

COLUMNS = ["path", "label", "source", "group", "split", "content_sha256"]
NAMED = 5  # groups that are named of those that moved

File = dict[str, Any]


def difference(repository: DataRepository, before: str, after: str) -> dict[str, Any]:
    """Compare the files of two versions.

    Args:
        repository: Where the versions are.
        before: The older one, or the begin of its name.
        after: The newer one, or the begin of its name.

    Returns:
        `before`, `after`; `added`, `removed`: files by label and source, as a list of label, source and count;
        `changed`, `relabelled`, `resourced`: numbers of files of one path with another content, label or source;
        `moved`: groups by the split they left and the split they came to; `words`: all of it in sentences.

    Raises:
        InputError: There is no such version, or its manifest can be had neither here nor from the remote.
    """
    before, after = repository.find(before), repository.find(after)
    old, new = _files(repository, before), _files(repository, after)
    both = old.keys() & new.keys()
    differences = {
        "before": before,
        "after": after,
        "added": _counts(new, new.keys() - old.keys()),
        "removed": _counts(old, old.keys() - new.keys()),
        "changed": sum(old[path]["content_sha256"] != new[path]["content_sha256"] for path in both),
        "relabelled": sum(old[path]["label"] != new[path]["label"] for path in both),
        "resourced": sum(old[path]["source"] != new[path]["source"] for path in both),
        "moved": _moved(old, new),
    }
    return differences | {"words": in_words(differences)}


def in_words(change: Mapping[str, Any]) -> list[str]:
    """Say a difference in sentences, one a line."""
    lines = []
    for what in ("added", "removed"):
        if entries := change[what]:
            parts = [f"{entry['count']:,} {entry['label']} from {entry['source']}" for entry in entries]
            lines.append(
                f"{what.capitalize()}: {_files_of(sum(entry['count'] for entry in entries))}: {', '.join(parts)}."
            )
    for what, text in (
        ("changed", "of the same path with other content"),
        ("relabelled", "with another label"),
        ("resourced", "with another source"),
    ):
        if change[what]:
            lines.append(f"{_files_of(change[what]).capitalize()} {text}.")
    for move in change["moved"]:
        groups, names = move["groups"], ", ".join(move["names"])
        more = f" and {groups - len(move['names'])} more" if groups > len(move["names"]) else ""
        lines.append(
            f"Moved from {move['from']} to {move['to']}: {groups:,} group{'s' * (groups != 1)} of "
            f"{_files_of(move['files'])}: {names}{more}."
        )
    return lines or ["Nothing differs in files, labels, sources or splits."]


def _files_of(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _files(repository: DataRepository, version: str) -> dict[str, File]:
    # In this thread alone: a thread of Arrow that lets go of a Python file while Python ends aborts the process.
    with repository.manifest(version) as file, pq.ParquetFile(file, pre_buffer=False) as manifest:
        rows = manifest.read(columns=COLUMNS, use_threads=False).to_pylist()
    return {row["path"]: row for row in rows}


def _counts(files: Mapping[str, File], paths: Any) -> list[dict[str, Any]]:
    counted = Counter((LABELS[files[path]["label"]], files[path]["source"]) for path in paths)
    return [dict(label=label, source=source, count=count) for (label, source), count in sorted(counted.items())]


def _moved(old: Mapping[str, File], new: Mapping[str, File]) -> list[dict[str, Any]]:
    moves: dict[tuple[str, str], dict[str, int]] = {}
    for path in sorted(old.keys() & new.keys()):
        was, now = old[path]["split"], new[path]["split"]
        if was != now:
            groups = moves.setdefault((was, now), Counter())
            groups[new[path]["group"]] += 1
    return [
        {"from": was, "to": now, "groups": len(groups), "files": sum(groups.values()), "names": sorted(groups)[:NAMED]}
        for (was, now), groups in sorted(moves.items())
    ]
