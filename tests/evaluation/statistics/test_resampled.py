from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.resampled import correct_t_statistic, corrected_t_test

A = np.array([0.924, 0.931, 0.918, 0.927, 0.929, 0.921, 0.925, 0.933, 0.917, 0.926])
B = np.array([0.919, 0.929, 0.917, 0.920, 0.930, 0.917, 0.921, 0.928, 0.915, 0.924])


def test_it_is_the_formula_of_nadeau_and_bengio_by_hand():
    d = A - B
    by_hand = d.mean() / np.sqrt((1 / 10 + (1 / 10) / (9 / 10)) * np.sum((d - d.mean()) ** 2) / 9)
    ours = corrected_t_test(A, B)
    assert ours.statistic == pytest.approx(by_hand)
    assert ours.p_value == pytest.approx(2 * stats.t(9).sf(by_hand))
    assert ours.degrees_of_freedom == 9


def test_a_vanishing_test_share_gives_the_plain_t_test_and_its_interval():
    ours, theirs = corrected_t_test(A, B, test_train_ratio=1e-12, level=0.9), stats.ttest_rel(A, B)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval(0.9)), rel=1e-6)


def test_correcting_a_published_t_gives_the_same_as_correcting_the_folds():
    ours, naive = corrected_t_test(A, B), stats.ttest_rel(A, B).statistic
    assert correct_t_statistic(naive, 10, 1 / 9) == pytest.approx((ours.statistic, ours.p_value))


def test_repeated_cross_validation_needs_its_own_ratio():
    many_a, many_b = np.tile(A, 5), np.tile(B, 5)
    right, wrong = corrected_t_test(many_a, many_b, test_train_ratio=1 / 9), corrected_t_test(many_a, many_b)
    assert right.p_value > wrong.p_value
    assert right.degrees_of_freedom == 49


def test_the_interval_excludes_zero_exactly_when_p_is_below_its_level():
    for shift in np.linspace(-0.01, 0.01, 41):
        test = corrected_t_test(A + shift, B)
        assert (test.p_value < 0.05) == (not test.interval[0] <= 0 <= test.interval[1])


def test_equivalence_is_two_one_sided_tests():
    test, d = corrected_t_test(A, B, margin=0.008), A - B
    scale = np.sqrt((1 / 10 + 1 / 9) * d.var(ddof=1))
    sides = stats.t(9).sf((d.mean() + 0.008) / scale), stats.t(9).sf((0.008 - d.mean()) / scale)
    assert test.p_equivalent == pytest.approx(max(sides))
    low, high = corrected_t_test(A, B, level=0.9).interval
    for margin in np.linspace(0.001, 0.02, 20):  # equivalent at 5 % exactly where the 90 % interval lies within
        assert (corrected_t_test(A, B, margin=margin).p_equivalent <= 0.05) == (-margin <= low and high <= margin)


def test_folds_without_any_variance_prove_nothing():
    same = corrected_t_test(A, A)
    assert (same.statistic, same.p_value, same.interval) == (0.0, 1.0, (0.0, 0.0))
    apart = corrected_t_test([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    assert (apart.difference, apart.p_value) == (0.25, 1.0)
    assert apart.p_equivalent == 1.0


@pytest.mark.parametrize(
    ("scores_a", "scores_b", "ratio", "message"),
    [
        ([0.9], [0.8], None, "at least 2 folds"),
        ([0.9, 0.8], [0.8], None, "one score for each fold"),
        ([0.9, np.nan], [0.8, 0.7], None, "finite"),
        ([0.9, 0.8], [0.8, 0.7], -1.0, "must be > 0"),
        ([0.9, 0.8], [0.8, 0.7], 0.0, "must be > 0"),
    ],
)
def test_bad_folds_are_refused(scores_a, scores_b, ratio, message):
    with pytest.raises(DataError, match=message):
        corrected_t_test(scores_a, scores_b, test_train_ratio=ratio)
