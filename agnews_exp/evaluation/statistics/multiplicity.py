"""Adjusting p-values of a family of tests: the more one looks, the more one finds by chance."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from agnews_exp.config.errors import DataError, unknown_name
from agnews_exp.evaluation.statistics.margins import FloatArray

Adjustment = Literal["holm", "benjamini_hochberg"]


def adjust(p_values: ArrayLike, method: Adjustment = "holm") -> FloatArray:
    """Return adjusted p-values in the order given.

    Args:
        p_values: Shape (m,), the p-values of the whole family, including those that were not significant.
        method: ``holm`` (1979) bounds the chance of even one false finding, under any dependence;
            ``benjamini_hochberg`` (1995) bounds the expected share of false ones among the findings, for
            independent or positively dependent tests.

    Raises:
        DataError: A p-value is not between 0 and 1.
        ConfigError: Unknown method.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"p-values must be a list of numbers between 0 and 1, got {values}")
    if method not in get_args(Adjustment):
        raise unknown_name("adjustment", method, get_args(Adjustment))
    if len(values) < 2:
        return values.copy()
    if method == "benjamini_hochberg":
        return np.asarray(stats.false_discovery_control(values, method="bh"))
    # statsmodels has Holm too, but imports pandas and collects garbage on each call (0.1 s).
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted
