from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.mcnemar import mcnemar_p_values, mcnemar_power, smallest_detectable_difference


@pytest.mark.parametrize(("n", "rate", "difference"), [(25, 0.5, 0.3), (40, 0.2, 0.15), (30, 1.0, 0.5), (30, 0.4, 0.0)])
def test_power_equals_the_sum_over_all_tables(n, rate, difference):
    b, c = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    possible = b + c <= n
    b, c = b[possible], c[possible]
    p_b, p_c = (rate + difference) / 2, (rate - difference) / 2
    chances = stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, [p_b, p_c, 1 - p_b - p_c])
    expected = np.sum(chances[mcnemar_p_values(b, c, "mid_p") <= 0.05])
    assert mcnemar_power(n, rate, difference) == pytest.approx(expected, abs=1e-10)


def test_power_grows_with_the_difference_and_starts_at_the_level():
    powers = [mcnemar_power(7600, 0.056, d) for d in (0.0, 0.002, 0.005, 0.01, 0.02)]
    assert powers == sorted(powers)
    assert 0.04 < powers[0] <= 0.055
    assert powers[-1] > 0.999


def test_the_smallest_detectable_difference_has_the_wanted_power():
    found = smallest_detectable_difference(7600, 0.056, power=0.9, alpha=0.01)
    assert mcnemar_power(7600, 0.056, found.detectable, alpha=0.01) == pytest.approx(0.9, abs=1e-3)
    assert mcnemar_power(7600, 0.056, -found.detectable, alpha=0.01) == pytest.approx(0.9, abs=1e-3)


def test_a_tiny_test_set_shows_nothing_and_says_so():
    found = smallest_detectable_difference(20, 0.1)
    assert math.isnan(found.detectable)
    assert found.to_dict()["detectable"] is None


def test_impossible_plans_are_refused():
    with pytest.raises(DataError, match="cannot exceed the discordant rate"):
        mcnemar_power(100, 0.1, 0.2)
    with pytest.raises(DataError, match="discordant_rate must lie in"):
        smallest_detectable_difference(100, 0.0)
