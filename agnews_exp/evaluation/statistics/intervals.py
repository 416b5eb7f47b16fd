"""Intervals from bootstrap resamples: percentile, and bias-corrected and accelerated (BCa)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from agnews_exp.evaluation.statistics.inputs import Result
from agnews_exp.evaluation.statistics.margins import FloatArray


@dataclass(frozen=True)
class BootstrapInterval(Result):
    """A metric, or a difference of two, with its bootstrap intervals.

    Attributes:
        metric: Name of the metric.
        estimate: Value on the items themselves.
        standard_error: Standard deviation of the resamples.
        bias: Mean of the resamples minus the estimate.
        percentile: Ends of the percentile interval.
        bca: Ends of the bias-corrected and accelerated interval (Efron 1987); equal to ``percentile`` when its
            corrections are not defined (see ``bca_defined``).
        level: Nominal coverage, such as .95.
        resamples: Number of resamples.
        bca_defined: False when the resamples or the jackknife do not vary, or all resamples lie on one side.
    """

    metric: str
    estimate: float
    standard_error: float
    bias: float
    percentile: tuple[float, float]
    bca: tuple[float, float]
    level: float
    resamples: int
    bca_defined: bool


@dataclass(frozen=True)
class PairedBootstrap(Result):
    """Two models' metric and its difference on the same resampled items.

    Attributes:
        a: Model A's metric.
        b: Model B's metric.
        difference: A minus B.
        p_value: Two-sided: twice the smaller share of resampled differences on one side of zero, with one added
            to numerator and denominator (inverts the percentile interval).
        correlation: Correlation of the two models' resampled metrics; NaN when one does not vary. It is what a
            paired comparison gains over an unpaired one.
    """

    a: BootstrapInterval
    b: BootstrapInterval
    difference: BootstrapInterval
    p_value: float
    correlation: float


def bca_interval(
    resampled: FloatArray, estimate: float, jackknife: FloatArray, multiplicity: FloatArray, level: float
) -> tuple[float, float] | None:
    """Return the BCa interval (Efron 1987; Efron and Tibshirani 1993, section 14.3), or None where undefined.

    Args:
        resampled: Shape (R,), the statistic on each resample.
        estimate: The statistic on the data.
        jackknife: Shape (J,), the distinct values of the statistic when one item is left out.
        multiplicity: Shape (J,), how many items give each of these values.
        level: Nominal coverage.
    """
    # Ties count half, as in scipy.stats.bootstrap: accuracy differences take few distinct values.
    tolerance = 1e-12 * max(1.0, abs(estimate))
    below = np.mean(resampled < estimate - tolerance) + 0.5 * np.mean(np.abs(resampled - estimate) <= tolerance)
    deviations = np.average(jackknife, weights=multiplicity) - jackknife
    spread = float(np.sum(multiplicity * deviations**2))
    if not 0 < below < 1 or spread <= 1e-24:
        return None
    bias = float(special.ndtri(below))
    acceleration = float(np.sum(multiplicity * deviations**3)) / (6 * spread**1.5)
    tail = (1 - level) / 2
    z = bias + special.ndtri(np.array([tail, 1 - tail]))
    positions = special.ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(resampled, np.asarray(positions))
    return float(low), float(high)


def summarise(
    name: str,
    resampled: FloatArray,
    estimate: float,
    jackknife: tuple[FloatArray, FloatArray] | None,
    level: float,
) -> BootstrapInterval:
    """Summarise resampled values (R,), given jackknife values (J,) with multiplicities, or None for no BCa."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, np.array([tail, 1 - tail]))
    percentile = (float(low), float(high))
    bca = None if jackknife is None else bca_interval(resampled, estimate, *jackknife, level)
    error = float(resampled.std(ddof=1))
    bias = float(resampled.mean()) - estimate
    return BootstrapInterval(
        name, estimate, error, bias, percentile, bca or percentile, level, len(resampled), bca is not None
    )


def summarise_pair(
    name: str,
    resampled: FloatArray,
    estimates: FloatArray,
    jackknife: tuple[FloatArray, FloatArray] | None,
    level: float,
) -> PairedBootstrap:
    """Summarise resampled metrics (2, R), their estimates (2,) and jackknife values (2, J) with multiplicities."""
    a, b = (
        summarise(name, resampled[m], float(estimates[m]), jackknife and (jackknife[0][m], jackknife[1]), level)
        for m in (0, 1)
    )
    differences = resampled[0] - resampled[1]
    left_out = jackknife and (jackknife[0][0] - jackknife[0][1], jackknife[1])
    difference = summarise(name, differences, float(estimates[0] - estimates[1]), left_out, level)
    tolerance = 1e-12
    sides = 1 + np.array([np.sum(differences <= tolerance), np.sum(differences >= -tolerance)])
    p_value = min(1.0, 2 * float(sides.min()) / (len(differences) + 1))
    varies = min(a.standard_error, b.standard_error) > 1e-15
    correlation = float(np.corrcoef(resampled[0], resampled[1]).item(1)) if varies else float("nan")
    return PairedBootstrap(a, b, difference, p_value, correlation)
