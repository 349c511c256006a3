"""The console command: what its help says, and what it does not load for that."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.settings import SETTINGS
from pipelines.commands import main as cli

COMMANDS = [name for group in cli.COMMANDS.values() for name in group]
STARTED = """
import sys
from pipelines.commands import main as cli
cli.parse(["check", "a.jpg"])
print(*sys.modules)
"""


def said(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    return exited.value.code, *capsys.readouterr()


def test_help_lists_every_command(capsys):
    code, text, _ = said(capsys, "--help")
    assert code == 0
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert listed == COMMANDS
    assert cli.EXIT_CODES in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_file_of_its_name_and_takes_verbose(capsys, name):
    code, text, _ = said(capsys, name, "--help")
    assert code == 0
    assert text.startswith(f"usage: ai-vs-real {name} ")
    assert "--verbose" in text
    assert Path(cli.__file__).with_name(f"{name}.py").is_file()


def test_the_help_has_the_usual_options_and_the_whole_help_has_all(capsys):
    for name in ("run", "submit"):
        _, short, _ = said(capsys, name, "--help")
        _, whole, _ = said(capsys, name, "--help-all")
        assert all(setting.option in whole for setting in SETTINGS.values())
        assert {setting.name for setting in SETTINGS.values() if setting.option in re.split(r"[,\s]+", short)} == {
            setting.name for setting in SETTINGS.values() if setting.brief
        }
    _, text, _ = said(capsys, "run", "--help")
    assert len(text.splitlines()) <= 45
    _, text, _ = said(capsys, "check", "--help")
    assert {"--model", "--model-name", "--no-delivery-test", "--json", "--verbose"} <= set(text.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chekc", "a.jpg"], "unknown command 'chekc'; the commands are run, "),
        ([], "required: COMMAND; see ai-vs-real --help"),
        (["check"], "required: FILE; see ai-vs-real check --help"),
        (["run", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    ],
)
def test_what_is_not_understood_is_reported_in_one_line(capsys, arguments, expected):
    code, text, error = said(capsys, *arguments)
    assert (code, text, error.count("\n")) == (2, "", 1)
    assert error.startswith("ai-vs-real")
    assert expected in error


def test_a_command_starts_without_what_only_runs_need():
    done = subprocess.run([sys.executable, "-c", STARTED], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "pipelines.commands.main" in loaded
    assert not {"kfp", "kubernetes", "numpy", "yaml", "requests", "keras", "mlflow", "pyarrow"} & loaded
