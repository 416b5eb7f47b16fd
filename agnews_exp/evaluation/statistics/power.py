"""What a test set of this size can show: power of McNemar's test and the smallest difference worth hoping for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.inputs import Result, open_interval

PowerMethod = Literal["exact", "mid_p"]


@dataclass(frozen=True)
class DetectableDifference(Result):
    """The smallest difference of accuracy that a comparison on these items can show.

    Attributes:
        n_items: Number of test items.
        discordant_rate: Share of items that exactly one model gets right (assumed, or taken from the data).
        alpha: Level of the two-sided test.
        power: Wanted chance to find the difference.
        detectable: Smallest true difference of accuracy found with that chance; NaN when none can be found.
        significant: Smallest observed difference that gives p <= alpha at the expected number of discordant items;
            NaN when even all of them on one side would not.
    """

    n_items: int
    discordant_rate: float
    alpha: float
    power: float
    detectable: float
    significant: float


def mcnemar_power(
    n_items: int, discordant_rate: float, difference: float, *, alpha: float = 0.05, method: PowerMethod = "mid_p"
) -> float:
    """Return the chance that McNemar's test rejects, exactly (summed over the number of discordant items).

    Args:
        n_items: Number of test items.
        discordant_rate: Expected share of items that exactly one model gets right, in (0, 1].
        difference: True accuracy of A minus that of B; at most ``discordant_rate`` in size.
        alpha: Level of the two-sided test.
        method: Variant of the test.

    Raises:
        DataError: A value out of range.
    """
    _check(n_items, discordant_rate, alpha)
    if abs(difference) > discordant_rate + 1e-12:
        raise DataError(f"difference ({difference}) cannot exceed the discordant rate ({discordant_rate})")
    # Beyond ten standard deviations the binomial holds less than 1e-15.
    mean, sd = n_items * discordant_rate, math.sqrt(n_items * discordant_rate * (1 - discordant_rate))
    first, last = max(0, math.floor(mean - 10 * sd) - 10), min(n_items, math.ceil(mean + 10 * sd) + 10)
    m = np.arange(first, last + 1)
    critical = _critical_count(m, alpha, method)
    share_a = min(1.0, max(0.0, 0.5 + difference / (2 * discordant_rate)))
    rejects = stats.binom.cdf(critical, m, share_a) + stats.binom.cdf(critical, m, 1 - share_a)
    return float(np.sum(stats.binom.pmf(m, n_items, discordant_rate) * rejects))


def _critical_count(m: np.ndarray, alpha: float, method: PowerMethod) -> np.ndarray:
    """Return the largest smaller discordant count that is significant among m discordant items; -1 for none."""
    guess = stats.binom.ppf(alpha / 2, m, 0.5)
    critical = np.full(m.shape, -1.0)
    for offset in (-2, -1, 0, 1):
        candidate = guess + offset
        p_value = 2 * stats.binom.cdf(candidate, m, 0.5)
        if method == "mid_p":
            p_value = p_value - stats.binom.pmf(candidate, m, 0.5)
        fits = (candidate >= 0) & (2 * candidate < m) & (p_value <= alpha)
        critical = np.where(fits, candidate, critical)
    return critical


def smallest_detectable_difference(
    n_items: int,
    discordant_rate: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    method: PowerMethod = "mid_p",
) -> DetectableDifference:
    """Return the smallest difference of accuracy that this many items can show.

    Args:
        n_items: Number of test items.
        discordant_rate: Share of items that exactly one model gets right, in (0, 1]; about the error rate for two
            good, different models.
        alpha: Level of the two-sided test; divide it by the number of comparisons for a family.
        power: Wanted chance to find the difference.
        method: Variant of the test.
    """
    _check(n_items, discordant_rate, alpha)
    open_interval(power, "power")
    expected = max(1, round(n_items * discordant_rate))
    critical = float(_critical_count(np.array([expected]), alpha, method)[0])
    significant = (expected - 2 * critical) / n_items if critical >= 0 else math.nan

    def shortfall(difference: float) -> float:
        return mcnemar_power(n_items, discordant_rate, difference, alpha=alpha, method=method) - power

    if shortfall(discordant_rate) < 0:
        detectable = math.nan
    else:
        detectable = float(optimize.brentq(shortfall, 0.0, discordant_rate, xtol=1e-7))
    return DetectableDifference(n_items, discordant_rate, alpha, power, detectable, significant)


def required_items(discordant_rate: float, difference: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return about how many items show a difference of accuracy (Connor 1987): a plan, checked with the power above.

    n = (z_alpha sqrt(r) + z_beta sqrt(r - d^2))^2 / d^2, with r the discordant rate and d the difference.
    """
    _check(1, discordant_rate, alpha)
    open_interval(power, "power")
    if not 0 < abs(difference) <= discordant_rate:
        raise DataError(f"difference must be between 0 and the discordant rate ({discordant_rate}), got {difference}")
    z_alpha, z_beta = float(stats.norm.isf(alpha / 2)), float(stats.norm.ppf(power))
    root = z_alpha * math.sqrt(discordant_rate) + z_beta * math.sqrt(discordant_rate - difference**2)
    return math.ceil((root / difference) ** 2)


def _check(n_items: int, discordant_rate: float, alpha: float) -> None:
    open_interval(alpha, "alpha")
    if n_items < 1:
        raise DataError(f"n_items must be at least 1, got {n_items}")
    if not 0 < discordant_rate <= 1:
        raise DataError(f"discordant_rate must lie in (0, 1], got {discordant_rate}")
