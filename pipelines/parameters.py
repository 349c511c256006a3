"""The training pipeline's parameters as options of a command."""

import argparse
import inspect
from typing import Any

# One line for each parameter of the training pipeline; its default stands on the pipeline's signature alone.
PARAMETERS = {
    "shards": "parts that extraction is cut into; on a cluster, a pod for each",
    "sampling": "frames of a video: even:N, rate:FRAMES_A_SECOND or keyframes:N",
    "view": "what the network sees: resizeN, crops, both, cropsNxK, ...",
    "delivery": "as-is, or common: bring every file to one scale and compression first",
    "balance": "of the labels in training: weights (keeps every file), undersample or none",
    "hold_out": "keep whole sources for the test: source=NAME[,NAME]",
    "audit": "when a shortcut separates the labels: warn, or fail the run",
    "backbone": "a Keras application: efficientnetb0 (the mission's), mobilenetv2, ...",
    "weights": "imagenet, none (all layers from scratch) or a file",
    "epochs": "phase 1: the head on the frozen backbone (all layers with --weights none)",
    "fine_tune_epochs": "phase 2: the last 20 layers, rounded out to whole blocks",
    "batch_size": "pictures in a step",
    "gate": "what promotes: metric+margin over the champion, then floors and caps",
    "seed": "of splits, weights and augmentation",
    "model_name": "in the registry",
}


def add_pipeline_options(command: argparse.ArgumentParser) -> None:
    """Add an option for each parameter of the training pipeline; one that is not given is not in the namespace."""
    for name, parameter in pipeline_parameters().items():
        command.add_argument(
            "--" + name.replace("_", "-"),
            type=type(parameter.default),
            metavar=type(parameter.default).__name__.upper().replace("STR", "TEXT"),
            default=argparse.SUPPRESS,
            help=f"{PARAMETERS[name]} ({parameter.default if parameter.default != '' else 'none'})",
        )


def pipeline_parameters() -> dict[str, inspect.Parameter]:
    """Return the training pipeline's parameters that have a default, by name."""
    from pipelines.training import training

    parameters = inspect.signature(training.pipeline_func).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.default is not parameter.empty}


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the pipeline parameters that were given on the command line."""
    return {name: getattr(options, name) for name in PARAMETERS if hasattr(options, name)}
