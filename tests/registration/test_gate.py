"""The gate is a pure function: evaluations in, decisions with reasons out."""

from dataclasses import replace

import numpy as np
import pytest
from judged import judged

from components.errors import InputError
from components.evaluation_result import Scores
from components.registration.gate import EXAMPLE, Gate, decide

GATE = Gate.parse("roc_auc+0.002,roc_auc>=0.7,false_positive_rate<=0.4,ece<=0.1")


def challenger(shift=2.0, **changes):
    return judged("challenger", shift, **changes)


def champion(shift=1.5, **changes):
    return judged("champion", shift, version="3", **changes)


def with_scores(side, **changes):
    return replace(side, result=replace(side.result, scores=replace(side.result.scores, **changes)))


def with_degraded(side, **conditions):
    named = {name.replace("_", ":"): values for name, values in conditions.items()}
    return with_scores(side, degraded={**side.result.scores.degraded, **named})


def failed(decision):
    return [check.name for check in decision.checks if not check.passed]


@pytest.mark.parametrize("text", [EXAMPLE, "balanced_accuracy+0", "accuracy+0.5,eer<=0.1", "roc_auc+.01, ece<=.9"])
def test_a_gate_reads_what_it_writes(text):
    assert Gate.parse(str(Gate.parse(text))) == Gate.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "roc_auc",
        "roc_auc>=0.7",
        "roc_auc+0.1,ece",
        "roc_auc+1,ece=1",
        "f1+0.1",
        "ece+0.1",
        "roc_auc-1",
        "roc_auc+1,",
    ],
)
def test_a_gate_that_is_not_understood_is_one_line(text):
    with pytest.raises(InputError, match="METRIC\\+MARGIN") as caught:
        Gate.parse(text)
    assert "\n" not in str(caught.value)


def test_a_first_model_that_holds_everything_is_promoted():
    decision = decide(challenger(), None, GATE)
    assert decision.promote
    assert [check.name for check in decision.checks] == [
        "champion",
        "roc_auc>=0.7",
        "false_positive_rate<=0.4",
        "ece<=0.1",
        "certificate",
        "audit",
    ]
    assert decision.reasons == [check.text for check in decision.checks]


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"overall": {"roc_auc": 0.69, "accuracy_real": 0.9, "ece": 0.05}}, ["roc_auc>=0.7"]),
        ({"overall": {"roc_auc": None, "accuracy_real": 0.9, "ece": 0.05}}, ["roc_auc>=0.7"]),
        ({"overall": {"roc_auc": 0.9, "accuracy_real": 0.59, "ece": 0.05}}, ["false_positive_rate<=0.4"]),
        ({"overall": {"roc_auc": 0.9, "accuracy_real": 0.61, "ece": 0.11}}, ["ece<=0.1"]),
        ({"overall": {"roc_auc": 0.9}}, ["false_positive_rate<=0.4", "ece<=0.1"]),
        ({"shared": {"certificate": {"holds": False, "text": "12 groups leak"}}}, ["certificate"]),
        ({"shared": {"certificate": None}}, ["certificate"]),
        ({"shared": {"audit": None}}, ["audit"]),
        ({"shared": {"audit": {"verdict": "fail", "text": "metadata alone reach 0.99"}}}, ["audit"]),
    ],
)
@pytest.mark.parametrize("against", [None, champion()], ids=["first", "later"])
def test_each_condition_refuses_on_its_own(changes, failing, against):
    decision = decide(challenger(**changes), against, GATE)
    assert failed(decision) == failing
    assert len(decision.reasons) == len(failing)


def test_a_confound_audit_that_only_warns_does_not_refuse():
    assert decide(challenger(shared={"audit": {"verdict": "warn", "text": "formats differ"}}), None, GATE).promote


def test_a_clearly_better_challenger_is_promoted():
    decision = decide(challenger(2.5), champion(1.0), GATE)
    assert decision.promote
    assert "the mean ROC AUC over clean and 1 degraded" in decision.checks[0].text
    assert "champion, version 3" in decision.checks[0].text


