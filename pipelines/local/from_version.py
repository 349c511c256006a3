"""One run on this machine from a version of a dataset: it is brought here, and training begins from it."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.dataset import Dataset
from components.home import run_home
from components.page.parts import numbers, page, paragraph, section, table
from components.settings import completed, names_of
from pipelines.local import engine
from pipelines.local.run import WEIGHTS_FILES, pinned, reach_servers, recorded, summary
from pipelines.steps.validation import validate


def run_from_version(version: str, arguments: Mapping[str, Any], repository: Any) -> dict[str, Any]:
    """Train, judge and register on a version of a dataset, bit for bit as it was snapshot, and record the run.

    The steps are those of the training pipeline from the dataset on; the dataset's own view, delivery and split stand.

    Args:
        version: Its name, or the begin of it.
        arguments: Settings that differ from their defaults.
        repository: A `DataRepository`.

    Returns:
        The document that `ai-vs-real run --json` prints.

    Raises:
        InputError: The version cannot be had, or a setting or a server is not right.
    """
    home = run_home()
    os.environ["AI_VS_REAL_HOME"] = str(home)
    arguments = completed(arguments)
    wanted = {stage: validate(arguments, names_of(stage)) for stage in ("train", "evaluate", "register")}
    reach_servers()
    with recorded() as record:
        dataset = Dataset(repository.pull(version))
        record |= {"arguments": dict(arguments), "data_version": dataset.version, "dataset_digest": dataset.digest}
        engine.print_to_stderr(f"[data] version {dataset.version}, {len(dataset):,} rows, in {dataset.directory}")
        wanted["train"] |= {name: pinned(name, wanted["train"][name]) for name in WEIGHTS_FILES}
        result = _steps(dataset, home / "pipelines" / record["_id"], wanted)
        record["outcome"] = "completed"
        record |= summary(result, home, record)
    return record


def _steps(dataset: Dataset, place: Path, wanted: Mapping[str, Mapping[str, Any]]) -> engine.Run:
    """Run the steps in this process, one after another; what they leave lies below `place`."""
    from components.evaluation.evaluate import evaluate_against
    from components.registration.register import find_champion, register
    from components.training.train import train

    place.mkdir(parents=True)
    names = ("data_report", "curves", "report", "decision_page")
    path = {name: str(place / f"{name}.html") for name in names}
    path |= {
        "dataset": str(dataset.directory),
        "model": str(place / "model"),
        "evaluation": str(place / "evaluation.json"),
    }
    Path(path["data_report"]).write_text(_data_page(dataset), encoding="utf-8")
    seconds, begun = {}, time.monotonic()

    def done(step: str) -> None:
        nonlocal begun
        seconds[step], begun = round(time.monotonic() - begun, 3), time.monotonic()
        engine.print_to_stderr(f"{step}: done in {seconds[step]:.1f} s")

    pages = {"report": path["curves"], "data_page": path["data_report"]}
    train(dataset.directory, Path(path["model"]), **pages, **wanted["train"])
    done("train")
    name = wanted["evaluate"]["model_name"]
    champion = find_champion(path["model"], name)
    conditions = {
        "test_degradations": wanted["evaluate"]["test_degradations"],
        "leave_one_out": wanted["evaluate"]["cross_source"],
        "families": wanted["evaluate"]["families"],
        "last_component": pinned("last_component", wanted["evaluate"]["last_component"]),
    }
    evaluate_against(champion, name, path["dataset"], path["model"], path["evaluation"], path["report"], **conditions)
    done("evaluate")
    outcome = register(path["model"], path["evaluation"], decision_page=path["decision_page"], **wanted["register"])
    done("register")
    outputs = {name: SimpleNamespace(path=where) for name, where in path.items()}
    outputs |= {name: outcome[name] for name in ("decision", "reasons", "version")}
    return engine.Run(outputs, seconds, [], place)


def _data_page(dataset: Dataset) -> str:
    counts = dataset.card["counts"]
    rows = [
        {"split": name, "files": split["files"], "label": label, "of this label": amount}
        for name, split in counts["splits"].items()
        for label, amount in split["label"].items()
    ]
    return page(
        f"Data version {dataset.version}",
        [
            numbers({"files": counts["files"], "rows": counts["rows"], "groups": counts["groups"]}),
            section("Splits", table(rows), paragraph(dataset.card["certificate"]["text"])),
        ],
        lead="This run began from a version of a dataset; the page of its making is the run's that made it.",
        notice=dataset.card.get("note", ""),
    )
