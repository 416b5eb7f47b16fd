"""Learning curves as power laws: the score to expect of more rows, and the rows that a better score would need.

A score of n training rows is taken as c - a n^-b with a >= 0, .05 <= b <= 2 and c <= 1 (three parameters; Hestness et
al. 2017; Viering and Loog 2023). The fit is by weighted least squares: exact in a and c for every b of a grid.
Intervals come from a parametric bootstrap: every point is drawn anew with its standard error, the points independently.
They know nothing of curves that are no power law, so they reach little further than the rows at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import FloatArray, Result

FEWEST_POINTS = 4
"""Numbers of rows that a curve needs at least: one more than there are parameters."""

_EXPONENTS = np.geomspace(0.05, 2.0, 60)


@dataclass(frozen=True)
class PowerLaw(Result):
    """A fitted learning curve, with 95 % intervals."""

    doubled: float  # expected score at twice the largest number of rows
    doubled_low: float  # lower end of its interval
    doubled_high: float  # upper end
    # Rows that a score higher by ``gain`` than that of the curve at the largest number needs; infinite where the curve
    # never gets there.
    rows: float
    rows_low: float  # lower end of its interval
    rows_high: float  # upper end, often infinite
    gain: float  # the gain that is asked for


def fit_power_law(
    rows: ArrayLike, scores: ArrayLike, errors: ArrayLike, *, gain: float = 0.01, resamples: int = 500, seed: int = 0
) -> PowerLaw:
    """Fit a power law to scores (more is better, 1 the most) of four or more numbers of training rows, shape (p,).

    Raises:
        DataError: There are too few points, or an error is not above 0.
    """
    n, y, sd = (np.asarray(values, dtype=np.float64) for values in (rows, scores, errors))
    if len(np.unique(n)) < FEWEST_POINTS or not (sd > 0).all():
        raise DataError(f"a power law needs {FEWEST_POINTS} numbers of rows or more, each with an error above 0")
    drawn = y + np.random.default_rng(seed).standard_normal((resamples, len(n))) * sd
    most = float(n.max())
    top, slope, exponent = _fitted(n / most, np.vstack([y, drawn]), sd)  # rows in units of the largest number
    doubled = top - slope * 2.0**-exponent
    missing = slope - gain  # what of the way to the top is left after the gain
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        needed = np.where(missing > 0, most * (slope / missing) ** (1 / exponent), np.inf)
    low, high = np.quantile(doubled[1:], [0.025, 0.975])
    ends = np.quantile(needed[1:], [0.025, 0.975], method="nearest")  # interpolation fails where values are infinite
    return PowerLaw(float(doubled[0]), float(low), float(high), float(needed[0]), float(ends[0]), float(ends[1]), gain)


def _fitted(n: FloatArray, scores: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return c, a and b of R curves, shape (R,) each; ``scores`` has shape (R, p), ``n`` and ``errors`` (p,)."""
    weight = errors**-2 / np.sum(errors**-2)
    best = np.full(len(scores), np.inf)
    top, slope, exponent = np.zeros((3, len(scores)))
    for b in _EXPONENTS:
        x = n**-b
        middle, mean = weight @ x, scores @ weight
        a = np.maximum(0.0, -((scores - mean[:, None]) @ (weight * (x - middle))) / (weight @ (x - middle) ** 2))
        c = mean + a * middle
        over = c > 1.0  # then the best with c = 1
        a = np.where(over, np.maximum(0.0, ((1.0 - scores) @ (weight * x)) / (weight @ x**2)), a)
        c = np.where(over, 1.0, c)
        loss = ((scores - c[:, None] + a[:, None] * x) ** 2) @ weight
        better = loss < best
        best = np.where(better, loss, best)
        top, slope, exponent = (np.where(better, new, old) for new, old in ((c, top), (a, slope), (b, exponent)))
    return top, slope, exponent
