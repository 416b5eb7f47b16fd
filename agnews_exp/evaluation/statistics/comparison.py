"""All tests, intervals and effect sizes for two models' predictions of the same items, in one result."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import Result, adjust, class_indices, open_interval, same_length
from agnews_exp.evaluation.metrics import Metric, Own, find_metric, names_of_classes
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import MetricFunction, PairedBootstrap, bootstrap_difference
from agnews_exp.evaluation.statistics.effect_size import EffectSizes, effect_sizes
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

FEW_DISCORDANT = 25  # below this the two chi-square approximations are poor
MOST_CALLS = 1_000
"""Resamples at most of a metric that counts do not determine: each calls its function anew."""


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
        name_a: Name of model A.
        name_b: Name of model B.
        n_items: Number of items.
        counts: Items right by both, one or none.
        agreement: Share of items to which both give the same class.
        either_right: Share of items that at least one gets right.
        metrics: Comparison by metric.
        mcnemar: The test's variants by name.
        p_value: Mid-p McNemar, the p-value that represents this pair in a family of comparisons.
        p_holm: ``p_value`` adjusted over the family; the same number when the family is this pair alone.
        p_benjamini_hochberg: Likewise with the Benjamini-Hochberg method.
        by_class: Tests on the items of each true class.
        effect: Effect sizes.
        detectable: The smallest difference that this number of items can show.
        alpha: Level at which the verdict speaks of a difference.
        notes: Reservations about the numbers.
    """

    name_a: str
    name_b: str
    n_items: int
    counts: PairedCounts
    agreement: float
    either_right: float
    metrics: dict[str, MetricComparison]
    mcnemar: dict[str, McNemarTest]
    p_value: float
    p_holm: float
    p_benjamini_hochberg: float
    by_class: list[ClassTest]
    effect: EffectSizes
    detectable: DetectableDifference | None
    alpha: float
    notes: list[str]

    @property
    def verdict(self) -> str:
        """One sentence on accuracy: which model is better, or that this test set does not tell them apart."""
        points = 100 * self.effect.risk_difference.estimate
        low, high = 100 * self.effect.risk_difference.low, 100 * self.effect.risk_difference.high
        figures = f"{points:+.2f} points of accuracy [{low:+.2f}, {high:+.2f}], adjusted p = {self.p_holm:.2g}"
        if self.p_holm <= self.alpha:
            better, worse = (self.name_a, self.name_b) if points > 0 else (self.name_b, self.name_a)
            return f"{better} is right more often than {worse}: {self.name_a} minus {self.name_b} is {figures}."
        sentence = f"{self.name_a} and {self.name_b} are not told apart: {figures}."
        if self.detectable is not None and np.isfinite(self.detectable.detectable):
            sentence += (
                f" These {self.n_items} items show a true difference of {100 * self.detectable.detectable:.2f} points"
                f" with a chance of {100 * self.detectable.power:.0f} %; a smaller one may well exist."
            )
        return sentence


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
) -> ComparisonResult:
    """Compare two models' predictions for the same items.

    Args:
        y_true: Shape (n,), true class indices.
        pred_a: Shape (n,), class indices given by model A, or its answers with probabilities.
        pred_b: The same of model B for the same items in the same order.
        name_a: Name of model A.
        name_b: Name of model B.
        class_names: The K class names.
        metrics: Names that :func:`~agnews_exp.evaluation.metrics.find_metric` knows.
        own: The user's own metrics that ``metrics`` may name.
        resamples: Bootstrap resamples, and random swaps, for each metric; at most :data:`MOST_CALLS` for one that
            counts of labels do not determine.
        level: Nominal coverage of all intervals.
        alpha: Level of the verdict and of the power figures.
        seed: Seed of resamples and swaps.

    Raises:
        DataError: The arrays do not describe the same items, or a value is out of range.
        ConfigError: Unknown metric, or one of probabilities for a model that gives none.
    """
    open_interval(alpha, "alpha")
    truth = class_indices(y_true, "y_true")
    answers = [p if isinstance(p, Predictions) else Predictions(np.asarray(p)) for p in (pred_a, pred_b)]
    a, b = class_indices(answers[0].labels, "pred_a"), class_indices(answers[1].labels, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)
    counts = paired_counts(truth, a, b)
    by_metric = {}
    for metric in metrics:
        by_metric[metric] = _compare_metric(metric, truth, answers, names, own, resamples, level, seed)
    tests: dict[str, McNemarTest] = {method: mcnemar_test(counts, method) for method in METHODS}
    chosen: McNemarMethod = "mid_p"
    p_value = tests[chosen].p_value
    detectable = None
    if counts.discordant:
        detectable = smallest_detectable_difference(len(truth), counts.discordant / len(truth), alpha=alpha)
    return ComparisonResult(
        name_a=name_a,
        name_b=name_b,
        n_items=len(truth),
        counts=counts,
        agreement=float(np.mean(a == b)),
        either_right=counts.either_right,
        metrics=by_metric,
        mcnemar=tests,
        p_value=p_value,
        p_holm=p_value,
        p_benjamini_hochberg=p_value,
        by_class=mcnemar_by_class(truth, a, b, names, chosen),
        effect=effect_sizes(counts, level),
        detectable=detectable,
        alpha=alpha,
        notes=_notes(counts, by_metric),
    )


