"""All tests, intervals and effect sizes for two models' predictions of the same items, in one result."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from agnews_exp.core.errors import DataError
from agnews_exp.core.numbers import format_p
from agnews_exp.evaluation.inputs import Result, adjust, open_interval, same_length
from agnews_exp.evaluation.metrics import Own, names_of_classes
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import (
    MARGIN,
    MOST_CALLS,
    PairedBootstrap,
    bootstrap_difference,
    joint_bootstrap,
    scored,
)
from agnews_exp.evaluation.statistics.effect_size import EffectSizes, difference_p_equivalent, effect_sizes
from agnews_exp.evaluation.statistics.mcnemar import (
    METHODS,
    ClassTest,
    DetectableDifference,
    McNemarMethod,
    McNemarTest,
    PairedCounts,
    RandomisationTest,
    mcnemar_by_class,
    mcnemar_test,
    paired_counts,
    randomisation_test,
    smallest_detectable_difference,
)
from agnews_exp.evaluation.tasks import task_of

FEW_DISCORDANT = 25  # below this the two chi-square approximations are poor
FEW_CLUSTERS = 30  # below this intervals over clusters are too narrow
POWER = 0.8
"""Chance with which the smallest detectable difference is found."""

Outcome = Literal["different", "equivalent", "unknown", "the same"]


@dataclass(frozen=True)
class MetricComparison(Result):
    """One metric of two models with its tests and intervals.

    Attributes:
        bootstrap: Intervals of A, of B and of A minus B.
        randomisation: Paired approximate randomisation test of the difference.
    """

    bootstrap: PairedBootstrap
    randomisation: RandomisationTest


@dataclass(frozen=True)
class ComparisonResult(Result):
    """Two models on the same items; differences are A minus B.

    Attributes:
        counts: Items right by both, one or none.
        metrics: Comparison by metric; the first is the primary one, which the verdict is about.
        mcnemar: The variants of the test on accuracy by name.
        test: Name of the test of the primary metric: McNemar's mid-p on accuracy, paired randomisation on others, and
            on all of rows in groups.
        p_value: Its p-value, which represents this pair in a family of comparisons.
        p_holm: ``p_value`` adjusted over the family; the same number when the family is this pair alone.
        p_benjamini_hochberg: Likewise with the Benjamini-Hochberg method.
        p_equivalent: Of the test that the primary metric differs by the margin or more (TOST), Holm-adjusted.
        interval: Of the difference of the primary metric; in a family it holds for all pairs at once (max-T).
        family: Number of pairs that are compared.
        by_class: Tests on the items of each true class.
        effect: Effect sizes.
        detectable: The smallest difference of accuracy that these items can show, at the level of Holm's first step.
        detectable_primary: The same of the primary metric, from its standard error; NaN where nothing varies.
        right_share: Name of the share of items that are right, which McNemar's tests are about.
        same_answers: Whether both give every item the same answer, and the primary metric the same value.
        notes: Reservations about the numbers.
    """

    name_a: str
    name_b: str
    n_items: int
    counts: PairedCounts
    metrics: dict[str, MetricComparison]
    mcnemar: dict[str, McNemarTest]
    test: str
    p_value: float
    p_holm: float
    p_benjamini_hochberg: float
    p_equivalent: float
    interval: tuple[float, float]
    family: int
    by_class: list[ClassTest]
    effect: EffectSizes
    detectable: DetectableDifference | None
    detectable_primary: float
    alpha: float
    right_share: str
    same_answers: bool
    notes: list[str]

    @property
    def primary(self) -> str:
        """Name of the metric that the verdict is about."""
        return next(iter(self.metrics))

    @property
    def difference(self) -> float:
        """Difference of the primary metric."""
        return self.metrics[self.primary].bootstrap.difference.estimate

    @property
    def outcome(self) -> Outcome:
        """Whether the two are told apart, shown to be equivalent within the margin, answer alike, or none of these."""
        if self.p_holm <= self.alpha:
            return "different"
        if self.p_equivalent <= self.alpha:
            return "equivalent"
        return "the same" if self.same_answers else "unknown"

    @property
    def verdict(self) -> str:
        """The outcome in words, with the numbers behind it; McNemar's test speaks for accuracy beside it."""
        if self.same_answers:
            pair, n = f"{self.name_a} and {self.name_b}", f"{self.n_items:,} items"
            if self.counts.both_right == self.n_items:
                return (
                    f"No difference to see: neither {self.name_a} nor {self.name_b} errs in {n}. "
                    "Harder or more items would tell them apart, or look for what gives the classes away: agnews check."
                )
            said = f"{self.outcome.capitalize()}: {pair} give the same answer to each of {n}"
            return f"{said}; take the cheaper one, or judge more items."
        pair, margin = f"{self.name_a} and {self.name_b}", self.metrics[self.primary].bootstrap.margin
        low, high = self.interval
        adjusted = "adjusted p" if self.family > 1 else "p"
        figures = f"{self.name_a} minus {self.name_b} is {self.difference:+.4f} [{low:+.4f}, {high:+.4f}],"
        figures += f" {format_p(self.p_holm, adjusted)} ({self.test})"
        within = f"equivalent within {margin:g} ({format_p(self.p_equivalent, adjusted)}, TOST)"
        if self.outcome == "different":
            higher, lower = (self.name_a, self.name_b) if self.difference > 0 else (self.name_b, self.name_a)
            said = f"Different: {higher} has a higher {self.primary} than {lower}: {figures}"
            said += f", yet {within}." if self.p_equivalent <= self.alpha else "."
        elif self.outcome == "equivalent":
            said = f"Equivalent: by {self.primary}, {pair} are {within}: {figures}."
        else:
            said = f"Unknown: {pair} are neither told apart by {self.primary} nor shown equivalent within {margin:g}:"
            said += f" {figures}."
            if math.isfinite(self.detectable_primary):
                among = f" among {self.family} comparisons" if self.family > 1 else ""
                said += f" These {self.n_items:,} items show a true difference of {self.detectable_primary:.4f} with a"
                said += f" chance of {100 * POWER:.0f} %{among}; a smaller one may well exist."
        if self.primary != "accuracy":
            share, p_value = self.right_share.capitalize(), self.mcnemar["mid_p"].p_value
            said += f" {share} alone: {format_p(p_value)} (McNemar, not adjusted)."
        return said


