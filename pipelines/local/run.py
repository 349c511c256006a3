"""One run of the training pipeline on this machine, from its arguments to what a person and a program learn of it."""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import processes
from components.containers import IMAGES, VERSION
from components.dataset import LABELS
from components.errors import InputError
from components.evaluation_result import EvaluationResult, as_plain
from components.home import run_home
from components.page.run_pages import About, bind, index
from components.redaction import redact
from components.revision import of_document, revision
from components.settings import SETTINGS, completed
from pipelines.local import engine, sample
from pipelines.local.reporting import reported
from pipelines.steps.compiling import TRAINING, digest_of
from pipelines.steps.validation import validate

# What makes a from-scratch run on the sample set short; an option given on the command line wins.
SAMPLE_ARGUMENTS = {
    "view": "resize96",
    "sampling": "even:4",
    "weights": "none",
    "recipe": "plain",
    "epochs": 16,
    "fine_tune_epochs": 0,
    "batch_size": 16,  # some hundred pictures: more and smaller steps
    # Looser than the default: sixteen epochs from scratch on a few hundred pictures are to show a promotion.
    "gate": "roc_auc+0.002,roc_auc>=0.7,balanced_accuracy>=0.6,false_positive_rate<=0.5,ece<=0.25",
}
WEIGHTS_FILES = ("weights", "last_component")  # settings that may name a file, whose content is pinned
FILES = ("found", "rejected", "duplicates_dropped", "near_duplicates_kept", "files")  # what became of the media
PAGES = {"data": "data_report", "training": "curves", "evaluation": "report", "decision": "decision_page"}


def run_training(
    media: str, arguments: Mapping[str, Any], *, cache: bool = True, runner: Any = None, pipeline: Path = TRAINING
) -> dict[str, Any]:
    """Run the training pipeline on this machine and record it.

    Args:
        media: A labelled directory or list; empty for the sample set.
        arguments: Pipeline parameters that differ from their defaults.
        cache: Reuse unchanged steps.
        runner: A kfp.local runner; the default runs each step as a process.
        pipeline: The compiled YAML.

    Returns:
        The document that `ai-vs-real run --json` prints.

    Raises:
        InputError: A setting, the media or the environment must be corrected; from whichever step.
        RuntimeError: A step failed otherwise.
    """
    home = run_home()
    os.environ["AI_VS_REAL_HOME"] = str(home)  # for the steps, whose working directory may differ
    if not media:
        arguments = {**SAMPLE_ARGUMENTS, **arguments}
    arguments = completed(arguments)
    validate(arguments)
    reach_servers()
    with recorded() as record, reported() as say:
        if not media:
            say(f"No media named: making the sample set. {sample.NOTE}")
            if arguments["gate"] == SAMPLE_ARGUMENTS["gate"]:
                say(f"Its gate is looser than the default: {arguments['gate']}")
            media = str(sample.make(home / "sample"))
        arguments = {**arguments, "media": str(Path(media).resolve()) if "://" not in media else media}
        arguments |= {name: pinned(name, arguments[name]) for name in WEIGHTS_FILES if name in arguments}
        record["arguments"] = arguments
        record["pipeline_digest"] = digest_of(pipeline)
        record["images"] = list(IMAGES) if runner else []
        result = engine.run(pipeline, arguments, home, cache=cache, runner=runner, say=say)
        record["outcome"] = "completed"
        record |= summary(result, home, record) | {"example": _example(arguments["media"], result)}
    return record


def with_review(media: str) -> str:
    """Write a list of labelled media and of the accepted files of the review set, as the source `review`.

    Args:
        media: A labelled directory or list.

    Returns:
        The list, in the run home; its name follows from its content.

    Raises:
        InputError: No file of the review set has been accepted.
    """
    from components.extraction.sources import list_media
    from components.review import SOURCE, ReviewSet

    review = ReviewSet(run_home())
    accepted = review.entries("accepted")
    if not accepted:
        raise InputError("no file of the review set has been accepted; see ai-vs-real review list")
    rows = [
        {
            "path": os.path.abspath(item.location) if "://" not in item.location else item.location,
            "label": LABELS[item.label],
            "source": item.source,
            "group": item.group,
            "split": item.split,
        }
        for item in list_media(media)
    ]
    rows += [{"path": str(review.directory / entry.path), "label": entry.claim, "source": SOURCE} for entry in accepted]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    path = review.directory / f"media-{hashlib.sha256(content.encode()).hexdigest()[:16]}.jsonl"
    part = path.with_name(f".{path.name}.part")
    part.write_text(content, encoding="utf-8")
    os.replace(part, path)
    return str(path)


def _example(media: str, result: engine.Run) -> str:
    """Return a file of the test split that can be read from here, else the media."""
    from components.dataset import Dataset

    dataset = Dataset(result.outputs["dataset"].path)
    paths = [Path(media) / dataset.column("path")[row] for row in dataset.rows("test")[:1]]
    return next((str(path) for path in paths if path.is_file()), media)


