"""Effect sizes of paired comparisons: difference of accuracy, odds ratio, Cohen's g, and reduction of errors.

None of them is "Cohen's d": a bootstrap mean divided by its standard error is a z value that grows with the
number of items, and d over four class scores treats the classes as a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import Result, class_indices, open_interval, same_length
from agnews_exp.evaluation.metrics import cohen_kappa, confusion_matrix, margins_of_confusion, names_of_classes
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.mcnemar import PairedCounts
from agnews_exp.evaluation.tasks import task_of


@dataclass(frozen=True)
class ClassAgreement(Result):
    """Items of one true class (or all), by who is right."""

    class_name: str  # the true class; ``all`` for the total
    both_right: int  # items right by both
    only_a: int  # items right by model A only
    only_b: int  # items right by model B only
    same_wrong: int  # items to which both give the same wrong class
    different_wrong: int  # items to which both give wrong classes that differ

    @property
    def agreement(self) -> float:
        """Share of items to which both give the same class; NaN without items."""
        n = self.both_right + self.only_a + self.only_b + self.same_wrong + self.different_wrong
        return (self.both_right + self.same_wrong) / n if n else float("nan")


@dataclass(frozen=True, eq=False)
class AgreementTable(Result):
    """Agreement of two models."""

    by_class: tuple[ClassAgreement, ...]  # one row a true class, then all
    answers: NDArray[np.int64]  # shape (K, K), items by A's class (rows) and B's (columns)
    kappa: float  # Cohen's kappa of the two models' answers: agreement beyond what their class shares give
    # Of the items that at least one gets wrong, the share that both get wrong (Jaccard index of the two sets of
    # errors); NaN when nobody errs. Near 1, combining the two gains nothing.
    shared_errors: float
    shared_errors_by_chance: float  # what it would be if the two erred independently at their error rates


def agreement_table(
    y_true: ArrayLike, pred_a: ArrayLike, pred_b: ArrayLike, class_names: Sequence[str] | None = None
) -> AgreementTable:
    """Count where two models agree, by true class; all arrays have shape (n,)."""
    truth = class_indices(y_true, "y_true")
    a, b = class_indices(pred_a, "pred_a"), class_indices(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)

    def row(name: str, items: NDArray[np.bool_]) -> ClassAgreement:
        right_a, right_b, same = (a == truth) & items, (b == truth) & items, (a == b) & items
        both_wrong = items & ~right_a & ~right_b
        cells = right_a & right_b, right_a & ~right_b, right_b & ~right_a, both_wrong & same, both_wrong & ~same
        return ClassAgreement(name, *(int(np.count_nonzero(cell)) for cell in cells))

    rows = [row(name, truth == index) for index, name in enumerate(names)]
    total = row("all", np.ones(len(truth), dtype=bool))
    answers = confusion_matrix(a, b, len(names))
    both_wrong = total.same_wrong + total.different_wrong
    errors_a, errors_b = ((both_wrong + only) / len(truth) for only in (total.only_b, total.only_a))
    either = errors_a + errors_b - errors_a * errors_b
    some_wrong = both_wrong + total.only_a + total.only_b
    return AgreementTable(
        by_class=(*rows, total),
        answers=answers,
        kappa=float(cohen_kappa(margins_of_confusion(answers))),
        shared_errors=both_wrong / some_wrong if some_wrong else float("nan"),
        shared_errors_by_chance=errors_a * errors_b / either if either else float("nan"),
    )


@dataclass(frozen=True)
class Effect(Result):
    """An effect size with its interval."""

    estimate: float  # the value; infinite or NaN where a count is zero
    low: float  # lower end
    high: float  # upper end


@dataclass(frozen=True)
class EffectSizes(Result):
    """Effect sizes of a paired comparison of A with B; above their neutral value when A is better."""

    risk_difference: Effect  # accuracy of A minus accuracy of B, with the interval of Bonett and Price (2012)
    # Items right by A only / items right by B only (the conditional odds ratio); exact interval from the binomial
    # distribution. Neutral value 1.
    discordant_odds_ratio: Effect
    # Share of A among the discordant items minus 1/2 (Cohen 1988); same exact interval. Neutral 0; .05 is called small,
    # .15 medium, .25 large.
    cohens_g: Effect
    error_reduction: float  # 1 minus error rate of A / error rate of B: the share of B's errors that A saves
    level: float


def effect_sizes(counts: PairedCounts, level: float = 0.95) -> EffectSizes:
    """Return the effect sizes of a paired comparison."""
    open_interval(level, "level")
    b, c, n = counts.only_a, counts.only_b, counts.n_items
    share_low, share_high = _exact_interval(b, b + c, level)
    odds = Effect(_divide(b, c), _odds(share_low), _odds(share_high))
    g = Effect(_divide(b, b + c) - 0.5, share_low - 0.5, share_high - 0.5)
    z = float(stats.norm.ppf((1 + level) / 2))
    # Bonett and Price 2012: one item added to each discordant cell.
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    reach = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    difference = Effect((b - c) / n, max(-1.0, p - q - reach), min(1.0, p - q + reach))
    return EffectSizes(difference, odds, g, 1 - _divide(counts.errors_a, counts.errors_b), level)


def accuracy_interval(n_right: int, n_items: int, level: float = 0.95) -> Effect:
    """Return accuracy with Wilson's score interval (1927), which stays sensible at 0 and 1 errors."""
    open_interval(level, "level")
    if not 0 <= n_right <= n_items or n_items == 0:
        raise DataError(f"n_right must lie between 0 and n_items > 0, got {n_right} of {n_items}")
    interval = stats.binomtest(n_right, n_items).proportion_ci(level, method="wilson")
    return Effect(n_right / n_items, float(interval.low), float(interval.high))