def _compare_metric(
    name: str,
    truth: NDArray[np.int64],
    answers: Sequence[Predictions],
    class_names: tuple[str, ...],
    own: Own,
    resamples: int,
    level: float,
    seed: int,
) -> MetricComparison:
    """Resample one metric: by counts where these determine it, else by calling its function."""
    entry = find_metric(name, class_names, own).metric
    metric: str | MetricFunction = name
    outputs: list[NDArray[Any]] = [answer.labels for answer in answers]
    if entry.of in ("labels", "probabilities"):
        metric, resamples = _of_rows(entry), min(resamples, MOST_CALLS)
        outputs = [_packed(entry, answer) for answer in answers]
    one, other = outputs
    return MetricComparison(
        bootstrap_difference(
            truth, one, other, metric, resamples=resamples, level=level, seed=seed, class_names=class_names,
            jackknife=isinstance(metric, str),
        ),
        randomisation_test(truth, one, other, metric, swaps=resamples, seed=seed, class_names=class_names),
    )  # fmt: skip


def _packed(entry: Metric, answer: Predictions) -> NDArray[np.float64]:
    """Return a metric's input as one array of n rows, which resampling can cut: labels, then probabilities.

    Raises:
        ConfigError: The metric needs probabilities, and there are none.
    """
    columns: list[NDArray[Any]] = [answer.labels[:, None]]
    if answer.probabilities is not None:
        columns.append(answer.probabilities)
    elif entry.of == "probabilities":
        raise ConfigError(f"The metric '{entry.name}' needs probabilities, and one of the models gives none.")
    return np.hstack(columns).astype(np.float64)


def _of_rows(entry: Metric) -> MetricFunction:
    """Return a metric of labels or probabilities as a function of true classes and packed answers."""

    def metric(truth: NDArray[np.int64], rows: NDArray[np.float64]) -> float:
        probabilities = rows[:, 1:] if rows.shape[1] > 1 else None
        return float(entry.score(truth, rows[:, 0].astype(np.int64), probabilities))

    metric.__name__ = entry.name
    return metric


def compare_all(
    y_true: ArrayLike,
    predictions: Mapping[str, ArrayLike | Predictions],
    *,
    class_names: Sequence[str] | None = None,
    metrics: Sequence[str] = ("macro_f1", "accuracy"),
    own: Own = (),
    resamples: int = 10_000,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
    against: str | None = None,
) -> list[ComparisonResult]:
    """Compare every pair of models, or every model with one, with p-values adjusted over all these pairs.

    Args:
        y_true: Shape (n,), true class indices.
        predictions: Each model's class indices, shape (n,), or its answers, by its name; two models or more.
        class_names: The K class names.
        metrics: As for :func:`compare_predictions`.
        own: As for :func:`compare_predictions`.
        resamples: As for :func:`compare_predictions`.
        level: As for :func:`compare_predictions`.
        alpha: As for :func:`compare_predictions`; held for the family by Holm's method.
        seed: As for :func:`compare_predictions`.
        against: Name of a baseline: then only the pairs with it are compared, it being model B.

    Raises:
        DataError: Fewer than two models, or ``against`` is none of them.
    """
    names = list(predictions)
    if len(names) < 2:
        raise DataError(f"a comparison needs two models or more, got {len(names)}")
    if against is not None and against not in predictions:
        raise DataError(f"against must be one of the models ({', '.join(names)}), got '{against}'")
    if against is None:
        pairs = list(itertools.combinations(names, 2))
    else:
        pairs = [(name, against) for name in names if name != against]
    results = [
        compare_predictions(
            y_true,
            predictions[a],
            predictions[b],
            name_a=a,
            name_b=b,
            class_names=class_names,
            metrics=metrics,
            own=own,
            resamples=resamples,
            level=level,
            alpha=alpha,
            seed=seed,
        )
        for a, b in pairs
    ]
    p_values = [result.p_value for result in results]
    holm, benjamini_hochberg = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg")
    return [
        replace(result, p_holm=float(holm[row]), p_benjamini_hochberg=float(benjamini_hochberg[row]))
        for row, result in enumerate(results)
    ]


def _notes(counts: PairedCounts, metrics: dict[str, MetricComparison]) -> list[str]:
    notes = [
        "Intervals and tests are over test items with the trained models fixed; they say nothing about retraining"
        " with another seed."
    ]
    if counts.discordant == 0:
        notes.append("Both models are right on exactly the same items: nothing tells their accuracy apart.")
    elif counts.discordant < FEW_DISCORDANT:
        notes.append(
            f"Only {counts.discordant} items are right by exactly one model: use the exact or mid-p test, not the"
            " chi-square approximations."
        )
    if 0 in (counts.errors_a, counts.errors_b):
        notes.append("A model without errors gets a bootstrap interval of no width: use accuracy_interval (Wilson).")
    undefined = [name for name, metric in metrics.items() if not metric.bootstrap.difference.bca_defined]
    if undefined:
        notes.append(f"BCa is not defined for {', '.join(undefined)}; the percentile interval stands in its place.")
    tests = {name: metric.randomisation for name, metric in metrics.items()}
    for swaps in sorted({test.swaps for test in tests.values()}, reverse=True):
        at_floor = [n for n, t in tests.items() if t.swaps == swaps and t.p_value * (swaps + 1) < 1.5]
        if at_floor:
            notes.append(
                f"No random swap was as extreme for {', '.join(at_floor)}: p is below 1/{swaps}, not equal to it."
            )
    return notes
