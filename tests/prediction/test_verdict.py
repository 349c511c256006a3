"""The rule that makes a verdict: the band, the delivery test, familiarity."""

import pytest

from components.prediction.verdict import Moment, Segment, decide, segments_of

BAND = {"low": 0.2, "high": 0.8, "false_positive_rate": 0.05, "false_negative_rate": 0.1}
CARD = {"threshold": 0.5, "abstention": BAND}
UNFAMILIAR = {"score": 0.001, "threshold": 0.05, "familiar": False, "nearest": "camera"}


@pytest.mark.parametrize(("probability", "verdict"), [(0.0, "real"), (0.19, "real"), (0.8, "fake"), (1.0, "fake")])
def test_outside_the_band_the_probability_decides(probability, verdict):
    assert decide(CARD, probability, {}, None) == (verdict, "", [])


def test_inside_the_band_it_is_unsure_and_says_what_would_be_answered():
    verdict, reason, _ = decide(CARD, 0.57, {}, None)
    assert verdict == "unsure"
    assert (
        reason == 'probability of fake 0.57; "fake" is only answered from 0.80 on (5% false alarms on degraded media)'
    )
    assert '"real" is only answered below 0.20 (10% miss rate' in decide(CARD, 0.3, {}, None)[1]


def test_an_answer_that_a_delivery_flips_is_unsure():
    verdict, reason, after = decide(CARD, 0.95, {"jpeg:75": 0.7, "cut:0.8": 0.3}, None)
    assert verdict == "unsure"
    assert reason.startswith("no longer fake after cut to the middle 0.8 of each side: the answer depends on")
    assert [(one.name, one.verdict) for one in after] == [("jpeg:75", "fake"), ("cut:0.8", "real")]


def test_what_is_unlike_the_training_media_is_unsure_whatever_the_probability():
    verdict, reason, _ = decide(CARD, 1.0, {"jpeg:75": 1.0}, UNFAMILIAR)
    assert verdict == "unsure"
    assert reason.startswith("unlike the media that the detector was trained on")
    assert decide(CARD, 1.0, {}, UNFAMILIAR | {"familiar": True})[0] == "fake"


def test_a_probability_that_is_no_number_is_never_a_verdict():
    assert decide(CARD, float("nan"), {}, None)[:2] == ("unsure", "the detector's answer is not a number")


def test_suspicious_segments_reach_half_way_to_their_neighbours():
    timeline = [Moment(time, value) for time, value in enumerate((0.1, 0.9, 0.95, 0.2, 0.1, 0.85))]
    assert segments_of(timeline, 0.8) == [Segment(0.5, 2.5, 0.95), Segment(4.5, 5, 0.85)]
