from dataclasses import replace

import pytest
from judged import evaluation as judged

from components.evaluation.limits import limits
from components.evaluation_result import Interval, LeftOutSource, Measures, SliceResult

GOOD = Measures(200, 100, 100, roc_auc=0.99, balanced_accuracy=0.97, ece=0.01)
HELD = {"balanced_accuracy": Interval(0.93, 0.99)}


@pytest.fixture
def faultless():
    """An evaluation without a fault."""
    parts = (("all", "all"), ("kind:clip", "kind"), ("source:flux", "source"), ("jpeg:30", "degradation"))
    plain = judged("detector", 2.0)
    selective = plain.candidate.selective
    banded = replace(selective.clean.banded, false_positive_rate=0.0)
    result = replace(
        plain.candidate,
        overall=GOOD,
        by_kind={"clip": GOOD},
        by_source={"flux": GOOD, "ffhq": replace(GOOD, n_fake=0)},
        slices=[SliceResult(name, by, True, GOOD, HELD, ece_by_chance=0.04) for name, by in parts],
        selective=replace(selective, clean=replace(selective.clean, banded=banded)),
        cross_source=[LeftOutSource("flux", "fake", 100, GOOD, replace(GOOD, roc_auc=0.95))],
    )
    tests = [
        {"name": "metadata", "auc": 0.55, "counts": True},
        {"name": "thumbnail", "auc": 0.9, "counts": True},  # as delivered, before the view
        {"name": "thumbnail", "auc": 0.6, "counts": True},
        {"name": "traces", "auc": None, "counts": True},
    ]
    return replace(plain, candidate=result, audit={"tests": tests})


def with_result(evaluation, **changes):
    return replace(evaluation, candidate=replace(evaluation.candidate, **changes))


def with_slice(evaluation, name, low=0.93, enough=True, **measures):
    held = {"balanced_accuracy": Interval(low, 0.99)}
    slices = [
        replace(part, measures=replace(part.measures, **measures), intervals=held, enough=enough)
        if part.name == name
        else part
        for part in evaluation.candidate.slices
    ]
    return with_result(evaluation, slices=slices)


def with_false_positives(evaluation, rate):
    selective = evaluation.candidate.selective
    banded = replace(selective.clean.banded, false_positive_rate=rate)
    return with_result(evaluation, selective=replace(selective, clean=replace(selective.clean, banded=banded)))


def with_left_out(evaluation, auc):
    left_out = evaluation.candidate.cross_source[0]
    return with_result(evaluation, cross_source=[replace(left_out, unseen=replace(GOOD, roc_auc=auc))])


def with_test(evaluation, number, **changes):
    tests = [dict(test) for test in evaluation.audit["tests"]]
    tests[number] |= changes
    return replace(evaluation, audit={"tests": tests})


def test_a_detector_without_a_fault_has_no_sentence_against_it(faultless):
    assert limits(faultless) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: replace(e, note="made by code"), "Not for anything outside this exercise"),
        (lambda e: with_result(e, overall=replace(GOOD, balanced_accuracy=0.71)), "balanced accuracy is 71 %"),
        (lambda e: with_slice(e, "jpeg:30", balanced_accuracy=0.62), "JPEG at quality 30 (62 %)"),
        (lambda e: with_slice(e, "jpeg:30", 0.5, balanced_accuracy=0.62), "quality 30 (62 %, the worst slice)"),
        (lambda e: with_slice(e, "source:flux", balanced_accuracy=0.62), "in brackets): flux (62 %"),
        (lambda e: with_slice(e, "jpeg:30", ece=0.2), "miscalibrated under: JPEG at quality 30 (ECE 0.20)"),
        (lambda e: with_left_out(e, 0.6), "falls from 0.99 to 0.60"),
        (lambda e: with_result(e, cross_source=None), "generators other than flux: it was not measured"),
        (lambda e: with_result(e, by_kind={}), "Not for videos: the test split holds none"),
        (lambda e: with_result(e, by_kind={"clip": replace(GOOD, n_real=3)}), "only 3 real and 100 fake clips"),
        (lambda e: with_false_positives(e, 0.04), "it calls 4 % of real files fake"),
        (lambda e: with_test(e, 0, auc=1.0), "the files' metadata alone reach a ROC AUC of 1.00"),
        (lambda e: with_test(e, 2, auc=0.98), "8 × 8 thumbnail alone reach a ROC AUC of 0.98"),
    ],
)
def test_each_fault_brings_one_sentence(faultless, change, sentence):
    sentences = limits(change(faultless))
    assert len(sentences) == 1
    assert sentence in sentences[0]


def test_a_slice_of_too_few_units_accuses_nobody(faultless):
    assert limits(with_slice(faultless, "jpeg:30", 0.1, enough=False, balanced_accuracy=0.3)) == []


def test_metadata_that_cannot_reach_the_pixels_accuse_nobody(faultless):
    assert limits(with_test(faultless, 0, auc=1.0, counts=False)) == []
