import numpy as np
import pytest

from components.evaluation import metrics


def test_a_perfect_detector():
    values = metrics.measure(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))
    assert values.roc_auc == values.average_precision == values.balanced_accuracy == 1.0
    assert values.eer == 0.0
    assert values.confusion == [[2, 0], [0, 2]]
    assert values.ece == pytest.approx(0.15)


def test_the_threshold_decides_and_the_classes_count_alike():
    labels, probabilities = np.array([0, 0, 0, 1]), np.array([0.2, 0.4, 0.65, 0.6])
    assert metrics.measure(labels, probabilities, 0.5).confusion == [[2, 1], [0, 1]]
    strict = metrics.measure(labels, probabilities, 0.7)
    assert strict.accuracy == 0.75
    assert strict.balanced_accuracy == 0.5
    assert (strict.accuracy_real, strict.accuracy_fake) == (1.0, 0.0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_leaves_the_ranking_undefined(label):
    values = metrics.measure(np.full(3, label), np.array([0.1, 0.6, 0.9]))
    assert values.roc_auc is values.average_precision is values.eer is values.balanced_accuracy is None
    assert values.accuracy == pytest.approx((1 / 3, 2 / 3)[label])
    assert metrics.roc_points(np.full(3, label), np.array([0.1, 0.6, 0.9])) == ([], [], [])


def test_ece_is_zero_where_probabilities_match_frequencies():
    labels = np.repeat([0, 1, 0, 1], [8, 2, 2, 8])
    assert metrics.expected_calibration_error(labels, np.repeat([0.2, 0.8], 10)) == pytest.approx(0.0)
    assert metrics.expected_calibration_error(labels, np.repeat([0.1, 0.9], 10)) == pytest.approx(0.1)


def test_ece_does_not_depend_on_how_many_of_each_label_were_collected():
    labels, probabilities = np.repeat([0, 1, 0, 1], [8, 2, 2, 8]), np.repeat([0.3, 0.9], 10)
    more = np.concatenate([np.flatnonzero(labels == 0), np.repeat(np.flatnonzero(labels == 1), 4)])
    once = metrics.expected_calibration_error(labels, probabilities)
    assert metrics.expected_calibration_error(labels[more], probabilities[more]) == pytest.approx(once)


def test_ece_of_a_perfect_calibration_is_small_on_few_units():
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        probabilities = 1 / (1 + np.exp(-random.normal(0, 5, 150)))
        found.append(
            metrics.expected_calibration_error((random.random(150) < probabilities).astype(int), probabilities)
        )
    assert np.mean(found) < 0.05


@pytest.mark.parametrize(("stretch", "beyond"), [(1.0, False), (4.0, True)])
def test_chance_explains_the_ece_of_perfect_probabilities_and_not_of_boasting_ones(stretch, beyond):
    random = np.random.default_rng(3)
    logits = random.normal(0, 1.5, 400)
    labels = (random.random(400) < 1 / (1 + np.exp(-logits))).astype(int)
    said = 1 / (1 + np.exp(-stretch * logits))
    found, chance = metrics.expected_calibration_error(labels, said), metrics.calibration_by_chance(labels, said)
    assert (found > chance) == beyond
    assert metrics.calibration_by_chance(labels[labels == 1], said[labels == 1]) is None


def test_reliability_counts_both_labels_alike():
    units, said, came = metrics.reliability(np.array([0, 0, 0, 1]), np.array([0.05, 0.55, 0.55, 0.55]))
    assert units.tolist() == [1, 0, 0, 0, 0, 3, 0, 0, 0, 0]
    assert said[5] == pytest.approx(0.55)
    assert came[5] == pytest.approx(1 / (1 + 2 / 3))
    assert np.isnan(came[1])


def test_equal_error_rate_lies_where_the_two_errors_meet():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20_000)
    scores = random.normal(size=40_000) + 2.0 * labels
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(0.1587, abs=0.005)  # the normal's tail beyond 1


def test_roc_points_are_few_finite_plain_floats_and_end_in_both_corners():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 5000)
    false_fake, true_fake, thresholds = metrics.roc_points(
        labels, np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    )
    assert len(false_fake) == len(true_fake) == len(thresholds) <= 200
    assert (false_fake[0], true_fake[0]) == (0.0, 0.0)
    assert (false_fake[-1], true_fake[-1]) == (1.0, 1.0)
    assert all(type(value) is float and np.isfinite(value) for value in false_fake + true_fake + thresholds)
    assert thresholds == sorted(thresholds, reverse=True)
