"""The gate is a pure function: tables of numbers in, decisions out."""

import pytest

from components.errors import InputError
from components.registration.gate import DEFAULT, Gate, decide


def evaluation(candidate, champion=None):
    return {
        "candidate": {"overall": candidate},
        "champion": champion and {"overall": champion},
        "champion_version": "3" if champion else "",
    }


@pytest.mark.parametrize("text", [DEFAULT, "balanced_accuracy+0", "eer+0.5,ece<=0.1", "roc_auc+.01, accuracy_real>=.9"])
def test_a_gate_reads_what_it_writes(text):
    assert Gate.parse(str(Gate.parse(text))) == Gate.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "roc_auc", "roc_auc>=0.7", "roc_auc+0.1,ece", "roc_auc+0.1,ece=0.1", "f1+0.1", "roc_auc-0.1", "roc_auc+1,"],
)
def test_a_gate_that_is_not_understood_is_one_line(text):
    with pytest.raises(InputError, match="METRIC\\+MARGIN") as caught:
        Gate.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("candidate", "promote"),
    [
        ({"roc_auc": 0.8, "ece": 0.1}, True),
        ({"roc_auc": 0.7, "ece": 0.2}, True),
        ({"roc_auc": 0.69, "ece": 0.1}, False),
        ({"roc_auc": 0.8, "ece": 0.21}, False),
        ({"roc_auc": None, "ece": 0.1}, False),
        ({"ece": 0.1}, False),
    ],
)
def test_a_first_model_must_hold_floors_and_caps(candidate, promote):
    decision = decide(evaluation(candidate), Gate.parse("roc_auc+0.01,roc_auc>=0.7,ece<=0.2"))
    assert decision.promote is promote
    assert len(decision.checks) == 3
    assert len(decision.reasons) == (3 if promote else 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "promote"),
    [
        (0.85, 0.8, True),
        (0.81, 0.8, True),
        (0.805, 0.8, False),
        (0.8, 0.8, False),
        (0.7, 0.8, False),
        (0.9, None, False),
    ],
)
def test_a_later_model_must_beat_the_champion_by_the_margin(ours, theirs, promote):
    decision = decide(evaluation({"roc_auc": ours}, {"roc_auc": theirs}), Gate.parse("roc_auc+0.01"))
    assert decision.promote is promote


def test_reasons_hold_the_numbers():
    gate = Gate.parse("roc_auc+0.01,balanced_accuracy>=0.75")
    refused = decide(evaluation({"roc_auc": 0.8, "balanced_accuracy": 0.7}, {"roc_auc": 0.9}), gate)
    assert refused.reasons == [
        "balanced_accuracy 0.7000 is below its floor of 0.75",
        "roc_auc 0.8000 against 0.9000 of the champion, version 3: -0.1000, not the margin of 0.01",
    ]
