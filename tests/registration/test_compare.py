"""Two registered detectors side by side, and the page that shows them."""

import re

import pytest

from components.errors import InputError
from components.registration.compare import compare
from components.registration.register import register

GATE = "roc_auc+0.01,roc_auc>=0.7"


@pytest.fixture
def three(registry_home, make):
    register(*make("first", 1.2), model_name="detector", gate=GATE)
    register(*make("second", 2.5, ("first", 1.2, "1")), model_name="detector", gate=GATE)
    register(*make("third", 1.8, ("second", 2.5, "2")), model_name="detector", gate=GATE)


def test_comparing_a_version_with_the_champion_gives_the_numbers_of_the_gate(three, tmp_path):
    page = tmp_path / "pages" / "page.html"
    found = compare("detector", "3", gate=GATE, decision_page=page)
    assert (found["version"], found["other"], found["would_promote"]) == ("3", "2", False)
    assert [check["name"] for check in found["checks"] if not check["passed"]] == ["mean", "worst slice"]
    assert found["metrics"]["roc_auc"] < found["other_metrics"]["roc_auc"]
    text = page.read_text()
    assert "Version 3 of detector against version 2" in text
    assert "It would be refused" in text
    assert "JPEG at quality 30" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # self-contained


def test_any_two_are_compared_on_the_rows_they_share(three):
    assert compare("detector", "3", "1", gate=GATE)["would_promote"]
    assert not compare("detector", "1", "3", gate=GATE)["would_promote"]
    with_itself = compare("detector", "2", "2", gate=GATE)
    assert with_itself["reasons"] == ["it is the champion itself, version 2"]


def test_evaluations_of_other_rows_are_not_compared(three, make):
    register(*make("fourth", 3.0), model_name="detector", gate=GATE)
    other = make("fifth", 3.0, ("second", 2.5, "2"))
    other[1].write_text(other[1].read_text().replace("r" * 64, "x" * 64))
    register(*other, model_name="detector", gate=GATE)
    assert "on other rows" in compare("detector", "5", "4", gate=GATE)["reasons"][0]


def test_versions_that_are_not_there_are_one_line(three):
    with pytest.raises(InputError, match="no version '9'; it has 3, 2, 1"):
        compare("detector", "9", gate=GATE)
    with pytest.raises(InputError, match=r"no version '\(champion\)'"):
        compare("nothing", "", gate=GATE)
