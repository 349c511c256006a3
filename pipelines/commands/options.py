"""The training pipeline's parameters as options of a command."""

import argparse
import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

METAVARS = {str: "TEXT", int: "INT", float: "NUMBER"}

# One line for each parameter of the training pipeline; its default stands on the pipeline's signature alone.
PARAMETERS = {
    "shards": "parts that extraction is cut into; on a cluster, a pod for each",
    "sampling": "frames of a video: even:N, rate:FRAMES_A_SECOND or keyframes:N",
    "view": "what the network sees: resizeN, crops, both, cropsNxK, ...",
    "delivery": "as-is, or common: bring every file to one scale and compression first",
    "balance": "of the labels in training: weights (keeps every file), undersample or none",
    "hold_out": "keep whole sources for the test: source=NAME[,NAME]",
    "repair_split": "drop what leaks from a given split, and name the pairs, instead of refusing it",
    "audit": "when a shortcut separates the labels: warn, or fail the run",
    "backbone": "a Keras application: efficientnetb0 (the mission's), mobilenetv2, ...",
    "recipe": "deep: the head reads all depths; plain: the top alone, and --view resize256",
    "weights": "imagenet, none (all layers from scratch) or a file",
    "epochs": "phase 1: the head on the frozen backbone (all layers with --weights none)",
    "fine_tune_epochs": "phase 2: the last layers, rounded out to whole blocks; below 0: plain 10, deep 0",
    "unfreeze_layers": "how many these last layers are",
    "batch_size": "views in a step",
    "learning_rate": "of phase 1; phase 2 has the recipe's own",
    "draws": "draws of each view: one as it is, the further ones augmented and degraded",
    "training_degradations": "share of training views that is degraded after the first draw; below 0: plain 0, deep 1",
    "consistency": "pull each view and its degraded ones to one answer, so strongly; deep only",
    "activation_cache": "compute what is frozen once, and not in every epoch",
    "precision": "auto (what the GPU gains from), float32, mixed_float16 or mixed_bfloat16",
    "test_degradations": "under which degradations it is judged: all, none, or jpeg:50,scale:0.5,...",
    "cross_source": "also judge on each source left out of training",
    "gate": "what promotes: metric+margin over the champion, then floors and caps",
    "seed": "of splits, weights and augmentation",
    "model_name": "in the registry",
}


EXTRACTION = ("sampling", "view", "delivery")
PREPROCESSING = ("balance", "hold_out", "repair_split", "audit", "seed")
TRAINING = (
    "backbone",
    "weights",
    "recipe",
    "epochs",
    "fine_tune_epochs",
    "unfreeze_layers",
    "batch_size",
    "learning_rate",
    "draws",
    "training_degradations",
    "consistency",
    "activation_cache",
    "precision",
    "seed",
)
EVALUATION = ("model_name", "test_degradations", "cross_source")
REGISTRATION = ("model_name", "gate")
PLAIN_VIEW = "resize256"  # what the mission's own recipe looks at


def add_pipeline_options(command: argparse.ArgumentParser, names: Sequence[str] = tuple(PARAMETERS)) -> None:
    """Add an option for parameters of the training pipeline; one that is not given is not in the namespace."""
    for name in names:
        default = pipeline_defaults()[name]
        flag, told = "--" + name.replace("_", "-"), PARAMETERS[name]
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        else:
            kind = {"type": type(default), "metavar": METAVARS[type(default)]}
        if default is not False:
            told += f" ({'yes' if default is True else default if default != '' else 'none'})"
        command.add_argument(flag, default=argparse.SUPPRESS, help=told, **kind)


@cache
def pipeline_defaults() -> dict[str, Any]:
    """Return the training pipeline's parameters that have a default, each with it.

    They are read from the source: to import a pipeline is to import Kubeflow, most of a second that every command pays.
    """
    source = Path(__file__).resolve().parents[1].joinpath("steps", "training.py").read_text()
    (pipeline,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == "training")
    named = pipeline.args.args[-len(pipeline.args.defaults) :]
    return {one.arg: ast.literal_eval(default) for one, default in zip(named, pipeline.args.defaults, strict=True)}


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the pipeline parameters that the command line asks for; the plain recipe brings its own view."""
    given = {name: getattr(options, name) for name in PARAMETERS if hasattr(options, name)}
    if given.get("recipe") == "plain":
        given.setdefault("view", PLAIN_VIEW)
    return given


def stage_arguments(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return some of the parameters for a stage that is run alone: as asked for, else by the pipeline's defaults."""
    arguments = pipeline_defaults() | pipeline_arguments(options)
    return {name: arguments[name] for name in names}
