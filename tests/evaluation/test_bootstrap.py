import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from components.bootstrap import draw_weights, intervals, replicates


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
    alone = intervals(labels, probabilities, 0.5, draw_weights(np.arange(90)))
    tripled = [np.repeat(values, 3) for values in (labels, probabilities)]
    together = intervals(*tripled, 0.5, draw_weights(np.repeat(np.arange(90), 3)))
    apart = intervals(*tripled, 0.5, draw_weights(np.arange(270)))
    width = {
        name: found["roc_auc"].high - found["roc_auc"].low
        for name, found in (("alone", alone), ("together", together), ("apart", apart))
    }
    assert width["together"] == pytest.approx(width["alone"], rel=0.15)
    assert width["apart"] < 0.75 * width["alone"]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        scores = random.normal(size=120) + labels  # AUC = Phi(1 / sqrt 2) = 0.760
        interval = intervals(labels, scores, 0.5, draw_weights(np.arange(120), 300, seed))["roc_auc"]
        covered += interval.low <= 0.7602 <= interval.high
    assert 50 <= covered <= 60


def test_one_label_leaves_the_ranking_undefined():
    found = intervals(np.ones(5, int), np.linspace(0, 1, 5), 0.5, draw_weights(np.arange(5), 20))
    assert found["roc_auc"] is found["average_precision"] is found["balanced_accuracy"] is None
    assert found["accuracy_fake"] is not None
