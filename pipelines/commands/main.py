"""The console command `ai-vs-real`."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.containers import VERSION
from components.errors import InputError
from components.home import run_home, unwritable
from pipelines.commands import doctor, job, models, submit
from pipelines.commands.options import add_pipeline_options, pipeline_arguments, stage_arguments
from pipelines.steps.compiling import COMPILED, TRAINING, compile_manifests, compile_pipelines, compiled_for

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a defect, 2 input to mend, 130 interrupted."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except InputError as error:
        return _fail(options, str(error), 2)
    except KeyboardInterrupt:
        return _fail(
            options, "interrupted; a run started again with the same arguments goes on from its last whole step", 130
        )
    except BrokenPipeError:
        return 1
    except RuntimeError as error:
        return _fail(options, str(error), 1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _fail(options, str(unwritable(Path(error.filename or run_home()), error)), 2)


def _fail(options: argparse.Namespace, message: str, code: int) -> int:
    if options.verbose:
        import traceback

        traceback.print_exc()
    print(f"ai-vs-real: {message}", file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """A parser, of a command too, that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message and where to read more, in place of the whole usage."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = Parser(prog="ai-vs-real", description="Decides whether media are real or AI-generated.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_compile(commands)
    submit.add_parser(commands)
    _add_stages(commands)
    _add_check(commands)
    _add_score(commands)
    models.add_parser(commands)
    job.add_parser(commands)
    doctor.add_parser(commands)
    _add_sample(commands)
    for command in commands.choices.values():
        command.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def _add_run(commands: Any) -> None:
    command = commands.add_parser("run", help="the whole pipeline on this machine", description=_run.__doc__)
    command.add_argument("media", nargs="?", default="", help="a labelled directory or list; left out, the sample set")
    add_pipeline_options(command)
    command.add_argument("--no-step-cache", action="store_true", help="do every step again")
    command.add_argument("--in-containers", action="store_true", help="run the steps in the images (make images)")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    """Run the compiled training pipeline on this machine, from labelled media to a judged, registered detector."""
    from pipelines.local.run import run_training

    arguments = pipeline_arguments(options)
    runner = _containers(options.media, arguments) if options.in_containers else None
    result = run_training(options.media, arguments, cache=not options.no_step_cache, runner=runner)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(_told(result))
    return 0


def _containers(media: str, arguments: dict[str, Any]) -> Any:
    from pipelines.local.in_containers import docker_runner

    weights = Path(arguments.get("weights", "none").partition("#")[0])
    paths = [path for path in (Path(media or "."), weights) if str(path) != "." and path.exists()]
    return docker_runner(run_home(), *paths, pipeline=TRAINING)


