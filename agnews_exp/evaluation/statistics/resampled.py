"""Comparing two models by their scores in cross-validation folds.

The training sets of different folds overlap, so the fold scores are correlated and the plain paired t-test rejects
far too often. Nadeau and Bengio (2003) enlarge the variance: with J fold differences of mean d and variance s^2,
t = d / sqrt((1/J + n_test/n_train) s^2) with J - 1 degrees of freedom. The Bayesian correlated t-test (Corani and
Benavoli 2015) reads the same distribution as the posterior of the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.inputs import Result, open_interval


@dataclass(frozen=True)
class CorrectedTTest(Result):
    """Nadeau-Bengio corrected resampled t-test, with the Bayesian reading of the same numbers.

    Attributes:
        difference: Mean of A minus B over the J folds.
        statistic: Corrected t.
        degrees_of_freedom: J - 1.
        p_value: Two-sided.
        interval: Interval of the difference at ``level``; also the posterior's central interval.
        level: Nominal coverage.
        naive_statistic: t of the plain paired t-test, for comparison only.
        naive_p_value: Its p-value: too small, because it takes the folds as independent.
        probability_a_better: Posterior probability that A minus B exceeds ``rope``.
        probability_equivalent: Posterior probability that the difference lies within plus or minus ``rope``.
        probability_b_better: Posterior probability that B minus A exceeds ``rope``.
        rope: Half width of the region of practical equivalence, in units of the score.
    """

    difference: float
    statistic: float
    degrees_of_freedom: int
    p_value: float
    interval: tuple[float, float]
    level: float
    naive_statistic: float
    naive_p_value: float
    probability_a_better: float
    probability_equivalent: float
    probability_b_better: float
    rope: float


def correct_t_statistic(naive_statistic: float, n_folds: int, test_train_ratio: float) -> tuple[float, float]:
    """Return the corrected t and its two-sided p-value for a published plain paired t over J folds.

    Args:
        naive_statistic: t of the plain paired t-test.
        n_folds: J, at least 2 (folds times repeats).
        test_train_ratio: n_test / n_train of one fold; 1 / (k - 1) for k-fold cross-validation.
    """
    _check(n_folds, test_train_ratio)
    corrected = naive_statistic / math.sqrt(1 + n_folds * test_train_ratio)
    return corrected, float(2 * stats.t.sf(abs(corrected), n_folds - 1))


def corrected_t_test(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    test_train_ratio: float | None = None,
    level: float = 0.95,
    rope: float = 0.01,
) -> CorrectedTTest:
    """Test that two models score equally over the same folds.

    Args:
        scores_a: Shape (J,), model A's score in each fold (of all repeats).
        scores_b: Shape (J,), model B's score in the same folds.
        test_train_ratio: n_test / n_train of one fold. Left out, J is taken for the number of folds of one
            cross-validation, 1 / (J - 1); give 1 / (k - 1) for repeated k-fold cross-validation.
        level: Nominal coverage of the interval.
        rope: Half width of the region of practical equivalence.

    Raises:
        DataError: Lengths differ, fewer than two folds, scores that are not finite, or a bad ratio.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not np.isfinite(a - b).all():
        raise DataError(
            f"scores_a and scores_b must be finite and hold one score for each fold, got shapes {a.shape}, {b.shape}"
        )
    open_interval(level, "level")
    if rope < 0:
        raise DataError(f"rope must be >= 0, got {rope}")
    n_folds = len(a)
    ratio = 1 / (n_folds - 1) if test_train_ratio is None and n_folds > 1 else test_train_ratio or 0.0
    _check(n_folds, ratio)
    differences = a - b
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    df = n_folds - 1
    scale = math.sqrt((1 / n_folds + ratio) * variance)
    naive_scale = math.sqrt(variance / n_folds)
    # Folds that all differ by the same amount (most often 0) leave nothing to estimate a variance from.
    t, naive_t = (mean / s if s > 0 else math.copysign(math.inf, mean) if mean else 0.0 for s in (scale, naive_scale))
    reach = float(stats.t.ppf((1 + level) / 2, df)) * scale
    if scale > 0:
        a_better = float(stats.t.sf((rope - mean) / scale, df))
        b_better = float(stats.t.cdf((-rope - mean) / scale, df))
    else:
        a_better, b_better = float(mean > rope), float(mean < -rope)
    return CorrectedTTest(
        difference=mean,
        statistic=t,
        degrees_of_freedom=df,
        p_value=float(2 * stats.t.sf(abs(t), df)),
        interval=(mean - reach, mean + reach),
        level=level,
        naive_statistic=naive_t,
        naive_p_value=float(2 * stats.t.sf(abs(naive_t), df)),
        probability_a_better=a_better,
        probability_equivalent=max(0.0, 1 - a_better - b_better),
        probability_b_better=b_better,
        rope=rope,
    )


def _check(n_folds: int, test_train_ratio: float) -> None:
    if n_folds < 2:
        raise DataError(f"a test over folds needs at least 2 folds, got {n_folds}")
    if not 0 < test_train_ratio < math.inf:
        raise DataError(
            f"test_train_ratio is n_test / n_train of one fold and must be > 0, got {test_train_ratio}",
            fix="for k-fold cross-validation it is 1 / (k - 1)",
        )
