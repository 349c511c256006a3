"""`ai-vs-real run`: the whole pipeline on this machine."""

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.evaluation_result import METRICS
from components.home import run_home
from components.progress import printable
from pipelines.commands.invocation import called
from pipelines.commands.options import add_pipeline_options, pipeline_arguments


def add_parser(commands: Any) -> None:
    """Add the command `run`."""
    command = commands.add_parser("run", description=run.__doc__)
    command.add_argument(
        "media", nargs="?", default="", metavar="MEDIA", help="labelled directory or list (the sample set)"
    )
    add_pipeline_options(command)
    command.add_argument("--with-review", action="store_true", help="add the accepted files of the review set")
    command.add_argument("--no-step-cache", action="store_true", help="run every step again")
    command.add_argument("--in-containers", action="store_true", help="run the steps in their images (make images)")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    for option, metavar, text in (
        (
            "--data-version",
            "VERSION",
            "train on this version of a dataset, in place of MEDIA; see ai-vs-real data list",
        ),
        ("--repository", "DIR", "in the Git repository of data versions (.)"),
        ("--dagshub", "USER/REPO", "data and MLflow there, by the token in DAGSHUB_USER_TOKEN"),
    ):
        added = command.add_argument(option, default="", metavar=metavar, help=text)
        added.usual, added.whole = False, text
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the compiled training pipeline on this machine, from labelled media to a judged, registered detector."""
    from pipelines.local.run import run_training, with_review

    arguments = pipeline_arguments(options)
    if options.dagshub:
        from components.versions.repository import dagshub_tracking

        os.environ.update(dagshub_tracking(options.dagshub))
    if options.data_version:
        result = _from_version(options, arguments)
        print(json.dumps(result, indent=1) if options.json else _in_words(result))
        return
    media = options.media
    if options.with_review:
        if not media:
            raise InputError("--with-review needs MEDIA: name the labelled media that the review set is added to")
        media = with_review(media)
    runner = _containers(media, arguments) if options.in_containers else None
    result = run_training(media, arguments, cache=not options.no_step_cache, runner=runner)
    print(json.dumps(result, indent=1) if options.json else _in_words(result))


def _from_version(options: argparse.Namespace, arguments: dict[str, Any]) -> dict[str, Any]:
    from components.versions.repository import DataRepository
    from pipelines.commands.quiet import import_keras
    from pipelines.local.from_version import run_from_version

    if options.media or options.in_containers:
        raise InputError(
            "--data-version takes the place of MEDIA, and its steps run as one process; leave out the other"
        )
    repository = DataRepository(options.repository, dagshub=options.dagshub)
    import_keras()
    return run_from_version(options.data_version, arguments, repository)


def _containers(media: str, arguments: dict[str, Any]) -> Any:
    from pipelines.local.in_containers import docker_runner
    from pipelines.local.run import WEIGHTS_FILES
    from pipelines.steps.compiling import TRAINING

    weights = [Path(arguments.get(name, "none").partition("#")[0]) for name in WEIGHTS_FILES]
    paths = [path for path in (Path(media or "."), *weights) if str(path) != "." and path.exists()]
    return docker_runner(run_home(), *paths, pipeline=TRAINING)


def _in_words(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    lines = [
        "",
        f"{result['decision'].upper()}  version {result['model_version']} of the registry",
        *(f"  because {reason}" for reason in result["reasons"]),
        "",
        f"  on {metrics['n']} test items ({metrics['n_real']} real, {metrics['n_fake']} fake):",
        "  "
        + ", ".join(
            f"{METRICS[name].title} {metrics[name]:.3f}"
            for name in ("roc_auc", "average_precision", "balanced_accuracy", "ece")
            if metrics[name] is not None
        ),
    ]
    if result["note"]:
        lines.append(f"  {result['note']}")
    lines += [
        "",
        f"  registry  {result['registry']}",
        f"  records   {result['records']}",
    ]
    overview = os.path.relpath(result["pages"]["index"])
    lines += ["", "Next:", *_next_steps(result), "", f"Read on: {overview}"]
    return "\n".join(map(printable, lines))


def _next_steps(result: dict[str, Any]) -> list[str]:
    champion = result["decision"] == "promoted" or result["champion_version"]
    detector = "" if champion else f" --model {shlex.quote(os.path.relpath(result['model']))}"
    steps = {f"check{detector} {shlex.quote(os.path.relpath(result['example']))}": "ask about a picture or a video"}
    steps |= {"models history": "see who was champion when, and why"}
    width = max(map(len, steps)) + 2
    return [f"  {called()} {step:<{width}}# {purpose}" for step, purpose in steps.items()]
