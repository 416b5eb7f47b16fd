from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import adjust
from agnews_exp.evaluation.statistics.mcnemar import (
    PairedCounts,
    mcnemar_by_class,
    mcnemar_p_values,
    mcnemar_test,
    paired_counts,
)

TABLES = [(6877, 284, 141, 298), (50, 12, 3, 5), (10, 1, 9, 0), (59, 6, 16, 80), (30, 7, 8, 2)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("method", "options"),
    [("exact", {"exact": True}), ("corrected", {"correction": True}), ("uncorrected", {"correction": False})],
)
def test_mcnemar_equals_statsmodels(table, method, options):
    counts = PairedCounts(*table)
    square = [[table[0], table[1]], [table[2], table[3]]]
    expected = statsmodels_mcnemar(square, **{"exact": False, **options})
    ours = mcnemar_test(counts, method)
    assert ours.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert ours.statistic == pytest.approx(expected.statistic, rel=1e-12)


def test_mid_p_equals_the_worked_example_of_fagerland_and_others():
    # Airway hyper-responsiveness (Bentur et al. 2009), the example in Fagerland, Lydersen and Laake (2013, 2014).
    counts = PairedCounts(both_right=1, only_a=1, only_b=7, both_wrong=12)
    assert mcnemar_test(counts, "mid_p").p_value == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar_test(counts, "exact").p_value == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_test(counts, "uncorrected").p_value == pytest.approx(0.0339, abs=5e-5)


def test_the_counts_published_for_the_study_give_its_published_values():
    counts = PairedCounts(6877, 284, 141, 298)
    assert mcnemar_test(counts, "corrected").statistic == pytest.approx(47.4447, abs=5e-5)
    assert mcnemar_test(counts, "corrected").p_value == pytest.approx(5.66e-12, rel=2e-3)
    assert mcnemar_test(counts, "exact").p_value == pytest.approx(3.57e-12, rel=2e-3)
    assert mcnemar_test(counts, "uncorrected").statistic == pytest.approx(48.115, abs=5e-4)


@pytest.mark.parametrize("method", ["exact", "mid_p", "corrected", "uncorrected"])
@pytest.mark.parametrize("each", [0, 1, 4, 50])
def test_equal_discordant_counts_give_p_one(method, each):
    assert mcnemar_test(PairedCounts(10, each, each, 3), method).p_value == pytest.approx(1.0, abs=1e-9)


def test_p_values_do_not_depend_on_which_model_is_named_first():
    b, c = np.array([3, 30, 0, 12]), np.array([9, 11, 6, 12])
    for method in ("exact", "mid_p", "corrected", "uncorrected"):
        assert mcnemar_p_values(b, c, method).tolist() == mcnemar_p_values(c, b, method).tolist()


def test_paired_counts_count_right_answers_not_agreement():
    y = np.array([0, 0, 1, 1, 2, 2])
    a = np.array([0, 0, 1, 0, 1, 0])
    b = np.array([0, 1, 1, 1, 1, 1])
    assert paired_counts(y, a, b) == PairedCounts(both_right=2, only_a=1, only_b=1, both_wrong=2)


def test_by_class_tests_the_items_of_each_true_class_and_adjusts_over_the_classes(random_predictions):
    y, a, b = random_predictions(3, n=900)
    tests = mcnemar_by_class(y, a, b, ["w", "x", "y", "z"], method="exact")
    assert [test.class_name for test in tests] == ["w", "x", "y", "z"]
    for index, test in enumerate(tests):
        of_class = y == index
        only_a, only_b = np.sum((a == y) & (b != y) & of_class), np.sum((a != y) & (b == y) & of_class)
        assert (test.counts.only_a, test.counts.only_b) == (only_a, only_b)
        assert test.counts.n_items == of_class.sum()
        assert test.recall_a == pytest.approx(np.mean(a[of_class] == index))
    p_values = [test.p_value for test in tests]
    assert [test.p_holm for test in tests] == adjust(p_values, "holm").tolist()
    assert [test.p_benjamini_hochberg for test in tests] == adjust(p_values, "benjamini_hochberg").tolist()


def test_classes_without_items_are_left_out_of_the_family():
    y, a, b = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), np.array([0, 0, 2, 1])
    assert [test.class_name for test in mcnemar_by_class(y, a, b)] == ["0", "2"]


def test_an_unknown_method_and_impossible_arrays_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'mid_p'"):
        mcnemar_test(PairedCounts(1, 2, 3, 4), "midp")
    with pytest.raises(DataError, match="y_true has 3, pred_a has 3, pred_b has 2"):
        paired_counts([0, 1, 1], [0, 1, 1], [0, 1])
    with pytest.raises(DataError, match="whole numbers"):
        paired_counts([0.5, 1], [0, 1], [0, 1])
    with pytest.raises(DataError, match="start at 0"):
        paired_counts([0, 1], [0, -1], [0, 1])


def test_one_item_is_enough_and_none_is_not():
    assert PairedCounts(0, 1, 0, 0).n_items == 1
    with pytest.raises(DataError, match="not all 0"):
        PairedCounts(0, 0, 0, 0)
