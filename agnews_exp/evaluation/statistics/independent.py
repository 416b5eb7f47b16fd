"""Comparing two models by independent repetitions of each: runs with several seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.inputs import Result, open_interval


@dataclass(frozen=True)
class WelchTest(Result):
    """Welch's t-test of two sets of repetitions, variances not assumed equal.

    Attributes:
        difference: Mean of A minus mean of B.
        statistic: t.
        degrees_of_freedom: Welch and Satterthwaite's; NaN when neither set varies.
        p_value: Two-sided.
        interval: Interval of the difference at ``level``.
        level: Nominal coverage.
        n_a: Repetitions of A.
        n_b: Repetitions of B.
        varies: False when neither set varies: the models are deterministic, and there is nothing to test here.
    """

    difference: float
    statistic: float
    degrees_of_freedom: float
    p_value: float
    interval: tuple[float, float]
    level: float
    n_a: int
    n_b: int
    varies: bool


def welch_test(scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = 0.95) -> WelchTest:
    """Test that two models score equally in the mean over repetitions.

    Repetitions are not paired: seed 1 of one model has nothing in common with seed 1 of another but its number.

    Args:
        scores_a: Shape (n_a,), model A's score in each repetition.
        scores_b: Shape (n_b,), model B's scores.
        level: Nominal coverage of the interval.

    Raises:
        DataError: Fewer than two repetitions of a model, or scores that are not finite.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.ndim != 1 or b.ndim != 1 or min(a.size, b.size) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError(
            f"scores_a and scores_b must be finite, with two repetitions or more, got shapes {a.shape}, {b.shape}",
            fix="run each model with two seeds or more: python run.py -m seed=1,2,3,4,5",
        )
    open_interval(level, "level")
    difference = float(a.mean() - b.mean())
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        t = math.copysign(math.inf, difference) if difference else 0.0
        point = (difference, difference)
        return WelchTest(difference, t, math.nan, 0.0 if difference else 1.0, point, level, a.size, b.size, False)
    found = stats.ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(level)
    return WelchTest(
        difference=difference,
        statistic=float(found.statistic),
        degrees_of_freedom=float(found.df),
        p_value=float(found.pvalue),
        interval=(float(low), float(high)),
        level=level,
        n_a=a.size,
        n_b=b.size,
        varies=True,
    )
