"""Preprocessing: from frames as extracted to a dataset that is clean, split by group and balanced."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components import outputs
from components.dataset import LABELS, SPLITS, Dataset, DatasetWriter, batches
from components.errors import InputError
from components.preprocessing.certificate import certify
from components.preprocessing.clean import (
    NO_LINKS,
    Cleaned,
    Frames,
    Thumbnails,
    clean,
    rejections_of,
    release_memory,
    require_both_labels,
)
from components.preprocessing.confounds import AuditPolicy, refusal
from components.preprocessing.confounds import audit as audit_confounds
from components.preprocessing.duplicates import name_groups
from components.preprocessing.recording import record
from components.preprocessing.report import write_report
from components.preprocessing.split import balance_rows, parse_hold_out, settle, shares_of, split_files
from components.progress import follow, say
from components.settings import DEFAULTS

BATCH_ROWS = 256
ROUNDS = 3


def preprocess(
    frames: Sequence[str | Path],
    output: str | Path,
    *,
    balance: str = DEFAULTS["balance"],
    train: float = 0.7,
    validation: float = 0.15,
    hold_out: str = DEFAULTS["hold_out"],
    seed: int = DEFAULTS["seed"],
    audit: str = DEFAULTS["audit"],
    repair_split: bool = DEFAULTS["repair_split"],
    report: str | Path | None = None,
    overwrite: bool = True,
) -> dict[str, Any]:
    """Join frames datasets, drop duplicates, split by group, balance; write the dataset, its records and its report.

    Args:
        frames: Directories made by extraction, in any order: the result is the same.
        output: Where the dataset shall lie; see `outputs.claim`.
        balance: Of the labels: "weights", "undersample" (train alone) or "none".
        train: Share of train, in (0, 1), over files.
        validation: Share of validation; the test gets the rest.
        hold_out: "source=NAME[,NAME]": these sources stand in the test alone.
        seed: Changes which groups go where.
        audit: What a confound over its threshold does: "warn" or "fail"; see `AuditPolicy`.
        repair_split: Drop what leaks from a given split instead of refusing it.
        report: Where the HTML report shall lie, if anywhere.
        overwrite: Whether a dataset that is there may be replaced.

    Returns:
        The dataset's card.

    Raises:
        InputError: Too little is left, a given split leaks, the audit fails, or an argument is not understood.
    """
    policy, shares, sources = AuditPolicy.parse(audit), shares_of(train, validation), parse_hold_out(hold_out)
    outputs.claim(output, outputs.DATASET, overwrite=overwrite, inputs=frames)
    joined = Frames(frames)
    require_both_labels(joined.column("label"))
    cleaned, group, splits, certificate = _place(joined, repair_split, sources, shares, seed)
    rows, label = cleaned.kept, joined.column("label")[cleaned.kept]
    say("preprocess", certificate["text"])

    confounds = audit_confounds(
        joined.placed(rows, group, splits),
        Thumbnails(joined.thumbnails, rows),
        lambda chosen: joined.views(rows[chosen]),
        joined.card["delivery"],
        policy,
    )
    if confounds["verdict"] == "fail":
        raise InputError(refusal(confounds))
    say("preprocess", f"audit: {confounds['text']}")

    keep, weight = balance_rows(balance, label, splits, joined.column("pixel_sha256")[rows], seed)
    left_out = ("undersampled", "the other label has fewer rows")
    dropped = cleaned.dropped | {int(row): left_out for row in rows[~keep]}
    order = np.flatnonzero(keep)[_order(joined, rows[keep], splits[keep])]
    rows, group, splits, weight = rows[order], group[order], splits[order], weight[order]
    rejections = joined.rejections + rejections_of(joined.table, dropped)
    with DatasetWriter(output, joined.view_shape, joined.tiers, overwrite=overwrite) as writer:
        writer.card = joined.card | {
            "balance": {"policy": balance, "of": "label", "over": "rows of train and validation"},
            "split": {"shares": dict(zip(SPLITS, shares.tolist(), strict=True)), "seed": seed, "hold_out": hold_out},
            "certificate": certificate,
            "audit": confounds,
            "counts": _files(joined, rows, cleaned, rejections) | _counts(joined, rows, splits, group),
            "dropped": dict(sorted(Counter(reason for reason, _ in dropped.values()).items())),
        }
        _copy(joined, writer, rows, group, splits, weight)
        for rejection in rejections:
            writer.reject(**rejection)
    release_memory()
    dataset = Dataset(output)
    record(dataset)
    if report:
        write_report(dataset, joined, cleaned, Path(report))
    say("preprocess", _summary(dataset))
    return dataset.card


def _place(
    joined: Frames, repair_split: bool, hold_out: list[str], shares: np.ndarray, seed: int
) -> tuple[Cleaned, np.ndarray, np.ndarray, dict[str, Any]]:
    # What is kept, the group and the split of each kept row, and the proof. What the search for duplicates overlooked
    # and the proof found is kept together as well, and proven again.
    known = NO_LINKS
    for _ in range(ROUNDS):
        cleaned = clean(joined, repair_split, known)
        rows = cleaned.kept
        require_both_labels(joined.column("label")[rows])
        group = name_groups(cleaned.component, joined.column("content_sha256"))[rows]
        splits = _split_rows(joined, rows, group, cleaned.given[rows], hold_out, shares, seed)
        certificate, missed = certify(joined.placed(rows, group, splits), Thumbnails(joined.thumbnails, rows))
        release_memory()
        if not len(missed):
            break
        known = (np.concatenate([known[0], rows[missed[:, 0]]]), np.concatenate([known[1], rows[missed[:, 1]]]))
    return cleaned, group, splits, certificate


def _split_rows(
    joined: Frames,
    rows: np.ndarray,
    group: np.ndarray,
    given: np.ndarray,
    hold_out: list[str],
    shares: np.ndarray,
    seed: int,
) -> np.ndarray:
    # A split counts files, not rows: a video is one file however many frames it gave.
    _, first, file = np.unique(joined.column("path")[rows], return_index=True, return_inverse=True)
    label, kind, source = (joined.column(name)[rows[first]] for name in ("label", "kind", "source"))
    fixed, shares = settle(given[first], group[first], source, hold_out, shares)
    strata = list(zip(label.tolist(), kind, source, strict=True))
    places = split_files(group[first], label, strata, fixed, shares=shares, seed=seed)
    return np.array(SPLITS)[places][file]


def _order(joined: Frames, rows: np.ndarray, splits: np.ndarray) -> np.ndarray:
    rank = np.array([SPLITS.index(name) for name in splits])
    columns = [joined.column(name)[rows] for name in ("pixel_sha256", "time_s", "content_sha256")]
    return np.lexsort((*columns, rank))


def _copy(
    joined: Frames, writer: DatasetWriter, rows: np.ndarray, group: np.ndarray, splits: np.ndarray, weight: np.ndarray
) -> None:
    parts = list(batches(np.arange(len(rows)), BATCH_ROWS))
    for part in follow(parts, "preprocess", f"batches of {BATCH_ROWS} rows written", len(parts)):
        manifest = joined.placed(rows[part], group[part], splits[part]).to_pylist()
        columns = (joined.stored(rows[part]), joined.thumbnails[rows[part]], manifest, weight[part])
        for view, thumbnail, row, amount in zip(*columns, strict=True):
            writer.append(view, row | {"thumbnail": thumbnail.tobytes(), "weight": float(amount)})


def _files(joined: Frames, rows: np.ndarray, cleaned: Cleaned, rejections: list[dict[str, Any]]) -> dict[str, Any]:
    # What became of the files: found = files (kept) + duplicates_dropped + all of rejected. A clip that broke off is
    # kept for its good frames; near-duplicates are kept, in one split.
    path, (left, right) = joined.column("path"), cleaned.near
    kept = set(path[rows])
    gone = {rejection["path"]: rejection["reason"] for rejection in rejections if rejection["path"] not in kept}
    reasons = Counter(gone.values())
    near = np.isin(left, rows) & np.isin(right, rows)
    return {
        "found": len({*path, *(rejection["path"] for rejection in joined.rejections)}),
        "duplicates_dropped": reasons.pop("exact duplicate", 0),
        "rejected": dict(sorted(reasons.items())),
        "near_duplicates_kept": len({*path[left[near]], *path[right[near]]}),
    }


def _counts(joined: Frames, rows: np.ndarray, splits: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    _, first = np.unique(joined.column("path")[rows], return_index=True)
    label = np.array(LABELS)[joined.column("label")[rows]]
    kind, source = joined.column("kind")[rows], joined.column("source")[rows]
    result: dict[str, Any] = {"rows": len(rows), "files": len(first), "groups": len(set(group)), "splits": {}}
    for name in SPLITS:
        files = first[splits[first] == name]
        result["splits"][name] = {
            "rows": int((splits == name).sum()),
            "files": len(files),
            "groups": len(set(group[files])),
            "label": dict(sorted(Counter(label[files]).items())),
            "kind": dict(sorted(Counter(kind[files]).items())),
            "source": dict(sorted(Counter(source[files]).items())),
        }
    return result


def _summary(dataset: Dataset) -> str:
    counts = dataset.card["counts"]
    parts = ", ".join(f"{name} {counts['splits'][name]['files']:,}" for name in SPLITS)
    rejected = "".join(f", {amount:,} {reason}" for reason, amount in counts["rejected"].items())
    return (
        f"{counts['files']:,} of {counts['found']:,} files in {counts['groups']:,} groups ({parts}); "
        f"left out: {counts['duplicates_dropped']:,} duplicates{rejected}"
    )
