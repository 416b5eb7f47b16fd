from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.effect_size import (
    accuracy_interval,
    difference_p_equivalent,
    effect_sizes,
    metric_interval,
    pooled_cohens_d,
)
from agnews_exp.evaluation.statistics.mcnemar import PairedCounts


def test_the_interval_equals_the_published_example_of_statpsych():
    # ci.prop.ps(.05, 12, 4, 26, 6) of Bonett's R package statpsych.
    sizes = effect_sizes(PairedCounts(both_right=12, only_a=4, only_b=26, both_wrong=6))
    difference = sizes.risk_difference
    assert (difference.low, difference.high) == pytest.approx((-0.6251933, -0.2548067), abs=1e-7)
    assert sizes.error_reduction == pytest.approx(1 - 3.2)


def test_discordant_effects_carry_the_clopper_pearson_interval():
    sizes = effect_sizes(PairedCounts(6877, 284, 141, 298), level=0.9)
    low, high = proportion_confint(284, 425, alpha=0.1, method="beta")
    assert (sizes.cohens_g.low, sizes.cohens_g.high) == pytest.approx((low - 0.5, high - 0.5))
    odds = sizes.discordant_odds_ratio
    assert (odds.low, odds.high) == pytest.approx((low / (1 - low), high / (1 - high)))
    assert odds.estimate == pytest.approx(284 / 141)
    assert sizes.cohens_g.estimate == pytest.approx(0.1682, abs=5e-5)
    assert sizes.risk_difference.estimate == pytest.approx((284 - 141) / 7600)
    assert sizes.error_reduction == pytest.approx(0.2457, abs=5e-5)


def test_swapping_the_models_inverts_the_effects():
    one, other = effect_sizes(PairedCounts(80, 12, 5, 9)), effect_sizes(PairedCounts(80, 5, 12, 9))
    assert one.risk_difference.low == pytest.approx(-other.risk_difference.high)
    assert one.cohens_g.low == pytest.approx(-other.cohens_g.high)
    assert one.discordant_odds_ratio.low == pytest.approx(1 / other.discordant_odds_ratio.high)


def test_zero_counts_give_bounds_and_no_crash():
    one_sided = effect_sizes(PairedCounts(90, 10, 0, 0))
    assert one_sided.discordant_odds_ratio.estimate == math.inf == one_sided.discordant_odds_ratio.high
    assert one_sided.discordant_odds_ratio.low > 1
    assert one_sided.error_reduction == 1.0
    alike = effect_sizes(PairedCounts(90, 0, 0, 10))
    assert math.isnan(alike.discordant_odds_ratio.estimate)
    assert alike.error_reduction == 0.0
    assert alike.risk_difference.low < 0 < alike.risk_difference.high
    assert one_sided.to_dict()["discordant_odds_ratio"]["estimate"] is None


def test_accuracy_interval_is_wilsons():
    for right, n in ((7161, 7600), (0, 20), (20, 20)):
        ours = accuracy_interval(right, n)
        assert (ours.low, ours.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    with pytest.raises(DataError, match="got 21 of 20"):
        accuracy_interval(21, 20)


def test_pooled_d_is_the_difference_in_pooled_standard_deviations():
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 1.0, 3.0])
    assert pooled_cohens_d(a, b) == pytest.approx(1.0 / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))


def test_nothing_discordant_leaves_the_widest_interval():
    alike = effect_sizes(PairedCounts(90, 0, 0, 10))
    assert (alike.cohens_g.low, alike.cohens_g.high) == (-0.5, 0.5)


def test_equivalence_of_accuracy_is_two_one_sided_tests_by_bonett_and_price():
    for counts in (PairedCounts(5000, 10, 14, 300), PairedCounts(300, 0, 0, 10), PairedCounts(900, 40, 10, 50)):
        for margin in np.linspace(0.001, 0.08, 30):
            inside = effect_sizes(counts, 0.9).risk_difference
            claimed = difference_p_equivalent(counts, margin) <= 0.05
            assert claimed == (-margin <= inside.low and inside.high <= margin)
    assert difference_p_equivalent(PairedCounts(40, 0, 0, 0), 0.005) > 0.4  # few rows without a difference show little


def test_a_metric_has_wilsons_interval_for_accuracy_and_the_bootstraps_otherwise(random_predictions):
    y, a, _ = random_predictions(0, n=300)
    names = list("0123")
    wilson = accuracy_interval(int(np.sum(y == a)), 300)
    assert metric_interval(y, a, "accuracy", names) == (wilson.low, wilson.high)
    drawn = bootstrap_metric(y, a, "macro_f1", resamples=2000, class_names=names)
    assert metric_interval(y, a, "macro_f1", names) == drawn.percentile