def compare_predictions(
    y_true: ArrayLike,
    pred_a: ArrayLike | Predictions,
    pred_b: ArrayLike | Predictions,
    *,
    name_a: str = "A",
    name_b: str = "B",
    class_names: Sequence[str] | None = None,
    metrics: Sequence[str] = ("macro_f1", "accuracy"),
    own: Own = (),
    resamples: int = 10_000,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
    margin: float = MARGIN,
    family: int = 1,
    clusters: ArrayLike | None = None,
) -> ComparisonResult:
    """Compare two models' predictions for the same n items: class indices, shape (n,), or answers with probabilities.

    The verdict is about the first of ``metrics`` (names of the register, or of ``own`` ones) at ``alpha``; models whose
    values of it differ by less than ``margin`` count as equivalent. Metrics that counts of labels do not determine take
    :data:`MOST_CALLS` resamples and swaps at most. ``family`` is the number of pairs that are compared: the detectable
    difference is that of Holm's first step. ``clusters``, shape (n,), are groups of items that are not independent of
    each other: whole groups are resampled and swapped, for accuracy too, as McNemar's test takes items as independent.

    Raises:
        DataError: The arrays do not describe the same items, or a value is out of range.
        ConfigError: Unknown metric, or one of probabilities for a model that gives none.
    """
    open_interval(alpha, "alpha")
    task = task_of(y_true)
    truth = task.check(y_true, "y_true")
    answers = [p if isinstance(p, Predictions) else Predictions(np.asarray(p)) for p in (pred_a, pred_b)]
    a, b = task.check(answers[0].labels, "pred_a"), task.check(answers[1].labels, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)
    counts = paired_counts(truth, a, b)
    by_metric = {}
    for metric in metrics:
        entry, (one, other) = scored(metric, answers, names, own)
        calls = resamples if isinstance(entry, str) else min(resamples, MOST_CALLS)
        by_metric[metric] = MetricComparison(
            bootstrap_difference(
                truth, one, other, entry, resamples=calls, level=level, seed=seed, class_names=names,
                margin=margin, clusters=clusters,
            ),
            randomisation_test(truth, one, other, entry, swaps=calls, seed=seed, class_names=names, clusters=clusters),
        )  # fmt: skip
    tests: dict[str, McNemarTest] = {method: mcnemar_test(counts, method) for method in METHODS}
    chosen: McNemarMethod = "mid_p"
    primary, first = next(iter(by_metric.items()))
    found = first.bootstrap.difference
    effect, p_equivalent = effect_sizes(counts, level), difference_p_equivalent(counts, margin)
    if primary in task.shares and clusters is None:
        test, p_value = "McNemar, mid-p", tests[chosen].p_value
        interval = effect.risk_difference.low, effect.risk_difference.high
    else:
        test = "paired randomisation" + (" of whole groups" if clusters is not None else "")
        p_value, interval = first.randomisation.p_value, found.percentile
        p_equivalent = max(p_equivalent, first.bootstrap.p_equivalent)
    detectable = None
    if counts.discordant:
        rate = counts.discordant / len(truth)
        detectable = smallest_detectable_difference(len(truth), rate, alpha=alpha / family, power=POWER)
    reach = float(special.ndtri(1 - alpha / family / 2) + special.ndtri(POWER)) * found.standard_error
    if test.startswith("McNemar"):
        reach = detectable.detectable if detectable else math.nan
    return ComparisonResult(
        name_a=name_a,
        name_b=name_b,
        n_items=len(truth),
        counts=counts,
        metrics=by_metric,
        mcnemar=tests,
        test=test,
        p_value=p_value,
        p_holm=p_value,
        p_benjamini_hochberg=p_value,
        p_equivalent=p_equivalent,
        interval=interval,
        family=family,
        by_class=mcnemar_by_class(truth, a, b, names, chosen),
        effect=effect,
        detectable=detectable,
        detectable_primary=reach or math.nan,
        alpha=alpha,
        right_share=task.right_share,
        same_answers=bool(np.array_equal(a, b)) and found.estimate == 0,
        notes=_notes(counts, by_metric, 0 if clusters is None else len(np.unique(np.asarray(clusters)))),
    )


