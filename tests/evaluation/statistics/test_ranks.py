from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.resampled import critical_difference, friedman_test, rank_models

# AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets: table 6 of Demsar (2006). The third last row's last two
# values are printed alike, 0.975, but ranked 2 and 3.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def test_mean_ranks_and_critical_difference_are_those_of_demsars_example():
    test = friedman_test(DEMSAR, NAMES)
    assert test.mean_ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert test.critical_difference == pytest.approx(1.25, abs=5e-3)
    # Demsar's chi-square has no correction for ties: with it the statistic is a little larger.
    k, n = 4, 14
    plain = 12 * n / (k * (k + 1)) * (np.sum(np.square(test.mean_ranks)) - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=5e-3)
    ties = sum(np.sum(c**3 - c) for c in (np.unique(row, return_counts=True)[1] for row in DEMSAR))
    assert test.statistic == pytest.approx(plain / (1 - ties / (n * k * (k**2 - 1))))
    assert test.iman_davenport_statistic == pytest.approx((n - 1) * test.statistic / (n * (k - 1) - test.statistic))


@pytest.mark.parametrize(
    ("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (10, 3.164)]
)
def test_critical_values_are_those_of_demsars_table_5(k, q):
    assert critical_difference(k, 10) / np.sqrt(k * (k + 1) / 60) == pytest.approx(q, abs=1.1e-3)


def test_groups_join_exactly_the_models_within_the_critical_difference():
    scores = np.random.default_rng(2).normal(size=(30, 6)) + np.array([0, 0.4, 0.8, 1.2, 3.0, 3.2])
    test = friedman_test(scores, list("abcdef"))
    rank = dict(zip(test.names, test.mean_ranks, strict=True))
    joined = {frozenset(pair) for group in test.groups for pair in ((x, y) for x in group for y in group if x != y)}
    expected = {
        frozenset((x, y)) for x in rank for y in rank if x != y and abs(rank[x] - rank[y]) < test.critical_difference
    }
    assert joined == expected
    assert len(test.groups) >= 2
    assert {"e", "f"} <= set(test.groups[0])  # best first


def test_the_best_model_has_rank_one_whichever_way_the_score_runs():
    scores = np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])
    assert rank_models(scores).tolist() == [[1, 2, 3], [1, 2, 3]]
    assert rank_models(scores, higher_is_better=False).tolist() == [[3, 2, 1], [3, 2, 1]]
    flipped = friedman_test(-scores, higher_is_better=False)
    assert flipped.mean_ranks == friedman_test(scores).mean_ranks


def test_agreement_is_one_for_a_constant_order_and_zero_for_ties():
    constant = friedman_test(np.tile([3.0, 2.0, 1.0], (6, 1)))
    assert constant.kendall_w == pytest.approx(1.0)
    assert constant.iman_davenport_p_value == pytest.approx(1 / 6**5)  # the chance that six blocks rank alike
    tied = friedman_test(np.ones((6, 3)))
    assert (tied.statistic, tied.p_value, tied.mean_ranks) == (0.0, 1.0, (2.0, 2.0, 2.0))


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(DataError, match="2 or more rows"):
        friedman_test(np.ones((5, 2)))
    with pytest.raises(DataError, match="finite"):
        friedman_test([[1, 2, np.nan], [1, 2, 3]])
    with pytest.raises(DataError, match="3 different names"):
        friedman_test(np.eye(3), ["a", "a", "b"])
