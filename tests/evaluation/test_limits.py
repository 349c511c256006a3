import copy

import pytest

from components.evaluation.limits import limits, words

GOOD = {"n": 200, "n_real": 100, "n_fake": 100, "balanced_accuracy": 0.97, "ece": 0.01, "ece_by_chance": 0.04}


@pytest.fixture
def evaluation():
    slices = [
        {"slice": name, "by": by, "enough": True, **GOOD}
        for name, by in (("all", "all"), ("kind:clip", "kind"), ("source:flux", "source"), ("jpeg:30", "degradation"))
    ]
    result = {
        "overall": dict(GOOD),
        "by_kind": {"clip": dict(GOOD)},
        "by_source": {"flux": dict(GOOD), "ffhq": {**GOOD, "n_fake": 0}},
        "slices": slices,
        "selective": {"clean": {"banded": {"false_positive_rate": 0.0}}},
        "cross_source": [{"source": "flux", "label": "fake", "seen": {"roc_auc": 0.99}, "unseen": {"roc_auc": 0.95}}],
    }
    tests = [
        {"name": "metadata", "auc": 0.55, "counts": True},
        {"name": "thumbnail", "auc": 0.9, "counts": True},  # as delivered, before the view
        {"name": "thumbnail", "auc": 0.6, "counts": True},
        {"name": "traces", "auc": None, "counts": True},
    ]
    return {"note": "", "audit": {"tests": tests}, "candidate": result}


def test_a_detector_without_a_fault_has_no_sentence_against_it(evaluation):
    assert limits(evaluation) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: e.update(note="made by code"), "Not for anything outside this exercise"),
        (lambda e: e["candidate"]["overall"].update(balanced_accuracy=0.71), "right 71 times in 100"),
        (lambda e: e["candidate"]["slices"][3].update(balanced_accuracy=0.62), "JPEG at quality 30 (62)"),
        (
            lambda e: e["candidate"]["slices"][2].update(balanced_accuracy=0.62),
            "both labels alike): flux (62)",
        ),
        (
            lambda e: e["candidate"]["slices"][3].update(ece=0.2),
            "differ: JPEG at quality 30 (0.20)",
        ),
        (
            lambda e: e["candidate"]["cross_source"][0]["unseen"].update(roc_auc=0.6),
            "the ROC AUC on it falls to 0.60",
        ),
        (lambda e: e["candidate"].update(cross_source=None), "generators other than flux: nothing here says"),
        (lambda e: e["candidate"]["by_kind"].clear(), "Not for videos: none"),
        (lambda e: e["candidate"]["by_kind"]["clip"].update(n_real=3), "only 3 real and 100 fake clips"),
        (lambda e: e["candidate"]["selective"]["clean"]["banded"].update(false_positive_rate=0.04), "it calls 4 fake"),
        (lambda e: e["audit"]["tests"][0].update(auc=1.0), "the files' metadata alone reach a ROC AUC of 1.00"),
        (
            lambda e: e["audit"]["tests"][2].update(auc=0.98),
            "an 8 x 8 thumbnail's pixels alone reach a ROC AUC of 0.98",
        ),
    ],
)
def test_each_fault_brings_one_sentence(evaluation, change, sentence):
    change(evaluation)
    found = limits(evaluation)
    assert len(found) == 1
    assert sentence in found[0]


def test_a_slice_of_too_few_units_accuses_nobody(evaluation):
    before = copy.deepcopy(limits(evaluation))
    evaluation["candidate"]["slices"][3].update(balanced_accuracy=0.3, enough=False)
    assert limits(evaluation) == before


def test_metadata_that_cannot_reach_the_pixels_accuse_nobody(evaluation):
    evaluation["audit"]["tests"][0].update(auc=1.0, counts=False)
    assert limits(evaluation) == []


def test_slices_have_names_for_people():
    assert words("jpeg:50") == "JPEG at quality 50"
    assert words("kind:clip") == "clips"
    assert words("source:my:camera") == "source my:camera"