def metric_interval(
    y_true: ArrayLike, y_pred: ArrayLike, metric: str, class_names: Sequence[str], *, resamples: int = 2000
) -> tuple[float, float]:
    """Return one model's 95 % interval of a metric of counts: Wilson's for accuracy, else the percentile bootstrap's.

    True classes and answers have shape (n,), or are sets, shape (n, K).

    Raises:
        ConfigError: The metric is unknown, or counts do not determine it.
    """
    task = task_of(y_true)
    if metric in task.shares:
        right = task.right(np.asarray(y_true), np.asarray(y_pred))
        found = accuracy_interval(int(np.sum(right)), len(right))
        return found.low, found.high
    return bootstrap_metric(y_true, y_pred, metric, resamples=resamples, class_names=class_names).percentile


def difference_p_equivalent(counts: PairedCounts, margin: float) -> float:
    """Return the p-value of two one-sided tests that accuracies differ by ``margin`` or more (Bonett, Price 2012).

    Unlike the bootstrap's it is right where the two models never disagree: one item is added to each discordant cell.
    """
    p, q = ((count + 1) / (counts.n_items + 2) for count in (counts.only_a, counts.only_b))
    error = math.sqrt((p + q - (p - q) ** 2) / (counts.n_items + 2))
    return float(stats.norm.sf((margin - abs(p - q)) / error))


def pooled_cohens_d(scores_a: ArrayLike, scores_b: ArrayLike) -> float:
    """Return Cohen's d of two groups of scores: difference of means / sqrt of the mean of the two variances.

    For independent scores such as seeds. Given for checking published values; folds or classes of one data set are no
    independent sample.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.ndim != 1 or b.ndim != 1 or min(len(a), len(b)) < 2:
        raise DataError("scores_a and scores_b must be lists of two or more scores")
    pooled_variance = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    return _divide(float(a.mean() - b.mean()), math.sqrt(float(pooled_variance)))


def _exact_interval(successes: int, trials: int, level: float) -> tuple[float, float]:
    if trials == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def _divide(numerator: float, denominator: float) -> float:
    if denominator != 0:
        return numerator / denominator
    return math.nan if numerator == 0 else math.copysign(math.inf, numerator)


def _odds(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)
