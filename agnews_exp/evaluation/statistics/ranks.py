"""Rank tests over blocks: several folds, seeds or data sets, on each of which every model was scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.inputs import Result, open_interval
from agnews_exp.evaluation.statistics.margins import FloatArray


@dataclass(frozen=True)
class FriedmanTest(Result):
    """Friedman's test of all models, with Nemenyi's comparison of each pair.

    Attributes:
        names: The k models, in the order of the columns given.
        mean_ranks: Mean rank of each model; 1 is the best. Ties share their mean rank.
        n_blocks: Number of blocks N.
        statistic: Friedman's chi-square, corrected for ties.
        p_value: Its p-value with k - 1 degrees of freedom.
        iman_davenport_statistic: F = (N - 1) chi2 / (N (k - 1) - chi2) (Iman and Davenport 1980), less conservative.
        iman_davenport_p_value: Its p-value with k - 1 and (k - 1)(N - 1) degrees of freedom.
        kendall_w: Agreement of the blocks on the ranking, 0 to 1: chi2 / (N (k - 1)).
        nemenyi_p_values: k by k p-values of Nemenyi's pairwise test, which allows for all pairs.
        critical_difference: Two mean ranks that differ by less are not told apart at ``alpha`` (Demsar 2006).
        alpha: Level of the critical difference.
        groups: Names of models that are not told apart: the bars of a critical-difference diagram.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    n_blocks: int
    statistic: float
    p_value: float
    iman_davenport_statistic: float
    iman_davenport_p_value: float
    kendall_w: float
    nemenyi_p_values: tuple[tuple[float, ...], ...]
    critical_difference: float
    alpha: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class WilcoxonTest(Result):
    """Wilcoxon's signed-rank test of two models.

    Attributes:
        statistic: The smaller sum of ranks.
        p_value: Two-sided.
        n_used: Blocks in which the two differ.
        smallest_p_value: The least p-value that ``n_used`` differences without ties can give, 2 / 2^n: with five
            blocks or fewer the test cannot reach .05.
        rank_biserial: Effect size, (sum of ranks for A - sum for B) / all ranks, from -1 to 1.
    """

    statistic: float
    p_value: float
    n_used: int
    smallest_p_value: float
    rank_biserial: float


def critical_difference(n_models: int, n_blocks: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of mean ranks, q sqrt(k (k + 1) / (6 N)) (Demsar 2006, section 3.2.2)."""
    quantile = float(stats.studentized_range.isf(alpha, n_models, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(n_models * (n_models + 1) / (6 * n_blocks))


def rank_models(scores: ArrayLike, higher_is_better: bool = True) -> FloatArray:
    """Return each block's ranks, shape (N, k), 1 for the best; ties share their mean rank."""
    values = np.asarray(scores, dtype=np.float64)
    ranks: FloatArray = stats.rankdata(-values if higher_is_better else values, axis=1)
    return ranks


def friedman_test(
    scores: ArrayLike, names: Sequence[str] | None = None, *, alpha: float = 0.05, higher_is_better: bool = True
) -> FriedmanTest:
    """Test that all models rank alike, and compare each pair.

    Args:
        scores: Shape (N, k): one row for each block (fold, seed, data set), one column for each of k >= 3 models.
        names: The k models' names.
        alpha: Level of the critical difference and the groups.
        higher_is_better: False for scores such as log-loss.

    Raises:
        DataError: Fewer than 3 models or 2 blocks, values that are not finite, or names that do not fit.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 3 or not np.isfinite(values).all():
        raise DataError(
            f"scores must be finite with 2 or more rows (blocks) and 3 or more columns (models), got {values.shape}",
            fix="compare two models with wilcoxon_test or corrected_t_test",
        )
    open_interval(alpha, "alpha")
    n, k = values.shape
    labels = tuple(names) if names is not None else tuple(str(column) for column in range(k))
    if len(labels) != k or len(set(labels)) != k:
        raise DataError(f"there are {k} models, so names must be {k} different names, got {', '.join(labels)}")
    mean_ranks = rank_models(values, higher_is_better).mean(axis=0)
    if np.ptp(values, axis=1).max() == 0:  # every block is one tie: scipy divides by zero
        chi_square, p_value, pairs = 0.0, 1.0, np.ones((k, k))
    else:
        import scikit_posthocs  # brings pandas and matplotlib

        chi_square, p_value = (float(value) for value in stats.friedmanchisquare(*values.T))
        pairs = scikit_posthocs.posthoc_nemenyi_friedman(values).to_numpy(dtype=np.float64)
    remainder = n * (k - 1) - chi_square
    iman_davenport = (n - 1) * chi_square / remainder if remainder > 1e-9 else math.inf
    distance = critical_difference(k, n, alpha)
    return FriedmanTest(
        names=labels,
        mean_ranks=tuple(mean_ranks.tolist()),
        n_blocks=n,
        statistic=chi_square,
        p_value=p_value,
        iman_davenport_statistic=iman_davenport,
        iman_davenport_p_value=float(stats.f.sf(iman_davenport, k - 1, (k - 1) * (n - 1))),
        kendall_w=chi_square / (n * (k - 1)),
        nemenyi_p_values=tuple(tuple(row) for row in pairs.tolist()),
        critical_difference=distance,
        alpha=alpha,
        groups=_groups(labels, mean_ranks, distance),
    )


def _groups(names: tuple[str, ...], mean_ranks: FloatArray, distance: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of models, best first, whose mean ranks lie within the critical difference."""
    order = np.argsort(mean_ranks, kind="stable")
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and mean_ranks[order[end + 1]] - mean_ranks[order[start]] < distance:
            end += 1
        if end > start and end > reached:
            groups.append(tuple(names[index] for index in order[start : end + 1]))
            reached = end
    return tuple(groups)


def wilcoxon_test(
    scores_a: ArrayLike, scores_b: ArrayLike, *, zeros: Literal["drop", "split"] = "drop"
) -> WilcoxonTest:
    """Test that two models' paired scores differ symmetrically about zero.

    The blocks must be independent: seeds or data sets, not classes of one test set, whose scores share their
    confusions; folds of one cross-validation only approximately.

    Args:
        scores_a: Shape (N,), model A's score in each block.
        scores_b: Shape (N,), model B's score in the same blocks.
        zeros: ``drop`` leaves out blocks without difference; ``split`` shares their ranks between the two sides.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0 or not np.isfinite(a - b).all():
        raise DataError(
            f"scores_a and scores_b must be finite and hold one score for each block, got {a.shape}, {b.shape}"
        )
    differences = a - b
    n_used = int(np.count_nonzero(differences))
    if n_used == 0:
        return WilcoxonTest(0.0, 1.0, 0, 1.0, 0.0)
    result = stats.wilcoxon(differences, zero_method="wilcox" if zeros == "drop" else "zsplit")
    kept = differences[differences != 0] if zeros == "drop" else differences
    ranks = stats.rankdata(np.abs(kept))
    rank_biserial = float(np.sum(ranks * np.sign(kept)) / ranks.sum())
    return WilcoxonTest(
        float(result.statistic), float(result.pvalue), n_used, min(1.0, 2.0 ** (1 - n_used)), rank_biserial
    )
