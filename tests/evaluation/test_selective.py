import numpy as np
import pytest

from components.evaluation import selective
from components.evaluation_result import Band

BAND = Band(0.3, 0.7)


def test_error_falls_where_the_sure_answers_are_the_right_ones():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 0])
    probabilities = np.array(
        [0.01, 0.02, 0.03, 0.99, 0.98, 0.97, 0.9, 0.1, 0.45, 0.55]
    )  # the two unsure ones are wrong
    found = selective.risk_coverage(labels, probabilities, 0.5, BAND)
    assert found.error_full == pytest.approx(0.2)
    assert found.error_at_80 == found.ratio_80 == 0.0
    assert found.coverage[-1] == 1.0


def test_sure_mistakes_make_abstention_worse_than_useless():
    labels, probabilities = np.array([0, 0, 0, 0, 0]), np.array([0.99, 0.4, 0.41, 0.42, 0.43])
    assert selective.risk_coverage(labels, probabilities, 0.5, BAND).ratio_80 > 1


def test_without_mistakes_there_is_no_ratio():
    assert selective.risk_coverage(np.array([0, 1]), np.array([0.2, 0.8]), 0.5, BAND).ratio_80 is None


def test_the_band_takes_answers_away_from_both_sides():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    probabilities = np.array([0.1, 0.2, 0.6, 0.95, 0.05, 0.4, 0.8, 0.9])
    found = selective.with_band(labels, probabilities, BAND)
    assert found.coverage == 0.75
    assert found.error == pytest.approx(2 / 6)
    assert (found.false_positive_rate, found.true_positive_rate) == (0.25, 0.5)
    assert (found.unsure_real, found.unsure_fake) == (0.25, 0.25)