def compare_all(
    y_true: ArrayLike, predictions: Mapping[str, ArrayLike | Predictions], *, against: str | None = None, **options: Any
) -> list[ComparisonResult]:
    """Compare every pair of models, or all with a baseline; p-values and intervals allow for all pairs.

    ``predictions`` has each model's class indices, shape (n,), or its answers, by name; ``against`` names a baseline,
    model B of all pairs; the options are those of :func:`compare_predictions`.

    Raises:
        DataError: Fewer than two models, or ``against`` is none of them.
    """
    names = list(predictions)
    if len(names) < 2:
        raise DataError(f"a comparison needs two models or more, got {len(names)}")
    if against is not None and against not in predictions:
        raise DataError(f"against must be one of the models ({', '.join(names)}), got '{against}'")
    pairs = [(a, b) for a, b in itertools.combinations(names, 2) if against is None]
    pairs += [(name, against) for name in names if against is not None and name != against]
    results = [
        compare_predictions(y_true, predictions[a], predictions[b], name_a=a, name_b=b, family=len(pairs), **options)
        for a, b in pairs
    ]
    if len(pairs) < 2:
        return results
    p_values = [result.p_value for result in results]
    holm, benjamini_hochberg = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg")
    equivalent = adjust([result.p_equivalent for result in results])
    answers = [p if isinstance(p, Predictions) else Predictions(np.asarray(p)) for p in predictions.values()]
    given = [np.asarray(labels) for labels in (y_true, *(p.labels for p in answers))]
    classes = names_of_classes(*given, class_names=options.get("class_names"))
    metric, outputs = scored(results[0].primary, answers, classes, options.get("own", ()))
    joint = joint_bootstrap(
        y_true, dict(zip(names, outputs, strict=True)), metric, class_names=classes, seed=options.get("seed", 0),
        resamples=results[0].metrics[results[0].primary].bootstrap.difference.resamples,
        clusters=options.get("clusters"),
    )  # fmt: skip
    intervals = joint.differences(pairs, results[0].effect.level)
    return [
        replace(
            result, p_holm=float(holm[row]), p_benjamini_hochberg=float(benjamini_hochberg[row]),
            p_equivalent=float(equivalent[row]), interval=intervals[row],
        )
        for row, result in enumerate(results)
    ]  # fmt: skip


def _notes(counts: PairedCounts, metrics: dict[str, MetricComparison], clusters: int) -> list[str]:
    notes = [
        "Intervals and tests are over test items with the trained models fixed; they say nothing about retraining"
        " with another seed."
    ]
    if clusters:
        few = (
            f" With fewer than {FEW_CLUSTERS} groups these intervals are too narrow." if clusters < FEW_CLUSTERS else ""
        )
        notes.append(
            f"The rows come in {clusters:,} groups (evaluation.cluster_column): verdicts, intervals of metrics and"
            " randomisation tests draw whole groups. McNemar's tests, the odds ratio and the tests by class take rows"
            f" as independent.{few}"
        )
    if counts.discordant == 0:
        notes.append("Both models are right on exactly the same items: nothing tells their accuracy apart.")
    elif counts.discordant < FEW_DISCORDANT:
        notes.append(
            f"Only {counts.discordant} items are right by exactly one model: use the exact or mid-p test, not the"
            " chi-square approximations."
        )
    if 0 in (counts.errors_a, counts.errors_b):
        notes.append(
            "A model without errors: its interval ends where an error rate at Clopper and Pearson's limit, on the class"
            " that it hurts most, would take it."
        )
    tests = {name: metric.randomisation for name, metric in metrics.items()}
    for swaps in sorted({test.swaps for test in tests.values()}, reverse=True):
        at_floor = [n for n, t in tests.items() if t.swaps == swaps and t.p_value * (swaps + 1) < 1.5]
        if at_floor:
            notes.append(
                f"No random swap was as extreme for {', '.join(at_floor)}: p is below 1/{swaps}, not equal to it."
            )
    return notes