def test_a_worse_challenger_is_refused():
    assert failed(decide(challenger(1.0), champion(2.5), GATE)) == ["mean", "worst slice"]


def test_the_margin_counts():
    gain = decide(challenger(1.6), champion(1.5), Gate.parse("roc_auc+0"))
    assert gain.promote
    assert failed(decide(challenger(1.6), champion(1.5), Gate.parse("roc_auc+0.05"))) == ["mean"]


def test_a_gain_that_may_be_chance_is_refused():
    # Other noise: the difference varies from draw to draw, though it is above the margin.
    decision = decide(challenger(1.7, seed=1), champion(1.4), GATE)
    mean = next(check for check in decision.checks if check.name == "mean")
    assert not mean.passed
    assert "it may be chance" in mean.text


def test_better_on_average_and_worse_on_its_worst_slice_is_refused():
    ours = challenger(4.0, degraded={"jpeg:30": 0.9, "blur:2": 4.0})
    theirs = champion(1.5, degraded={"jpeg:30": 1.4, "blur:2": 1.4})
    decision = decide(ours, theirs, GATE)
    assert failed(decision) == ["worst slice"]
    assert decision.reasons[0].startswith("on its worst slice, JPEG at quality 30, the lower end")


def test_a_test_that_is_too_small_to_bound_any_slice_promotes_nothing():
    few = [replace(part, enough=False) for part in challenger(2.5).result.slices]
    assert failed(decide(challenger(2.5, slices=few), champion(1.0), GATE)) == ["worst slice"]


def test_the_champion_itself_is_refused():
    decision = decide(challenger(), replace(challenger(), version="7"), GATE)
    assert decision.reasons == ["it is the champion itself, version 7"]


@pytest.mark.parametrize(
    "other", [champion(1.0, shared={"rows_digest": "x" * 64}), with_scores(champion(1.0), unit=["u"] * 240)]
)
def test_evaluations_on_other_rows_are_refused(other):
    assert failed(decide(challenger(3.0), other, GATE)) == ["rows"]


def test_the_order_of_the_rows_does_not_matter():
    shuffled = champion()
    order = np.random.default_rng(0).permutation(240)
    scores = shuffled.result.scores
    lists = {key: [value[i] for i in order] for key, value in vars(scores).items() if key != "degraded"}
    degraded = {key: [value[i] for i in order] for key, value in scores.degraded.items()}
    shuffled = replace(shuffled, result=replace(shuffled.result, scores=Scores(**lists, degraded=degraded)))
    assert decide(challenger(), shuffled, GATE) == decide(challenger(), champion(), GATE)


def test_units_that_a_condition_does_not_meet_are_left_out_of_it():
    ours, theirs = (
        with_degraded(side, h264_28=[0.5, 0.6, *side.result.scores.probability[2:100], *[None] * 140])
        for side in (challenger(2.5), champion(1.0))
    )
    assert decide(ours, theirs, GATE).promote


def test_conditions_of_one_label_or_of_few_units_do_not_stop_the_comparison():
    def small(side):
        scores = side.result.scores
        fakes = [p if label else None for p, label in zip(scores.probability, scores.label, strict=True)]
        return with_degraded(side, h264_23=fakes, h264_28=[*scores.probability[:4], *[None] * 236])

    decision = decide(small(challenger(2.5)), small(champion(1.0)), GATE)
    assert decision.promote
    assert "over clean and 2 degraded conditions" in decision.reasons[0]


def test_where_the_metric_is_undefined_the_champion_is_not_beaten():
    ours, theirs = (with_scores(side, label=[0] * 240) for side in (challenger(), champion()))
    assert "mean" in failed(decide(ours, theirs, GATE))


def test_a_decision_is_the_same_every_time():
    assert decide(challenger(), champion(), GATE) == decide(challenger(), champion(), GATE)
