"""Judge a detector, and the champion on the same rows in the same process."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.dataset import Dataset
from components.detector import Detector, read_card
from components.errors import InputError
from components.evaluation.cross_source import cross_source, parse_families
from components.evaluation.judge import judge
from components.evaluation.limits import limits
from components.evaluation.metrics import roc_points
from components.evaluation.report import write_report
from components.evaluation_result import HEADLINE, EvaluationResult
from components.explanation import heat_maps
from components.media import degradations
from components.media.view import ViewPolicy
from components.progress import say
from components.runtime import Runtime
from components.settings import DEFAULTS
from components.units import Units, units_of


def evaluate(
    dataset: str | Path,
    model: str | Path,
    output: str | Path,
    *,
    champion: str | Path | None = None,
    champion_version: str = "",
    report: str | Path | None = None,
    test_degradations: str = DEFAULTS["test_degradations"],
    leave_one_out: bool = False,
    families: str = "",
    last_component: str = DEFAULTS["last_component"],
) -> EvaluationResult:
    """Judge a detector on a dataset's test split, by picture and by clip.

    Args:
        dataset: Directory of the dataset.
        model: Directory of the detector that is judged.
        output: File for every number, JSON.
        champion: Directory of the detector it has to beat, judged on the same rows; None where there is none.
        champion_version: Its version in the registry.
        report: File for the page that a person reads, HTML; None for no page.
        test_degradations: Under which degradations it is judged as well: "all", "none", or names such as
            "jpeg:50,scale:0.5".
        families: Sources that are left out together: see `cross_source.parse_families`.
        last_component: The setting of the training, for the heads that have not seen a source; see `cross_source`.
        leave_one_out: Also leave out one source at a time, to see what becomes of a source that it has never seen.

    Returns:
        What was written to `output`.

    Raises:
        InputError: The test split is empty or holds one label only, or a degradation is not known.
    """
    data = Dataset(dataset)
    units = _test_units(data)
    say("evaluate", f"{len(units):,} pictures and clips, {len(units.rows):,} rows of the test split")
    conditions, related = degradations.parse(test_degradations), parse_families(families)
    if not data.card.get("media") and test_degradations == "all":
        say("evaluate", "the dataset names no media: tiers of delivery, which act on files, are left out")
        conditions = [name for name in conditions if not degradations.acts_on_files(name)]
    detector = Detector(model)
    candidate = judge(detector, data, units, conditions)
    left_out = None
    if leave_one_out:
        left_out = cross_source(detector, data, units, related, last_component=last_component)
    candidate = replace(candidate, cross_source=left_out)
    evaluation = EvaluationResult(
        dataset_digest=data.digest,
        rows_digest=_digest(data, units),
        candidate=candidate,
        champion=judge(Detector(champion), data, units, conditions) if champion else None,
        champion_version=champion_version,
        certificate=data.card.get("certificate"),
        audit=data.card.get("audit"),
        note=data.card.get("note", ""),
    )
    evaluation = replace(evaluation, candidate=replace(candidate, limits=limits(evaluation)))
    evaluation.write(output)
    if report:
        write_whole(report, write_report(evaluation, data, units, _heat_maps(detector, data)))
    overall = candidate.overall
    say("evaluate", f"ROC AUC {overall.roc_auc:.3f}, balanced accuracy {overall.balanced_accuracy:.3f}")
    return evaluation


@dataclass(frozen=True)
class Headline:
    """What Kubeflow's own page shows: plain finite floats."""

    metrics: dict[str, float]
    roc: tuple[list[float], list[float], list[float]]
    confusion: list[list[int]]

    def write_curve(self, path: str | Path) -> None:
        """Write the curve and the confusion as JSON: kfp.local reuses only a step whose every artifact is a file."""
        write_whole(path, json.dumps({"roc": self.roc, "confusion": self.confusion}))


def headline(evaluation: EvaluationResult) -> Headline:
    """Pick the numbers, the ROC curve (false positive rates, true positive rates, thresholds) and the confusion.

    Args:
        evaluation: What `evaluate` returned.
    """
    result = evaluation.candidate
    values = {name: result.overall.value(name) for name in HEADLINE}
    if evaluation.champion:
        values["champion_roc_auc"] = evaluation.champion.overall.roc_auc
    return Headline(
        metrics={name: float(value) for name, value in values.items() if value is not None},
        roc=roc_points(np.array(result.scores.label), np.array(result.scores.probability)),
        confusion=result.overall.confusion,
    )


def evaluate_against(
    champion: str, model_name: str, dataset: str, model: str, output: str, report: str, **options: Any
) -> Headline:
    """Judge a detector against a version of the registry ("" for none) and return the headline."""
    directory = None
    if champion:
        from components import registry

        directory = registry.download(model_name, champion)
    evaluation = evaluate(
        dataset, model, output, champion=directory, champion_version=champion, report=report, **options
    )
    if run_id := read_card(model).get("mlflow_run"):
        from components import tracking

        with suppress(tracking.MissingError):  # a detector that another server's run trained
            tracking.add(run_id, files={"pages/evaluation.html": Path(report)})
    return headline(evaluation)


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _test_units(data: Dataset) -> Units:
    rows = data.rows("test")
    labels = set(data.column("label")[rows].tolist())
    if labels != {0, 1}:
        content = {0: "real only", 1: "fake only"}.get(next(iter(labels), -1), "nothing")
        raise InputError(
            f"the test split of {data.directory} holds {content}; it needs both labels: add media or split again"
        )
    return units_of(data, rows)


def _heat_maps(detector: Detector, data: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    # None where the dataset's own views are not what the detector looks at.
    if ViewPolicy.parse(detector.card["view"]).shape[1:3] != data.view_shape[1:3]:
        return None

    def maps(pixels: np.ndarray) -> np.ndarray:
        heat = Runtime(detector.directory, depths=True).heat_maps(pixels) if detector.exported else None
        return heat_maps(detector.model, pixels) if heat is None else heat

    return maps


def _digest(data: Dataset, units: Units) -> str:
    # By content, so that the same rows under another view or in another place are the same rows.
    names = zip(data.column("pixel_sha256")[units.rows], data.column("label")[units.rows], strict=True)
    return hashlib.sha256(json.dumps(sorted((str(name), int(label)) for name, label in names)).encode()).hexdigest()
