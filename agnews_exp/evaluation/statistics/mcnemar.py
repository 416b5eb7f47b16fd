"""McNemar's test of whether two models are right equally often on the same items, and its power.

Only discordant items count: those that exactly one of the two models gets right. Under the null hypothesis
"right by A only" is Binomial(m, 1/2) of the m discordant items. The four variants answer the same question:

- ``exact``: the binomial test itself; never rejects too often, usually too seldom.
- ``mid_p``: the exact p-value minus half the probability of the observed outcome (Lancaster 1961). Nearest to the
  nominal rate in the comparison of Fagerland, Lydersen and Laake (2013), hence our default.
- ``corrected``: chi-square with Edwards' continuity correction, (|b - c| - 1)^2 / (b + c); conservative.
- ``uncorrected``: chi-square without it, (b - c)^2 / (b + c); needs some 25 discordant items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from agnews_exp.core.errors import DataError, unknown_name
from agnews_exp.evaluation.inputs import FloatArray, Result, adjust, open_interval, same_length
from agnews_exp.evaluation.metrics import CountMetric, count_metric, names_of_classes
from agnews_exp.evaluation.statistics.bootstrap import Cells, Scored, cluster_numbers
from agnews_exp.evaluation.tasks import task_of


@dataclass(frozen=True)
class DetectableDifference(Result):
    """The smallest difference of accuracy that a comparison on these items can show.

    Attributes:
        discordant_rate: Share of items that exactly one model gets right (assumed, or taken from the data).
        detectable: Smallest true difference of accuracy found with that chance; NaN when none can be found.
    """

    n_items: int
    discordant_rate: float
    alpha: float
    power: float
    detectable: float


def mcnemar_power(n_items: int, discordant_rate: float, difference: float, *, alpha: float = 0.05) -> float:
    """Return the chance that McNemar's mid-p test rejects, exactly (summed over the number of discordant items).

    ``discordant_rate`` in (0, 1] is the expected share of items that exactly one model gets right, ``difference`` the
    true accuracy of A minus that of B, at most that rate in size.

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
    critical = _critical_count(m, alpha)
    share_a = min(1.0, max(0.0, 0.5 + difference / (2 * discordant_rate)))
    rejects = stats.binom.cdf(critical, m, share_a) + stats.binom.cdf(critical, m, 1 - share_a)
    return float(np.sum(stats.binom.pmf(m, n_items, discordant_rate) * rejects))


def _critical_count(m: np.ndarray, alpha: float) -> np.ndarray:
    """Return the largest smaller discordant count that is significant among m discordant items; -1 for none."""
    guess = stats.binom.ppf(alpha / 2, m, 0.5)
    critical = np.full(m.shape, -1.0)
    for offset in (-2, -1, 0, 1):
        candidate = guess + offset
        p_value = 2 * stats.binom.cdf(candidate, m, 0.5) - stats.binom.pmf(candidate, m, 0.5)
        fits = (candidate >= 0) & (2 * candidate < m) & (p_value <= alpha)
        critical = np.where(fits, candidate, critical)
    return critical


