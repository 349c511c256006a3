"""The confound audit: does anything but the picture reveal the label?

Each test gives a small classifier one kind of cheap evidence, cross-validates it by group, and reports its ROC AUC: 0.5
is a fair data set; near 1.0 a detector can be perfect without learning what it is meant to learn.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from components.dataset import LABELS, batches
from components.errors import InputError
from components.preprocessing.traces import traces

FILES = 250  # of each label, at most: the error of an AUC is then about 0.025
FOLDS = 5
FEWEST = 10  # groups of each label below which nothing can be said
SURE = 2.0  # standard errors by which a threshold must be passed
OFFENDERS = 5
BINS = 5
# What is decisive by itself. Generators leave traces in the spectrum too, so a test that looks there has a higher one.
THRESHOLDS = {
    "metadata": 0.75,
    "thumbnail": 0.8,
    "size": 0.75,
    "blocks": 0.7,
    "quality": 0.75,
    "spectrum": 0.85,
    "traces": 0.85,
}

ASKED = {
    "metadata": "the width, height, format, compression and other metadata of the file",
    "thumbnail": "an 8 × 8 thumbnail",
    "size": "the size of the view when stored losslessly",
    "blocks": "the 8 × 8 compression grid",
    "quality": "the JPEG quality estimated from the pixels",
    "spectrum": "the spectrum, where resampling leaves traces",
    "traces": "all traces of delivery together",
}
ADVICE = {
    "metadata": "collect both labels in the same formats and sizes, or extract with --delivery common",
    "thumbnail": "the labels differ in what they show: add media of both labels with the same subjects and framing",
    **dict.fromkeys(
        ("size", "blocks", "quality", "spectrum", "traces"),
        "extract with --delivery common, its size no larger than the smallest media",
    ),
}


@dataclass(frozen=True)
class AuditPolicy:
    """What an audit may find before it warns or fails.

    Args:
        action: "warn" or "fail": what a test over its threshold does.
        thresholds: ROC AUC by test, each in [0.5, 1].
    """

    action: str = "warn"
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))

    @classmethod
    def parse(cls, text: str) -> "AuditPolicy":
        """Read a policy: "warn", "fail", "fail:0.9" for all tests, or "fail:metadata=0.95,thumbnail=0.9" for some."""
        match = re.fullmatch(r"(warn|fail)(?::((?:\w+=)?[\d.]+(?:,\w+=[\d.]+)*))?", text)
        thresholds = dict(THRESHOLDS)
        for part in (match[2] or "").split(",") if match and match[2] else []:
            name, _, value = part.rpartition("=")
            thresholds |= {test: float(value) for test in ([name] if name else THRESHOLDS)}
        if not match or set(thresholds) != set(THRESHOLDS) or not all(0.5 <= v <= 1 for v in thresholds.values()):
            raise InputError(
                f"audit={text!r} is unknown; use warn or fail, or with thresholds of ROC AUC, 0.5 to 1: fail:0.9, "
                f"fail:metadata=0.95 (of {', '.join(THRESHOLDS)})"
            )
        return cls(match[1], thresholds)

    def __str__(self) -> str:
        changed = [f"{name}={value:g}" for name, value in self.thresholds.items() if value != THRESHOLDS[name]]
        return self.action + (":" + ",".join(changed) if changed else "")


def audit(
    manifest: pa.Table,
    thumbnails: Any,
    views: Callable[[np.ndarray], np.ndarray],
    delivery: str,
    policy: AuditPolicy,
) -> dict[str, Any]:
    """Audit rows for what separates the labels without looking at the picture.

    Args:
        manifest: Rows with their final groups.
        thumbnails: Of these rows: what gives, for places of rows, uint8 gray, (places, 32, 32).
        views: Returns the views of some rows of the manifest, uint8, (rows, views, size, size, 3).
        delivery: What extraction did to all media alike; unless "as-is", facts of the files as they came are reported
            without being held against them.
        policy: Action and thresholds.

    Returns:
        The audit: `verdict`: "pass", "warn" or "fail"; `text`, the same as a sentence; `policy`; `files` looked at;
        `tests`: a list of `name`, `when`, `auc` (None where too few groups), `error` (one standard error), `threshold`,
        `counts`, `exceeds`, `offenders` (features by name, their AUC alone and their typical values by label), `text`,
        `advice`.
    """
    rows = _sample(manifest)
    part = manifest.take(rows)
    label = part.column("label").to_numpy()
    folds = _folds(part.column("group").to_pylist(), label)
    with ThreadPoolExecutor() as pool:  # OpenCV releases the interpreter's lock
        seen = [row for batch in batches(rows, 64) for row in pool.map(traces, views(batch)[:, 0])]
    after = {name: {key: np.array([row[name][key] for row in seen]) for key in seen[0][name]} for name in seen[0]}
    delivered = delivery == "as-is"
    evidence = [
        ("metadata", "as delivered", _metadata(part), delivered),
        ("thumbnail", "as delivered", _small_thumbnails(thumbnails[rows]), False),
        *((name, "after the view", features, True) for name, features in after.items()),
        (
            "traces",
            "after the view",
            {k: v for name in after if name != "thumbnail" for k, v in after[name].items()},
            True,
        ),
    ]
    tests = [
        _test(name, when, features, label, folds, policy.thresholds[name], counts)
        for name, when, features, counts in evidence
    ]
    exceeding = [test for test in tests if test["exceeds"]]
    verdict = policy.action if exceeding else "pass"
    return {"verdict": verdict, "text": _text(exceeding), "policy": str(policy), "files": len(rows), "tests": tests}


def refusal(audit: Mapping[str, Any]) -> str:
    """Return the one line that refuses a dataset whose audit failed."""
    return f"the audit failed: {audit['text']} (thresholds: --audit fail:NAME=AUC, or --audit warn to go on)"


def _text(exceeding: list[dict[str, Any]]) -> str:
    if not exceeding:
        return "No shortcut was found: nothing but the picture gives the label away."
    parts = []
    for test in exceeding:
        names = ", ".join(offender["feature"] for offender in test["offenders"][:3])
        parts.append(
            f"{test['name']} alone gives the label away (AUC {test['auc']:.2f}{': ' + names if names else ''})"
        )
    advice = list(dict.fromkeys(test["advice"] for test in exceeding))
    return f"{'; '.join(parts)}; {'; '.join(advice)}"


def _sample(manifest: pa.Table) -> np.ndarray:
    # One row of each file, at most FILES of each label, chosen by content.
    _, first = np.unique(manifest.column("path").to_numpy(), return_index=True)
    label, content = manifest.column("label").to_numpy()[first], manifest.column("content_sha256").to_numpy()[first]
    keys = np.array([hashlib.sha256(str(value).encode()).hexdigest() for value in content])
    chosen = [first[label == value][np.argsort(keys[label == value])][:FILES] for value in range(len(LABELS))]
    return np.sort(np.concatenate(chosen))


def _folds(group: list[str], label: np.ndarray) -> np.ndarray | None:
    # The fold of each row: whole groups, dealt out in turn within each label.
    member = dict(zip(group, label.tolist(), strict=True))
    order = sorted(member, key=lambda name: (member[name], hashlib.sha256(name.encode()).digest()))
    if (
        min(sum(value == wanted for value in member.values()) for wanted in range(2)) < FEWEST
        and len(member) < 4 * FEWEST
    ):
        return None
    place = {name: number % FOLDS for number, name in enumerate(order)}
    return np.array([place[name] for name in group])


def _metadata(part: pa.Table) -> dict[str, np.ndarray]:
    column = {name: part.column(name).to_numpy(zero_copy_only=False) for name in part.column_names}
    width, height = column["width"].astype(float), column["height"].astype(float)
    known = {name: column[name].astype(float) for name in ("jpeg_quality", "bitrate", "frame_rate")}
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "bytes per pixel": column["bytes"].astype(float) / (width * height),
        "format": column["format"].astype(str),
        "codec": column["codec"].astype(str),
        "camera data (EXIF)": np.array([str(bool(value)) for value in column["has_exif"]]),
        "JPEG quality": known["jpeg_quality"],
        "bit rate": known["bitrate"],
        "frame rate": known["frame_rate"],
    }


def _small_thumbnails(thumbnails: np.ndarray) -> dict[str, np.ndarray]:
    pixels = thumbnails.reshape(-1, 8, 4, 8, 4)
    return {
        f"pixel {number}": values for number, values in enumerate(pixels.mean(axis=(2, 4)).reshape(len(pixels), 64).T)
    }


def _test(
    name: str,
    when: str,
    features: Mapping[str, np.ndarray],
    label: np.ndarray,
    folds: np.ndarray | None,
    threshold: float,
    counts: bool,
) -> dict[str, Any]:
    auc = cross_validated_auc(list(features.values()), label, folds, bins=name == "metadata")
    error = None if auc is None else standard_error(auc, int((label == 1).sum()), int((label == 0).sum()))
    exceeds = bool(counts and auc is not None and error is not None and auc - SURE * error > threshold)
    alone = {} if name == "thumbnail" or auc is None else features
    offenders = [
        {"feature": key, "auc": cross_validated_auc([values], label, folds, bins=True)} | _typical(values, label)
        for key, values in alone.items()
    ]
    return {
        "name": name,
        "when": when,
        "auc": auc,
        "error": error,
        "threshold": threshold,
        "counts": counts,
        "exceeds": exceeds,
        "offenders": sorted((o for o in offenders if o["auc"] >= 0.6), key=lambda o: -o["auc"])[:OFFENDERS],
        "text": _sentence(name, auc),
        "advice": ADVICE[name] if exceeds else "",
    }


def _sentence(name: str, auc: float | None) -> str:
    if auc is None:
        return f"Too few groups of media to test {ASKED[name]}."
    return f"Using only {ASKED[name]}, a fake outranks a real file {100 * auc:.0f} times in 100; chance is 50."


def _typical(values: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    typical: dict[str, Any] = {}
    for value, name in enumerate(LABELS):
        side = values[label == value]
        if side.dtype.kind == "f":
            known = side[np.isfinite(side)]
            typical[name] = f"{np.median(known):.3g}" if len(known) else "none"
        else:
            labels, amounts = np.unique(side, return_counts=True)
            typical[name] = f"{labels[amounts.argmax()] or 'none'} ({100 * amounts.max() / len(side):.0f} %)"
    return typical


def cross_validated_auc(
    features: list[np.ndarray], label: np.ndarray, folds: np.ndarray | None, bins: bool = False
) -> float | None:
    """Return the ROC AUC of a ridge-penalised logistic regression on rows whose fold it was not fitted on.

    Args:
        features: Arrays of numbers (NaN where unknown) or of strings, (rows,).
        label: 0 real, 1 fake, (rows,).
        folds: Fold of each row; None where there are too few groups.
        bins: Also give it the fifths of each number, for what is not monotonic.
    """
    if folds is None:
        return None
    scores = np.zeros(len(label))
    for fold in range(FOLDS):
        fitted, judged = folds != fold, folds == fold
        columns = [_encoded(values, fitted, bins) for values in features]
        x = np.concatenate([np.ones((len(label), 1)), *columns], axis=1)
        scores[judged] = x[judged] @ _logistic_regression(x[fitted], label[fitted])
    return roc_auc(label, scores)


def _encoded(values: np.ndarray, fitted: np.ndarray, bins: bool) -> np.ndarray:
    if values.dtype.kind != "f":
        return (values[:, None] == np.unique(values[fitted])).astype(float)
    known = np.isfinite(values)
    inside = values[fitted & known] if (fitted & known).any() else np.zeros(1)
    scaled = np.where(known, (values - inside.mean()) / (inside.std() or 1.0), 0.0)
    columns = [np.clip(scaled, -5, 5)] + ([] if known.all() else [(~known).astype(float)])
    if bins:
        edges = np.unique(np.quantile(inside, np.arange(1, BINS) / BINS))
        place = np.where(known, np.searchsorted(edges, values), -1)
        columns += [(place == number).astype(float) for number in range(len(edges) + 1)]
    return np.stack(columns, axis=1)


def _logistic_regression(x: np.ndarray, y: np.ndarray, penalty: float = 3.0, steps: int = 6) -> np.ndarray:
    # Newton's method; both labels weigh the same.
    share = y.mean()
    importance = np.where(y == 1, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9))
    ridge = penalty * np.eye(x.shape[1])
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (importance * (probability - y)) + ridge @ weights
        curvature = (x.T * (importance * probability * (1 - probability))) @ x + ridge
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def roc_auc(label: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a fake scores above a real one, ties as halves."""
    _, inverse, amounts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(amounts) - (amounts - 1) / 2)[inverse]
    fakes = int((label == 1).sum())
    return float((ranks[label == 1].sum() - fakes * (fakes + 1) / 2) / (fakes * (len(label) - fakes)))


def standard_error(auc: float, fakes: int, reals: int) -> float:
    """Return the standard error of an ROC AUC by Hanley and McNeil (1982)."""
    one, other = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (fakes - 1) * (one - auc**2) + (reals - 1) * (other - auc**2)
    return float(np.sqrt(max(variance, 0) / (fakes * reals)))