def _told(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    lines = [
        "",
        f"{result['decision'].upper()}  version {result['model_version']} of the registry",
        *(f"  because {reason}" for reason in result["reasons"]),
        "",
        f"  on {metrics['n']} test items ({metrics['n_real']} real, {metrics['n_fake']} fake):",
        "  "
        + ", ".join(
            f"{title} {metrics[name]:.3f}"
            for name, title in (
                ("roc_auc", "ROC AUC"),
                ("average_precision", "average precision"),
                ("balanced_accuracy", "balanced accuracy"),
                ("ece", "calibration error"),
            )
            if metrics[name] is not None
        ),
    ]
    if result["note"]:
        lines.append(f"  {result['note']}")
    home = os.path.relpath(Path(result["report"]).parent.parent)
    lines += [
        "",
        f"  pages     {home}/latest/decision.html, evaluation.html, data.html, training.html",
        f"  registry  {result['registry']}",
        f"  records   {result['records']}",
        "",
        "Next:",
        "  ai-vs-real check FILE...      ask the champion about your own pictures and videos",
        "  ai-vs-real models history     who was champion when, and why",
        "  ai-vs-real run YOUR_MEDIA     the same on DIR/real and DIR/fake of your own",
    ]
    return "\n".join(lines)


def _add_compile(commands: Any) -> None:
    command = commands.add_parser("compile", help="write the pipelines' YAML", description=_compile.__doc__)
    command.add_argument("--output", type=Path, default=COMPILED, help="directory (the package's pipelines/compiled)")
    command.add_argument("--cluster", type=Path, metavar="FILE", help="compile for the cluster in this YAML")
    command.add_argument("--manifests", action="store_true", help="also as Kubernetes manifests, for GitOps")
    command.add_argument("--namespace", default="kubeflow", help="of these manifests (%(default)s)")
    command.set_defaults(run=_compile)


def _compile(options: argparse.Namespace) -> None:
    """Compile the pipelines to YAML; equal sources give equal bytes."""
    with compiled_for(options.cluster):
        written = compile_pipelines(options.output)
        written += compile_manifests(options.output, options.namespace) if options.manifests else []
    for path in written:
        print(os.path.relpath(path))


SEEN = ("sampling", "view", "delivery")
CLEANED = ("balance", "hold_out", "repair_split", "audit", "seed")
LEARNT = (
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
JUDGED = ("test_degradations",)


def _add_stages(commands: Any) -> None:
    def stage(name: str, function: Any, help_: str, parameters: Sequence[str]) -> Any:
        command = commands.add_parser(name, help=help_, description=function.__doc__)
        add_pipeline_options(command, parameters)
        command.set_defaults(run=function)
        return command

    extract = stage("extract", _extract, "stage 1 alone: media to views", SEEN)
    extract.add_argument("media", help="a labelled directory or list")
    extract.add_argument("--output", type=Path, help="directory of the frames (HOME/frames)")

    preprocess = stage("preprocess", _preprocess, "stage 2 alone: views to a dataset", CLEANED)
    preprocess.add_argument("frames", nargs="+", type=Path, help="directories that extract wrote")
    preprocess.add_argument("--output", type=Path, help="directory of the dataset (HOME/dataset)")

    train = stage("train", _train, "stage 3 alone: a dataset to a detector", (*LEARNT, *SEEN))
    train.add_argument("dataset", type=Path, help="a dataset, or a plain {train,val,test}/{real,fake} tree")
    train.add_argument("--output", type=Path, help="directory of the detector (HOME/model)")

    evaluate = stage("evaluate", _evaluate, "stage 4 alone: judge a detector", ("model_name", *JUDGED, "cross_source"))
    evaluate.add_argument("model", type=Path, help="a detector that train wrote")
    evaluate.add_argument("dataset", type=Path, help="a dataset; its test split is used")
    evaluate.add_argument("--output", type=Path, help="directory of evaluation.json and report.html (HOME/evaluation)")
    evaluate.add_argument("--no-champion", action="store_true", help="do not score the champion on the same rows")
    evaluate.add_argument("--json", action="store_true", help="the evaluation as JSON on standard output")

    register = stage("register", _register, "stage 5 alone: gate and registry", ("model_name", "gate"))
    register.add_argument("model", type=Path, help="a detector that train wrote")
    register.add_argument("evaluation", type=Path, help="the evaluation.json that evaluate wrote")
    register.add_argument("--json", action="store_true", help="the decision as JSON on standard output")


def _extract(options: argparse.Namespace) -> None:
    """Extract the view of every picture and of sampled frames of every video."""
    from components.extraction.extract import extract

    output = options.output or run_home() / "frames"
    extract(options.media, output, **stage_arguments(options, *SEEN))
    print(output)


def _preprocess(options: argparse.Namespace) -> None:
    """Join frames, drop duplicates and unreadable files, balance, split by group, audit; write dataset and page."""
    from components.preprocessing.preprocess import preprocess

    output = options.output or run_home() / "dataset"
    arguments = stage_arguments(options, *CLEANED)
    preprocess(options.frames, output, report=output.with_suffix(".html"), **arguments)
    print(output)


def _train(options: argparse.Namespace) -> None:
    """Train a detector in two phases on a dataset, or on a plain labelled tree, which is made a dataset first."""
    import_keras_quietly()
    from components.training.train import train

    dataset = options.dataset
    output = options.output or run_home() / "model"
    if not (dataset / "dataset.json").is_file():
        dataset = _dataset_of_tree(options)
    train(dataset, output, report=output.with_suffix(".html"), **stage_arguments(options, *LEARNT))
    print(output)


def _dataset_of_tree(options: argparse.Namespace) -> Path:
    from components.extraction.extract import extract
    from components.preprocessing.preprocess import preprocess

    frames, dataset = run_home() / "frames", run_home() / "dataset"
    extract(str(options.dataset), frames, **stage_arguments(options, *SEEN))
    preprocess([frames], dataset, report=dataset.with_suffix(".html"), **stage_arguments(options, "seed"))
    return dataset


def _evaluate(options: argparse.Namespace) -> None:
    """Judge a detector on a dataset's test split, beside the champion on the same rows."""
    import_keras_quietly()
    from components.evaluation.evaluate import evaluate_against
    from components.registration.register import find_champion

    output = options.output or run_home() / "evaluation"
    output.mkdir(parents=True, exist_ok=True)
    name, conditions, cross_source = stage_arguments(options, "model_name", *JUDGED, "cross_source").values()
    champion = "" if options.no_champion else find_champion(options.model, name)
    path, report = output / "evaluation.json", output / "report.html"
    judging = {"test_degradations": conditions, "leave_one_out": cross_source}
    evaluate_against(champion, name, options.dataset, options.model, path, report, **judging)
    print(path.read_text() if options.json else path)


def _register(options: argparse.Namespace) -> None:
    """Register a detector and promote it if it beats the champion; the decision is recorded either way."""
    from components.registration.register import register

    decision = register(options.model, options.evaluation, **stage_arguments(options, "model_name", "gate"))
    if options.json:
        print(json.dumps(decision, indent=1))
    else:
        print(f"{decision['decision']}: version {decision['version']}; {'; '.join(decision['reasons'])}")


def _add_check(commands: Any) -> None:
    command = commands.add_parser("check", help="ask the champion about files", description=_check.__doc__)
    command.add_argument("files", nargs="+", metavar="FILE", help="pictures and videos")
    command.add_argument("--model", type=Path, help="a detector's directory, in place of the champion")
    command.add_argument("--model-name", default="ai-vs-real", help="in the registry (%(default)s)")
    command.add_argument(
        "--delivery-test", action="store_true", help="ask again recompressed, at half scale and cropped"
    )
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    """Ask the champion about pictures and videos: verdict, probability of fake, model version."""
    from components import registry
    from components.detector import read_card
    from components.prediction.verdict import check

    version = ""
    detector = options.model
    if detector is None:
        champion = registry.find(options.model_name)
        if champion is None:
            raise InputError(
                f"there is no champion of {options.model_name!r}; make one with ai-vs-real run, or use --model"
            )
        version = champion.version
        detector = registry.fetch(champion)
    note = read_card(detector).get("note", "")
    import_keras_quietly()
    if note:
        print(f"Of the media that this detector was trained on: {note}", file=sys.stderr)
    answers = []
    for answer in check(options.files, detector, version=version, delivery_test=options.delivery_test):
        answers.append(answer)
        if not options.json:
            print(_answered(answer), flush=True)
    if options.json:
        print(json.dumps({"model_version": version, "note": note, "answers": answers}, indent=1))
    return 2 if any(answer.get("error") for answer in answers) else 0


def import_keras_quietly() -> None:
    """Import Keras without its backend's greeting, which TensorFlow writes past Python and no setting turns off."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import keras  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _answered(answer: dict[str, Any]) -> str:
    if answer.get("error"):
        return f"{answer['path']}: cannot be read: {answer['error']}"
    text = f"{answer['path']}: {answer['verdict']}  (probability of fake {answer['probability']:.2f})"
    return f"{text}  {answer['reason']}".rstrip()


def _add_score(commands: Any) -> None:
    command = commands.add_parser("score", help="ask about every file of a directory", description=_score.__doc__)
    command.add_argument("media", help="a directory of pictures and videos, or one file")
    command.add_argument("--output", type=Path, help="the answers, a line of JSON each (HOME/verdicts.jsonl)")
    command.add_argument("--model-name", default="ai-vs-real", help="in the registry (%(default)s)")
    command.add_argument("--version", default="", help="in the registry (the champion)")
    command.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> None:
    """Write the champion's verdict on every picture and video below a directory."""
    from components.prediction.verdict import check_media

    output = options.output or run_home() / "verdicts.jsonl"
    check_media(options.media, options.model_name, options.version, output)
    print(output)


def _add_sample(commands: Any) -> None:
    command = commands.add_parser("sample", help="write the sample set", description=_sample.__doc__)
    command.add_argument("directory", type=Path)
    command.set_defaults(run=_sample)


def _sample(options: argparse.Namespace) -> None:
    """Write the small labelled sample set, made by code."""
    from pipelines.local import sample

    print(sample.make(options.directory))
    print(sample.NOTE, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