def reach_servers() -> None:
    """Fail now, and not after the training, where the registry does not answer; `recorded` does so for the records."""
    from components import tracking

    if tracking.tracking_uri().startswith("http"):
        tracking.connect()


class recorded:  # noqa: N801 (a context manager, read as a verb)
    """Keep a record of a run, whatever becomes of it: completed, failed or interrupted."""

    def __init__(self):
        from components.records import open_records

        self.records = open_records()
        run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self.document: dict[str, Any] = {
            "_id": run_id,
            "type": "pipeline",
            "package": VERSION,
            "outcome": "running",
            "revision": revision().document(),
            "started_s": time.time(),
            "records": self.records.place,
            "process": processes.identity(),
        }

    def __enter__(self) -> dict[str, Any]:
        for document in self.records.find("runs", {"outcome": "running"}):
            if processes.has_ended(document.get("process", "")):  # killed before it could say so
                self.records.put("runs", document | {"outcome": "killed", "error": "the process was killed"})
        self.records.put("runs", self.document)
        return self.document

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            self.document["outcome"] = "interrupted" if kind is KeyboardInterrupt else "failed"
            self.document["error"] = redact(str(error))
        self.document["wall_s"] = round(time.time() - self.document["started_s"], 3)
        self.records.put("runs", self.document)
        self.records.close()


def pinned(name: str, value: str) -> str:
    """Return the path of a weights file with the sha256 of its content, so that another file is another parameter.

    Args:
        name: The setting: one of `WEIGHTS_FILES`.
        value: Of the setting; imagenet and none stay as they are.
    """
    if value in ("imagenet", "none"):
        return value
    path = Path(value.partition("#")[0]).resolve()
    if not path.is_file():
        raise InputError(f"there is no weights file {path}; {SETTINGS[name].option} takes the path of a file, or none")
    return f"{path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def summary(result: engine.Run, home: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what a run's outputs say: the decision, the numbers, and where everything lies.

    Args:
        result: What the engine returned.
        home: The run home; the pages are written below it.
        record: The run's record as it was begun.
    """
    from components.dataset import Dataset
    from components.tracking import public_uri

    outputs = result.outputs
    evaluation = EvaluationResult.read(outputs["evaluation"].path)
    dataset = Dataset(outputs["dataset"].path)
    counts = dataset.card["counts"]
    numbers = as_plain(evaluation.candidate)
    worst = evaluation.candidate.worst_slice
    about = About(
        run_id=record["_id"],
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record["started_s"])),
        commit=str(of_document(record["revision"])),
        dataset=dataset.digest[:12] + (f", version {dataset.version}" if dataset.version else ""),
        version=outputs["version"],
    )
    note = dataset.card.get("note", "")
    overview = index(about, outputs["decision"], outputs["reasons"], evaluation.candidate, counts["files"], note)
    pages = publish(outputs, home / "reports" / record["_id"], about, overview)
    return {
        "decision": outputs["decision"],
        "reasons": list(outputs["reasons"]),
        "model_version": outputs["version"],
        "champion_version": evaluation.champion_version,
        "metrics": {**numbers["overall"], "by_source": numbers["by_source"], "by_kind": numbers["by_kind"]},
        "worst_slice": worst and {"name": worst.name, "words": worst.words, **as_plain(worst.measures)},
        "counts": {name: counts[name] for name in FILES}
        | {name: split["rows"] for name, split in counts["splits"].items()},
        "note": note,
        "report": pages["evaluation"],
        "pages": pages,
        "evaluation": outputs["evaluation"].path,
        "dataset": outputs["dataset"].path,
        "dataset_digest": dataset.digest,
        "data_version": dataset.version,
        "digest": evaluation.candidate.digest,
        "model": outputs["model"].path,
        "registry": public_uri(),
        "log": str(result.log),
        "seconds": result.seconds,
        "cached": result.cached,
    }


def publish(outputs: Mapping[str, Any], directory: Path, about: About, overview: str) -> dict[str, str]:
    """Write the pages of a run, each leading to the others, to where a browser can open them.

    Args:
        outputs: The pipeline's outputs; the pages are files without extension among them.
        directory: Where the pages go.
        about: What identifies the run, for the head of each page.
        overview: The index page.

    Returns:
        By name of the page its path.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = {name: Path(outputs[output].path).read_text(encoding="utf-8") for name, output in PAGES.items()}
    pages = {}
    for name, text in {"index": overview, **{name: bind(name, text, about) for name, text in texts.items()}}.items():
        target = directory / f"{name}.html"
        target.write_text(text, encoding="utf-8")
        pages[name] = str(target)
    latest = directory.parent / "latest"
    link = directory.parent / f".{directory.name}"
    link.symlink_to(directory.name)
    os.replace(link, latest)
    return pages