def smallest_detectable_difference(
    n_items: int,
    discordant_rate: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> DetectableDifference:
    """Return the smallest difference of accuracy that this many items show with this power.

    ``discordant_rate`` in (0, 1] is about the error rate for two good, different models; for a family divide ``alpha``
    by the number of comparisons.
    """
    _check(n_items, discordant_rate, alpha)
    open_interval(power, "power")

    def shortfall(difference: float) -> float:
        return mcnemar_power(n_items, discordant_rate, difference, alpha=alpha) - power

    if shortfall(discordant_rate) < 0:
        detectable = math.nan
    else:
        detectable = float(optimize.brentq(shortfall, 0.0, discordant_rate, xtol=1e-7))
    return DetectableDifference(n_items, discordant_rate, alpha, power, detectable)


def _check(n_items: int, discordant_rate: float, alpha: float) -> None:
    open_interval(alpha, "alpha")
    if n_items < 1:
        raise DataError(f"n_items must be at least 1, got {n_items}")
    if not 0 < discordant_rate <= 1:
        raise DataError(f"discordant_rate must lie in (0, 1], got {discordant_rate}")


@dataclass(frozen=True)
class RandomisationTest(Result):
    """Result of the randomisation test of a metric's difference.

    Attributes:
        difference: A minus B on the items themselves.
        p_value: Two-sided, (1 + swaps at least as extreme) / (1 + swaps): never below ``smallest_p_value``.
        swaps: Number of random swaps.
        smallest_p_value: 1 / (1 + swaps).
    """

    metric: str
    difference: float
    p_value: float
    swaps: int
    smallest_p_value: float


def randomisation_test(
    y_true: ArrayLike,
    output_a: ArrayLike,
    output_b: ArrayLike,
    metric: Scored = "macro_f1",
    *,
    swaps: int = 10_000,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
) -> RandomisationTest:
    """Test that it does not matter which model gave which answer.

    Under the null hypothesis the two answers to each item are exchangeable, so each pair is swapped with probability
    1/2, those of one cluster together, and the metric's difference is taken anew. Outputs, metric, ``class_names`` and
    ``clusters`` are as for :func:`~.bootstrap.bootstrap_metric`.
    """
    if swaps < 100:
        raise DataError(f"swaps must be at least 100 for a test, got {swaps}")
    check = task_of(y_true).check
    truth = check(y_true, "y_true")
    rng = np.random.default_rng(seed)
    member = None if clusters is None else cluster_numbers(clusters, len(truth))
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        a, b = np.asarray(output_a), np.asarray(output_b)
        same_length(y_true=truth, output_a=a, output_b=b)
        observed = metric(truth, a) - metric(truth, b)
        units = np.arange(len(truth)) if member is None else member
        shape = (int(units.max()) + 1,) + (1,) * (a.ndim - 1)
        null = np.empty(swaps)
        for index in range(swaps):
            swap = (rng.random(shape) < 0.5)[units]
            null[index] = metric(truth, np.where(swap, b, a)) - metric(truth, np.where(swap, a, b))
    else:
        name = metric
        a, b = check(output_a, "output_a"), check(output_b, "output_b")
        same_length(y_true=truth, output_a=a, output_b=b)
        names = names_of_classes(truth, a, b, class_names=class_names)
        cells = Cells.group(truth, [a, b], len(names), member)
        observed, null = _swapped_differences(cells, count_metric(name, names), swaps, rng)
    extreme = int(np.sum(np.abs(null) >= abs(observed) - 1e-12))
    return RandomisationTest(name, float(observed), (1 + extreme) / (1 + swaps), swaps, 1 / (1 + swaps))


def _swapped_differences(
    cells: Cells, metric: CountMetric, swaps: int, rng: np.random.Generator
) -> tuple[float, FloatArray]:
    """Return the observed difference and those of random swaps, shape (R,).

    Each cell (t, i, j) is paired with its mirror (t, j, i): swapping s of its n items moves them there.
    """
    both = replace(
        cells,
        truth=np.concatenate([cells.truth, cells.truth]),
        predictions=np.concatenate([cells.predictions, cells.predictions[::-1]], axis=1),
        counts=np.concatenate([cells.counts, np.zeros_like(cells.counts)]),
        clusters=None,
    )

    def difference(weights: FloatArray) -> FloatArray:
        value: FloatArray = metric(both.margins(weights, 0)) - metric(both.margins(weights, 1))
        return value

    observed = float(difference(both.counts[None, :].astype(np.float64))[0])
    null = np.empty(swaps)
    step = min(both.chunk(swaps), cells.chunk(swaps))
    for start in range(0, swaps, step):
        rows = min(step, swaps - start)
        if cells.clusters is None:
            swapped = rng.binomial(cells.counts, 0.5, size=(rows, len(cells.counts))).astype(np.float64)
        else:
            swapped = (rng.random((rows, cells.clusters.shape[0])) < 0.5).astype(np.float64) @ cells.clusters
        weights = np.concatenate([cells.counts - swapped, swapped], axis=1)
        null[start : start + rows] = difference(weights)
    return observed, null


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
        recall_a: Model A's recall; of sets of classes, the share of all items on which it is right about this one.
        recall_b: Model B's, likewise.
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
    """Count the items that both, one or none of the models get right: the class of each, or its whole set."""
    task = task_of(y_true)
    truth, a, b = task.check(y_true, "y_true"), task.check(pred_a, "pred_a"), task.check(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    return _counts(task.right(truth, a), task.right(truth, b))


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
    """Test that two models are right equally often by a variant that the module's description names.

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
    """Test each true class's items apart, with p-values adjusted over the classes; absent classes are left out.

    True classes and both models' answers have shape (n,); or they are sets, shape (n, K), and each class is tested on
    all items, by who is right about it.
    """
    task = task_of(y_true)
    truth, a, b = task.check(y_true, "y_true"), task.check(pred_a, "pred_a"), task.check(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)
    tables, present = [], []
    for index in range(len(names)):
        items, right_a = task.of_class(truth, a, index)
        if items.any():
            right_b = task.of_class(truth, b, index)[1]
            present.append(index)
            tables.append(_counts(right_a[items], right_b[items]))
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
