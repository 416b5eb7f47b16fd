from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.proper_scores import (
    brier_decomposition,
    brier_score,
    item_brier,
    item_nll,
    negative_log_likelihood,
)


def draw(seed=0, n=500, k=4, sharpness=0.5):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, sharpness), size=n)
    return (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1), p


def test_both_scores_equal_scikit_learn():
    y, p = draw()
    assert negative_log_likelihood(y, p) == pytest.approx(log_loss(y, p, labels=range(4)))
    assert brier_score(y, p) == pytest.approx(brier_score_loss(y, p, labels=range(4), scale_by_half=False))
    assert item_nll(y, p).mean() == pytest.approx(negative_log_likelihood(y, p))
    assert item_brier(y, p).shape == (500,)


def test_a_certain_error_costs_much_but_not_infinitely():
    assert item_nll([1], [[1.0, 0.0]])[0] == pytest.approx(-np.log(np.finfo(float).eps))
    assert item_brier([1, 0], [[1.0, 0.0], [1.0, 0.0]]).tolist() == [2.0, 0.0]


def test_murphys_three_terms_add_up_when_forecasts_repeat():
    # With each forecast value alone in its bin the binning term is nothing: Murphy's (1973) own case.
    rng = np.random.default_rng(1)
    first = rng.choice([0.15, 0.35, 0.55, 0.85], size=4000)
    y = (rng.random(4000) > 0.2 + 0.6 * first).astype(int)
    parts = brier_decomposition(y, np.stack([first, 1 - first], axis=1), n_bins=10)
    assert parts.binning == pytest.approx(0, abs=1e-12)
    by_hand = resolution = 0.0
    for value in np.unique(first):
        rows = first == value
        frequency = np.mean(y[rows] == 0)
        by_hand += 2 * rows.mean() * (value - frequency) ** 2  # both classes alike
        resolution += 2 * rows.mean() * (frequency - np.mean(y == 0)) ** 2
    assert parts.reliability == pytest.approx(by_hand)
    assert parts.resolution == pytest.approx(resolution)
    assert parts.uncertainty == pytest.approx(2 * np.mean(y) * (1 - np.mean(y)))
    assert parts.brier == pytest.approx(parts.reliability - parts.resolution + parts.uncertainty)


def test_the_binning_term_is_variance_minus_twice_covariance_within_bins():
    y, p = draw(2, k=3)
    parts = brier_decomposition(y, p, n_bins=5)
    expected = 0.0
    for k in range(3):
        outcome, bins = (y == k).astype(float), np.ceil(p[:, k] * 5)
        for b in np.unique(bins):
            rows = bins == b
            f, o = p[rows, k] - p[rows, k].mean(), outcome[rows] - outcome[rows].mean()
            expected += (np.sum(f**2) - 2 * np.sum(f * o)) / len(y)
    assert parts.binning == pytest.approx(expected, abs=1e-12)
    assert abs(brier_decomposition(y, p, n_bins=200).binning) < abs(parts.binning)


def test_forecasting_the_frequencies_has_no_resolution_and_no_error():
    y = np.array([0] * 50 + [1] * 30 + [2] * 20)
    parts = brier_decomposition(y, np.tile([0.5, 0.3, 0.2], (100, 1)))
    assert (parts.reliability, parts.resolution) == pytest.approx((0, 0), abs=1e-12)
    assert parts.brier == pytest.approx(parts.uncertainty)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "1 rows, but there are 2 labels"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "class index 2, but probabilities has 2 columns"),
        ([0], [[2.0, -1.0]], "must lie between 0 and 1"),
        ([0], [[0.5, 0.2]], "sum to 1"),
        ([0], [[np.nan, 1.0]], "not finite"),
        ([0], [0.5], "must have shape"),
    ],
)
def test_what_are_no_probabilities_is_refused(labels, probabilities, message):
    with pytest.raises(DataError, match=message):
        negative_log_likelihood(labels, probabilities)
