from functools import partial

import numpy as np
import pytest

from components import calibration
from components.dataset import Dataset
from components.detector import Detector, calibrated, clip_features, clip_probability, logits_of, sigmoid
from components.evaluation.metrics import expected_calibration_error
from components.media import degradations
from components.units import Units, unit_probabilities, units_of


def made_up(labels, kinds, frames=4):
    """Units of which only labels and kinds matter."""
    count = np.where(kinds == "clip", frames, 1)
    same = np.arange(len(labels)).astype(object)
    owner = np.repeat(np.arange(len(labels)), count)
    return Units(np.arange(len(owner)), owner, same, labels, kinds, same, same, np.full(len(labels), 512))


def test_overconfident_logits_are_cooled_to_what_comes_true():
    random = np.random.default_rng(0)
    truth = random.normal(0, 2, 3000)
    labels = (random.random(3000) < sigmoid(truth)).astype(int)
    units = made_up(labels, np.full(3000, "picture", dtype=object))
    logits = (4 * truth + 3).astype("float32")
    found = calibration.fit(units, [logits])
    assert found["picture"]["slope"] == pytest.approx(0.25, rel=0.1)
    assert found["picture"]["intercept"] == pytest.approx(-0.75, abs=0.15)
    before, after = (
        expected_calibration_error(labels, values)
        for values in (sigmoid(logits), calibrated({"calibration": found}, logits))
    )
    assert after < 0.03 < before


def test_a_probability_does_not_depend_on_how_many_of_each_label_were_collected():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], [400, 2000])
    logits = random.normal(2.0 * labels - 1, 1.0).astype("float32")  # the two meet at 0
    found = calibration.fit(made_up(labels, np.full(2400, "picture", dtype=object)), [logits])["picture"]
    assert -found["intercept"] / found["slope"] == pytest.approx(0.0, abs=0.2)  # else it would be 0.8


def test_a_few_clips_change_little_and_many_change_much():
    def weights(clips):
        random = np.random.default_rng(2)
        labels = np.arange(200 + clips) % 2
        kinds = np.array(["picture"] * 200 + ["clip"] * clips, dtype=object)
        units = made_up(labels, kinds)
        logits = random.normal(0, 0.3, len(units.rows)) + 2.0 * labels[units.owner] - 1
        clip = kinds[units.owner] == "clip"
        logits[clip] = random.normal(0, 0.3, clip.sum())  # the mean of a clip says nothing,
        peaks = np.flatnonzero(clip & (labels[units.owner] == 1))[::4]
        logits[peaks] += 4.0  # one frame of every fake clip gives it away
        return calibration.fit(units, [logits.astype("float32")])["clip"]

    few, many = weights(2), weights(300)
    assert abs(few["above"]) < 0.5 < many["above"]
    fake, real = np.array([4.0, -1.3, -1.3, -1.4]), np.array([0.1, -0.1, 0.0, 0.0])
    assert clip_probability({"calibration": {"clip": many}}, fake) > 0.9
    assert clip_probability({"calibration": {"clip": many}}, real) < 0.1


def test_clip_features_are_the_mean_and_how_far_frames_stray_from_it():
    assert clip_features(np.array([1.0, 2.0, 6.0])).tolist() == pytest.approx([3, 3, 2, np.std([1, 2, 6]), 1])
    assert clip_features(np.array([2.5])).tolist() == [2.5, 0, 0, 0, 1]


def test_the_band_keeps_its_promise_on_new_media():
    random = np.random.default_rng(3)
    labels = np.arange(2000) % 2
    probabilities = sigmoid(random.normal(2.0 * labels - 1, 1.5, (3, 2000)))
    band = calibration.abstention(labels[:1000], probabilities[:, :1000], 0.05)
    new_labels, new = labels[1000:], probabilities[:, 1000:]
    assert (new[:, new_labels == 0] >= band["high"]).mean() == pytest.approx(0.05, abs=0.02)
    assert (new[:, new_labels == 1] < band["low"]).mean() == pytest.approx(0.05, abs=0.02)
    assert band["low"] < 0.5 < band["high"]


def test_a_detector_that_errs_less_than_stated_does_not_abstain():
    labels = np.arange(100) % 2
    band = calibration.abstention(labels, np.where(labels, 0.97, 0.02)[None], 0.05)
    assert (band["low"], band["high"]) == (0.5, 0.5)


def test_calibrate_fits_on_validation_rows_alone_and_repeats_itself(make_dataset, detector):
    data = Dataset(make_dataset(splits=("validation", "test")))
    model = Detector(detector).model
    found = calibration.calibrate(model, data, rounds=1)
    assert found == calibration.calibrate(model, data, rounds=1)
    assert set(found) == {"threshold", "calibration", "abstention"}
    assert set(found["calibration"]) == {"picture", "frame", "clip"}
    assert found["calibration"]["picture"]["slope"] > 0


def test_each_unit_is_scored_under_its_own_degradation(dataset, detector):
    data, model = Dataset(dataset), Detector(detector).model
    units = units_of(data, data.rows("test"))
    names = np.full(len(units), "", dtype=object)
    names[5], names[-1] = "noise:8", "jpeg:30"
    clean = calibration.score_under(partial(logits_of, model), data, units, np.full(len(units), "", dtype=object))
    mixed = calibration.score_under(partial(logits_of, model), data, units, names)
    changed = np.flatnonzero(clean != mixed)
    assert set(units.owner[changed]) <= {5, len(units) - 1}
    wanted = degradations.apply("noise:8", data.views(units.rows_of(5))[:, 0])
    assert mixed[units.owner == 5] == pytest.approx(Detector(detector).logits(wanted[:, None]))


def test_units_keep_their_rows_together_and_can_be_chosen(dataset):
    data = Dataset(dataset)
    units = units_of(data, data.rows("test")[::-1].copy())
    assert (np.diff(units.owner) >= 0).all()
    clips = units.only(units.kind == "clip")
    assert len(clips) == 8
    assert {str(path) for path in data.column("path")[clips.rows_of(3)]} == {clips.path[3]}
    half = unit_probabilities({}, clips, np.zeros(len(clips.rows)))
    assert half == pytest.approx(np.full(8, 0.5))
