from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval, effect_sizes, pooled_cohens_d
from agnews_exp.evaluation.statistics.mcnemar import PairedCounts


def test_intervals_equal_the_published_examples_of_statpsych():
    # ci.prop.ps(.05, 12, 4, 26, 6) and ci.ratio.prop.ps(.05, 12, 4, 26, 6) of Bonett's R package statpsych.
    sizes = effect_sizes(PairedCounts(both_right=12, only_a=4, only_b=26, both_wrong=6))
    difference, ratio = sizes.risk_difference, sizes.error_rate_ratio
    assert (difference.low, difference.high) == pytest.approx((-0.6251933, -0.2548067), abs=1e-7)
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((3.2, 1.766544, 5.796628), abs=1e-6)


def test_discordant_effects_carry_the_clopper_pearson_interval():
    sizes = effect_sizes(PairedCounts(6877, 284, 141, 298), level=0.9)
    low, high = proportion_confint(284, 425, alpha=0.1, method="beta")
    assert (sizes.cohens_g.low, sizes.cohens_g.high) == pytest.approx((low - 0.5, high - 0.5))
    odds = sizes.discordant_odds_ratio
    assert (odds.low, odds.high) == pytest.approx((low / (1 - low), high / (1 - high)))
    assert odds.estimate == pytest.approx(284 / 141)
    assert sizes.cohens_g.estimate == pytest.approx(0.1682, abs=5e-5)
    assert sizes.risk_difference.estimate == pytest.approx((284 - 141) / 7600)
    assert sizes.error_rate_ratio.estimate == pytest.approx(439 / 582)
    assert sizes.error_reduction == pytest.approx(0.2457, abs=5e-5)


def test_swapping_the_models_inverts_the_effects():
    one, other = effect_sizes(PairedCounts(80, 12, 5, 9)), effect_sizes(PairedCounts(80, 5, 12, 9))
    assert one.risk_difference.low == pytest.approx(-other.risk_difference.high)
    assert one.cohens_g.low == pytest.approx(-other.cohens_g.high)
    assert one.discordant_odds_ratio.low == pytest.approx(1 / other.discordant_odds_ratio.high)
    assert one.error_rate_ratio.low == pytest.approx(1 / other.error_rate_ratio.high)


def test_zero_counts_give_bounds_and_no_crash():
    one_sided = effect_sizes(PairedCounts(90, 10, 0, 0))
    assert one_sided.discordant_odds_ratio.estimate == math.inf == one_sided.discordant_odds_ratio.high
    assert one_sided.discordant_odds_ratio.low > 1
    assert one_sided.error_rate_ratio.estimate == 0.0
    alike = effect_sizes(PairedCounts(90, 0, 0, 10))
    assert math.isnan(alike.discordant_odds_ratio.estimate)
    assert alike.error_rate_ratio.estimate == 1.0
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


def test_nothing_discordant_or_no_errors_leave_the_widest_intervals():
    alike, perfect = effect_sizes(PairedCounts(90, 0, 0, 10)), effect_sizes(PairedCounts(90, 10, 0, 0))
    assert (alike.cohens_g.low, alike.cohens_g.high) == (-0.5, 0.5)
    assert (perfect.error_rate_ratio.low, perfect.error_rate_ratio.high) == (0.0, math.inf)
