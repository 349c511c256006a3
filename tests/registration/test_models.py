"""`ai-vs-real models`, as a user types it."""

import json

import pytest

from components import registry
from components.errors import InputError
from components.registration.register import register
from pipelines.commands import models
from pipelines.commands.main import Parser

GATE = "roc_auc+0.01,roc_auc>=0.7"


@pytest.fixture
def ask(capsys):
    """Return a function that runs `models` with arguments and returns what it prints, parsed where --json is given."""

    def run(*arguments):
        parser = Parser()
        models.add_parser(parser.add_subparsers())
        capsys.readouterr()
        options = parser.parse_args(["models", *arguments])
        options.run(options)
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in arguments else printed

    return run


@pytest.fixture
def two(registry_home, make):
    register(*make("first", 1.2), model_name="ai-vs-real", gate=GATE)
    register(*make("second", 2.5, ("first", 1.2, "1")), model_name="ai-vs-real", gate=GATE)


def test_an_empty_registry_says_what_to_do(registry_home, ask):
    assert "ai-vs-real run" in ask("list")
    assert ask("list", "--json") == ask("history", "--json") == []
    assert ask("history") == "ai-vs-real has no history\n"
    assert ask("history", "--at", "2026-01-31") == "ai-vs-real has no champion at 2026-01-31\n"


def test_list(two, ask):
    newest, oldest = ask("list", "--json")
    assert (newest["version"], newest["aliases"], newest["decision"]) == ("2", ["champion"], "promoted")
    assert newest["roc_auc"] > oldest["roc_auc"] > 0.7
    first, second = ask("list").splitlines()
    assert first.split()[:3] == ["2", "champion", "promoted"]
    assert second.split()[:2] == ["1", "promoted"]


def test_compare(two, ask, tmp_path):
    page = tmp_path / "page.html"
    found = ask("compare", "1", "--json", "--page", str(page))
    assert (found["version"], found["other"], found["would_promote"]) == ("1", "2", False)
    assert page.is_file()
    text = ask("compare", "2", "1")
    assert text.startswith("version 2 against 1: it would be promoted\n")
    assert "holds" in text
    assert "FAILS" not in text


def test_promote_roll_back_and_history(two, ask):
    event = ask("rollback", "--reason", "it flags our own photographs", "--json")
    assert (event["kind"], event["champion_after"], event["dropped"]) == ("rolled back", "1", "2")
    assert registry.find("ai-vs-real").version == "1"
    assert "champion 2" in ask("promote", "2", "--reason", "the photographs were fakes")
    history = ask("history", "--json")
    assert [event["kind"] for event in history] == ["promoted", "promoted", "rolled back", "promoted"]
    assert history[-1]["reasons"] == ["the photographs were fakes"]
    assert len(ask("history").splitlines()) == 4
    (reign,) = ask("history", "--json", "--at", history[2]["at"])
    assert (reign["champion_after"], reign["reasons"]) == ("1", ["it flags our own photographs"])
    assert "it flags our own photographs" in ask("history", "--at", history[2]["at"])


@pytest.mark.parametrize("arguments", [["promote", "2"], ["rollback"], ["promote", "--reason", "x"]])
def test_a_change_needs_a_version_and_a_reason(two, ask, arguments):
    with pytest.raises(SystemExit):
        ask(*arguments)


def test_errors_are_one_line(two, ask):
    with pytest.raises(InputError, match="no version '9'; it has 2, 1"):
        ask("promote", "9", "--reason", "why not")
    with pytest.raises(InputError, match="champion already"):
        ask("promote", "2", "--reason", "again")
