"""The console command `ai-vs-real`: finds the command that is named, runs it, and turns errors into one line."""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.errors import InputError
from components.home import UNWRITABLE, run_home, unwritable
from components.progress import printable
from components.redaction import redact, safe_cause
from pipelines.commands.invocation import called

# A command is a file of this directory, by its name, with `add_parser`; it is imported only where it is named.
COMMANDS = {
    "Pipeline": {
        "run": "run the whole pipeline on this machine",
        "submit": "run the whole pipeline on Kubeflow Pipelines",
        "compile": "write the pipelines' YAML",
    },
    "Detector": {
        "check": "judge pictures and videos",
        "serve": "answer by a page and an API",
        "review": "look through the files whose verdict was called wrong",
        "models": "list, compare, promote and roll back registered detectors",
    },
    "Stages": {
        "extract": "stage 1: from media to views",
        "preprocess": "stage 2: from views to a dataset",
        "train": "stage 3: from a dataset to a detector",
        "evaluate": "stage 4: judge a detector on the test split",
        "register": "stage 5: the gate and the registry",
    },
    "History": {
        "data": "versions of datasets: snapshot, push, pull, list, diff",
        "lineage": "what a model was made of, and which models were made of a file",
        "records": "look up runs, media, results and promotions; export, import, migrate",
    },
    "Machines": {
        "doctor": "check what a run needs, here and on a cluster",
        "job": "run on a GPU node without Kubeflow",
        "sample": "write the sample set",
    },
}
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong input, stated in one line, 130 interrupted."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `ai-vs-real`; those of the process if not given.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return options.run(options) or 0
    except InputError as error:
        return _fail(options, str(error), 2)
    except KeyboardInterrupt:
        return _fail(options, "interrupted; start it again with the same arguments to continue", 130)
    except BrokenPipeError:
        return 1
    except RuntimeError as error:
        return _fail(options, str(error), 1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _fail(options, str(unwritable(Path(error.filename or run_home()), error)), 2)
    except Exception as error:
        if safe_cause(error):
            raise
        options.verbose = True
        return _fail(options, str(error), 1)


def _names() -> list[str]:
    return [name for group in COMMANDS.values() for name in group]


def _fail(options: argparse.Namespace, message: str, code: int) -> int:
    if getattr(options, "verbose", False):
        import traceback

        print(redact(traceback.format_exc()), file=sys.stderr)
    print(f"ai-vs-real: {printable(redact(message))}", file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """A parser, of a command too, that reports an error in one line; every command takes --verbose."""

    def __init__(self, **given: Any):
        _, _, purpose = (given.get("description") or "").partition("`: ")
        if purpose:  # the first line of a command's file, which names the command
            given["description"] = purpose[0].upper() + purpose[1:]
        super().__init__(**given)
        self.everything = False
        shown = "show the traceback of an error"
        self.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=shown)

    def add_help_all(self) -> None:
        """Add --help-all, without which the help leaves out the options that are not `usual`."""
        self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show every option and exit")

    def format_help(self) -> str:
        """Return the help: what must be given in the usage line, then the options in their groups."""
        formatter = argparse.HelpFormatter(prog=f"{self.prog} [OPTION]...", max_help_position=30)
        formatter.add_usage(None, [action for action in self._actions if action.required or self._is_place(action)], [])
        formatter.add_text(self.description)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            shown = [action for action in group._group_actions if self.everything or getattr(action, "usual", True)]
            formatter.add_arguments(shown)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    @staticmethod
    def _is_place(action: argparse.Action) -> bool:
        return not action.option_strings

    def error(self, message: str) -> NoReturn:
        """Exit with the message and where to read more, in place of the whole usage."""
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


class _HelpAll(argparse.Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        parser.everything = True
        for action in parser._actions:
            action.help = getattr(action, "whole", action.help)
        parser.print_help()
        parser.exit()


class _Version(argparse.Action):
    def __call__(self, parser: Any, *_: Any) -> None:
        from components.containers import VERSION

        print(VERSION)
        parser.exit()


class _Overview(Parser):
    """The parser above the commands; its help lists them in groups."""

    def format_help(self) -> str:
        """Return the commands in groups, without having imported one."""
        lines = [f"usage: {self.prog} COMMAND ...", "", self.description or ""]
        for group, commands in COMMANDS.items():
            lines += ["", f"{group}:", *(f"  {name:<12}{text}" for name, text in commands.items())]
        lines += ["", f"{self.prog} COMMAND --help shows a command's options; {self.prog} --version the version."]
        return "\n".join([*lines, EXIT_CODES, ""])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line; `run` of what is returned is the command's function.

    Raises:
        SystemExit: Help or the version was asked for (0), or the command line is wrong (2).
    """
    names = _names()
    parser = _Overview(prog=called(), description="Decides whether media are real or AI-generated.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    if named in names:
        importlib.import_module(f"pipelines.commands.{named}").add_parser(commands)
    elif named is not None:
        parser.error(f"unknown command {named!r}; the commands are {', '.join(names)}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
