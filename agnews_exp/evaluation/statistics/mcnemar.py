"""McNemar's test: do two models differ in how often they are right, given the same items?

Only discordant items count: those that exactly one of the two models gets right. Under the null hypothesis
"right by A only" is Binomial(m, 1/2) of the m discordant items. The four variants answer the same question:

- ``exact``: the binomial test itself; never rejects too often, usually too seldom.
- ``mid_p``: the exact p-value minus half the probability of the observed outcome (Lancaster 1961). Nearest to the
  nominal rate in the comparison of Fagerland, Lydersen and Laake (2013), hence our default.
- ``corrected``: chi-square with Edwards' continuity correction, (|b - c| - 1)^2 / (b + c); conservative.
- ``uncorrected``: chi-square without it, (b - c)^2 / (b + c); needs some 25 discordant items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from agnews_exp.config.errors import DataError, unknown_name
from agnews_exp.evaluation.statistics.inputs import Result, class_indices, same_length
from agnews_exp.evaluation.statistics.margins import FloatArray, names_of_classes
from agnews_exp.evaluation.statistics.multiplicity import adjust

McNemarMethod = Literal["exact", "mid_p", "corrected", "uncorrected"]
METHODS: tuple[McNemarMethod, ...] = get_args(McNemarMethod)


@dataclass(frozen=True)
class PairedCounts(Result):
    """How many items both, one or none of two models got right.

    Attributes:
        both_right: Items right by both.
        only_a: Items right by model A only.
        only_b: Items right by model B only.
        both_wrong: Items right by none.
    """

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int

    def __post_init__(self) -> None:
        counts = (self.both_right, self.only_a, self.only_b, self.both_wrong)
        if min(counts) < 0 or sum(counts) == 0:
            raise DataError(f"the four counts must be >= 0 and not all 0, got {counts}")

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def discordant(self) -> int:
        """Number of items that exactly one model gets right."""
        return self.only_a + self.only_b

    @property
    def errors_a(self) -> int:
        """Items that model A gets wrong."""
        return self.only_b + self.both_wrong

    @property
    def errors_b(self) -> int:
        """Items that model B gets wrong."""
        return self.only_a + self.both_wrong

    @property
    def either_right(self) -> float:
        """Share of items that at least one model gets right: what a perfect choice between the two would reach."""
        return 1 - self.both_wrong / self.n_items


@dataclass(frozen=True)
class McNemarTest(Result):
    """Result of one variant of the test.

    Attributes:
        method: The variant.
        statistic: Chi-square for the two approximations; the smaller discordant count for ``exact`` and ``mid_p``.
        p_value: Two-sided.
    """

    method: str
    statistic: float
    p_value: float


@dataclass(frozen=True)
class ClassTest(Result):
    """McNemar's test on the items of one true class, that is on the two models' recall of it.

    Attributes:
        class_name: Name of the class.
        counts: The four counts on its items.
        recall_a: Model A's recall.
        recall_b: Model B's recall.
        p_value: Two-sided, not adjusted.
        p_holm: Adjusted for the number of classes with Holm's method.
        p_benjamini_hochberg: Adjusted with the Benjamini-Hochberg method.
    """

    class_name: str
    counts: PairedCounts
    recall_a: float
    recall_b: float
    p_value: float
    p_holm: float
    p_benjamini_hochberg: float


def paired_counts(y_true: ArrayLike, pred_a: ArrayLike, pred_b: ArrayLike) -> PairedCounts:
    """Count the items that both, one or none of the models get right; all arrays have shape (n,)."""
    truth = class_indices(y_true, "y_true")
    a, b = class_indices(pred_a, "pred_a"), class_indices(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    return _counts(truth == a, truth == b)


def _counts(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> PairedCounts:
    both, neither = int(np.sum(right_a & right_b)), int(np.sum(~right_a & ~right_b))
    return PairedCounts(both, int(np.sum(right_a & ~right_b)), int(np.sum(~right_a & right_b)), neither)


def mcnemar_p_values(only_a: ArrayLike, only_b: ArrayLike, method: McNemarMethod = "mid_p") -> FloatArray:
    """Return two-sided p-values for arrays of discordant counts of one shape; 1 where nothing is discordant.

    Raises:
        ConfigError: Unknown method.
    """
    b, c = np.asarray(only_a, dtype=np.float64), np.asarray(only_b, dtype=np.float64)
    discordant, smaller = b + c, np.minimum(b, c)
    if method in ("exact", "mid_p"):
        tail = stats.binom.cdf(smaller, discordant, 0.5)
        if method == "mid_p":
            tail = tail - 0.5 * stats.binom.pmf(smaller, discordant, 0.5)
        p_values: FloatArray = np.minimum(1.0, 2 * tail)
        return p_values
    if method not in METHODS:
        raise unknown_name("McNemar method", method, METHODS)
    return np.asarray(stats.chi2.sf(_chi_square(b, c, corrected=method == "corrected"), 1))


def _chi_square(b: FloatArray, c: FloatArray, corrected: bool) -> FloatArray:
    # Equal counts give 0 with and without the correction (as in R; statsmodels gives 1 / m with it).
    distance = np.maximum(np.abs(b - c) - corrected, 0.0)
    discordant = b + c
    result: FloatArray = np.divide(distance**2, discordant, out=np.zeros(discordant.shape), where=discordant > 0)
    return result


def mcnemar_test(counts: PairedCounts, method: McNemarMethod = "mid_p") -> McNemarTest:
    """Test that two models are right equally often.

    Args:
        counts: See :func:`paired_counts`.
        method: The variant; see the module's description.

    Raises:
        ConfigError: Unknown method.
    """
    b, c = np.float64(counts.only_a), np.float64(counts.only_b)
    p_value = float(mcnemar_p_values(b, c, method))
    if method in ("exact", "mid_p"):
        return McNemarTest(method, float(min(b, c)), p_value)
    return McNemarTest(method, float(_chi_square(np.asarray(b), np.asarray(c), method == "corrected")), p_value)


def mcnemar_by_class(
    y_true: ArrayLike,
    pred_a: ArrayLike,
    pred_b: ArrayLike,
    class_names: Sequence[str] | None = None,
    method: McNemarMethod = "mid_p",
) -> list[ClassTest]:
    """Test each true class's items apart, with p-values adjusted over the classes; absent classes are left out."""
    truth = class_indices(y_true, "y_true")
    a, b = class_indices(pred_a, "pred_a"), class_indices(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)
    present = [index for index in range(len(names)) if np.any(truth == index)]
    tables = [_counts(a[truth == index] == index, b[truth == index] == index) for index in present]
    p_values = [mcnemar_test(table, method).p_value for table in tables]
    holm, benjamini_hochberg = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg")
    return [
        ClassTest(
            class_name=names[index],
            counts=table,
            recall_a=1 - table.errors_a / table.n_items,
            recall_b=1 - table.errors_b / table.n_items,
            p_value=p_values[row],
            p_holm=float(holm[row]),
            p_benjamini_hochberg=float(benjamini_hochberg[row]),
        )
        for row, (index, table) in enumerate(zip(present, tables, strict=True))
    ]
