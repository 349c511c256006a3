import itertools

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from components.bootstrap import draw_weights, effective_count, exact_interval, intervals, replicates


@pytest.fixture
def answers():
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 90)
    probabilities = np.round(np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1), 1)  # many ties
    return labels, probabilities, np.repeat(np.arange(30), 3)


def test_every_draw_is_what_scikit_learn_gets_with_its_weights(answers):
    labels, probabilities, groups = answers
    weights = draw_weights(groups, draws=25)
    found = replicates(labels, probabilities, 0.5, weights)
    for draw, weight in enumerate(weights):
        auc = roc_auc_score(labels, probabilities, sample_weight=weight)
        precision = average_precision_score(labels, probabilities, sample_weight=weight)
        balanced = balanced_accuracy_score(labels, probabilities >= 0.5, sample_weight=weight)
        assert found["roc_auc"][draw] == pytest.approx(auc, abs=1e-5)
        assert found["average_precision"][draw] == pytest.approx(precision, abs=1e-5)
        assert found["balanced_accuracy"][draw] == pytest.approx(balanced, abs=1e-5)


def test_a_group_is_drawn_whole_and_as_many_groups_as_there_are(answers):
    groups = answers[2]
    weights = draw_weights(groups, draws=50)
    assert (weights[:, 0::3] == weights[:, 1::3]).all()
    assert (weights.sum(axis=1) == 90).all()
    assert np.array_equal(weights, draw_weights(groups, draws=50))
    assert not np.array_equal(weights, draw_weights(groups, draws=50, seed=1))


def test_frames_of_one_group_do_not_narrow_the_interval(answers):
    labels, probabilities, _ = answers
    tripled = [np.repeat(values, 3) for values in (labels, probabilities)]

    def interval_of(values, groups):
        return intervals(*values, groups, 0.5, draw_weights(groups))["roc_auc"]

    alone = interval_of((labels, probabilities), np.arange(90))
    together = interval_of(tripled, np.repeat(np.arange(90), 3))
    apart = interval_of(tripled, np.arange(270))
    width = {
        name: interval.high - interval.low
        for name, interval in (("alone", alone), ("together", together), ("apart", apart))
    }
    assert width["together"] == pytest.approx(width["alone"], rel=0.15)
    assert width["apart"] < 0.75 * width["alone"]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        scores = random.normal(size=120) + labels  # AUC = Phi(1 / sqrt 2) = 0.760
        interval = intervals(labels, scores, np.arange(120), 0.5, draw_weights(np.arange(120), 300, seed))["roc_auc"]
        covered += interval.low <= 0.7602 <= interval.high
    assert 50 <= covered <= 60


def test_one_label_leaves_the_ranking_undefined():
    found = intervals(np.ones(5, int), np.linspace(0, 1, 5), np.arange(5), 0.5, draw_weights(np.arange(5), 20))
    assert found["roc_auc"] is found["average_precision"] is found["balanced_accuracy"] is None
    assert found["accuracy_fake"] is not None


@pytest.mark.parametrize("count", [1, 100])
def test_where_every_answer_is_right_the_interval_is_exact_and_not_a_point(count):
    labels = np.repeat([0, 1], count)
    groups = np.arange(2 * count)
    found = intervals(labels, labels.astype(float), groups, 0.5, draw_weights(groups, 20))
    lowest = 0.025 ** (1 / count)
    for name in ("accuracy_real", "accuracy_fake", "balanced_accuracy", "roc_auc"):
        assert found[name].low == pytest.approx(lowest)
        assert found[name].high == 1.0
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / (2 * count)))
    assert found["average_precision"] is None
    none_right = intervals(labels, 1.0 - labels, groups, 0.5, draw_weights(groups, 20))["balanced_accuracy"]
    assert (none_right.low, none_right.high) == (0.0, pytest.approx(1 - lowest))


def test_units_that_share_a_group_are_one_trial():
    labels, groups = np.repeat([0, 1], 6), np.repeat(np.arange(4), 3)
    found = intervals(labels, labels.astype(float), groups, 0.5, draw_weights(groups, 20))
    assert found["accuracy_real"].low == pytest.approx(0.025 ** (1 / 2))
    assert effective_count(np.array([0] * 50 + list(range(1, 51)))) == pytest.approx(100**2 / (50**2 + 50))


def test_a_better_detector_never_has_a_lower_interval():
    ends = [exact_interval(right / 100, 100) for right in range(101)]
    assert all(ours.low < better.low and ours.high <= better.high for ours, better in itertools.pairwise(ends))


@pytest.mark.parametrize(("reals", "fakes"), [(1, 1), (2, 5), (10, 10), (20, 20)])
def test_the_interval_of_balanced_accuracy_covers_at_least_as_often_as_it_says(reals, fakes):
    # Every outcome's probability is known, so that the coverage is computed and not drawn.
    ends = [[exact_interval(right / n, n) for right in range(n + 1)] for n in (reals, fakes)]
    low, high = (
        np.add.outer(*([getattr(interval, end) for interval in intervals_] for intervals_ in ends)) / 2
        for end in ("low", "high")
    )
    rates = np.linspace(0.02, 0.98, 25)
    outcomes = [binom.pmf(np.arange(n + 1)[:, None], n, rates) for n in (reals, fakes)]
    for real, fake in itertools.product(range(len(rates)), repeat=2):
        truth = (rates[real] + rates[fake]) / 2
        covered = np.outer(outcomes[0][:, real], outcomes[1][:, fake])[(low <= truth) & (truth <= high)].sum()
        assert covered >= 0.97
