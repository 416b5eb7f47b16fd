"""Bootstrap intervals for one model's metric and for the paired difference of two models over the same items.

The items are resampled; the trained models stay fixed. The intervals therefore speak about other test sets of
this size from the same source, not about retraining (for that, compare several seeds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import FloatArray, Result, class_indices, open_interval, same_length
from agnews_exp.evaluation.metrics import CountMetric, Margins, count_metric, names_of_classes


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
    name: str, resampled: FloatArray, estimate: float, jackknife: tuple[FloatArray, FloatArray] | None, level: float
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


MAX_ELEMENTS = 4_000_000  # float64 values in one chunk's largest array: 32 MB


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells that hold at least one item.

    Attributes:
        truth: Shape (C,), true class of each cell.
        predictions: Shape (M, C), the class given by each of the M models.
        counts: Shape (C,), items in each cell, all >= 1.
        n_classes: K.
    """

    truth: NDArray[np.int64]
    predictions: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_classes: int

    @classmethod
    def group(cls, truth: NDArray[np.int64], predictions: list[NDArray[np.int64]], n_classes: int) -> Cells:
        """Group n items, given M models' predictions of shape (n,) each."""
        if n_classes ** (1 + len(predictions)) < 2**62:
            code = truth.copy()
            for predicted in predictions:
                code = code * n_classes + predicted
            _, first, counts = np.unique(code, return_index=True, return_counts=True)
        else:
            rows = np.stack([truth, *predictions], axis=1)
            _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
        stacked = np.stack([predicted[first] for predicted in predictions])
        return cls(truth[first], stacked, counts.astype(np.int64), n_classes)

    @property
    def n_items(self) -> int:
        """Number of items in all cells."""
        return int(self.counts.sum())

    def chunk(self, resamples: int) -> int:
        """Return how many resamples may be held in memory at once."""
        return max(1, min(resamples, MAX_ELEMENTS // max(len(self.counts), 3 * self.n_classes, self.n_classes**2)))

    def margins(self, weights: FloatArray, model: int) -> Margins:
        """Return the class counts of one model when cell c holds ``weights[..., c]`` items.

        Args:
            weights: Shape (R, C).
            model: Row of ``predictions``.
        """
        predicted = self.predictions[model]
        right = predicted == self.truth
        return Margins(
            hits=_sum_by(weights[:, right], self.truth[right], self.n_classes),
            support=_sum_by(weights, self.truth, self.n_classes),
            predicted=_sum_by(weights, predicted, self.n_classes),
        )

    def draw(self, rng: np.random.Generator, resamples: int) -> FloatArray:
        """Return bootstrap resamples as cell counts, shape (R, C); each row sums to the number of items."""
        n = self.n_items
        return rng.multinomial(n, self.counts / n, size=resamples).astype(np.float64)


def _sum_by(weights: FloatArray, groups: NDArray[np.int64], n_groups: int) -> FloatArray:
    """Sum the columns of ``weights`` (R, C) that belong to the same group, giving (R, n_groups)."""
    if n_groups * weights.shape[1] <= 4096:
        indicator = np.zeros((weights.shape[1], n_groups))
        indicator[np.arange(len(groups)), groups] = 1.0
        dense: FloatArray = weights @ indicator
        return dense
    from scipy.sparse import csr_array

    ones = (np.ones(len(groups)), (np.arange(len(groups)), groups))
    sparse: FloatArray = weights @ csr_array(ones, shape=(weights.shape[1], n_groups))
    return sparse


Outputs = NDArray[Any]
MetricFunction = Callable[[NDArray[np.int64], Outputs], float]
Metric = str | MetricFunction


def _check(resamples: int, level: float) -> None:
    open_interval(level, "level")
    if resamples < 100:
        raise DataError(f"resamples must be at least 100 for an interval, got {resamples}")


def _count_bootstrap(
    cells: Cells, metric: CountMetric, resamples: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray]]:
    """Return the M models' resampled metric (M, R), estimate (M,), and jackknife values (M, C) with counts (C,)."""
    models = range(len(cells.predictions))
    step = cells.chunk(resamples)
    resampled = np.empty((len(models), resamples))
    for start in range(0, resamples, step):
        weights = cells.draw(rng, min(step, resamples - start))
        for m in models:
            resampled[m, start : start + len(weights)] = metric(cells.margins(weights, m))
    counts = cells.counts.astype(np.float64)
    estimates = np.array([metric(cells.margins(counts[None, :], m))[0] for m in models])
    left_out = np.empty((len(models), len(counts)))
    step = cells.chunk(len(counts))
    for start in range(0, len(counts), step):
        # Leaving out any one item of a cell gives the same value, so one value per cell is the whole jackknife.
        rows = np.arange(start, min(start + step, len(counts)))
        weights = np.repeat(counts[None, :], len(rows), axis=0)
        weights[np.arange(len(rows)), rows] -= 1
        for m in models:
            left_out[m, rows] = metric(cells.margins(weights, m))
    return resampled, estimates, (left_out, counts)


def _index_chunks(rng: np.random.Generator, n: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield item numbers of the resamples, shape (r, n) with r n bounded."""
    step = max(1, min(resamples, MAX_ELEMENTS // n))
    for start in range(0, resamples, step):
        yield rng.integers(0, n, size=(min(step, resamples - start), n))


def _function_bootstrap(
    truth: NDArray[np.int64],
    outputs: Sequence[Outputs],
    metric: MetricFunction,
    resamples: int,
    rng: np.random.Generator,
    jackknife: bool,
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray] | None]:
    n = len(truth)
    resampled = np.empty((len(outputs), resamples))
    done = 0
    for chunk in _index_chunks(rng, n, resamples):
        for items in chunk:
            for m, output in enumerate(outputs):
                resampled[m, done] = metric(truth[items], output[items])
            done += 1
    estimates = np.array([metric(truth, output) for output in outputs], dtype=np.float64)
    if not jackknife:
        return resampled, estimates, None
    left_out = np.empty((len(outputs), n))
    keep = np.ones(n, dtype=bool)
    for item in range(n):
        keep[item] = False
        for m, output in enumerate(outputs):
            left_out[m, item] = metric(truth[keep], output[keep])
        keep[item] = True
    return resampled, estimates, (left_out, np.ones(n))


def _bootstrap(
    y_true: ArrayLike,
    outputs: dict[str, ArrayLike],
    metric: Metric,
    resamples: int,
    level: float,
    seed: int,
    class_names: Sequence[str] | None,
    jackknife: bool,
) -> tuple[str, FloatArray, FloatArray, tuple[FloatArray, FloatArray] | None]:
    _check(resamples, level)
    truth = class_indices(y_true, "y_true")
    rng = np.random.default_rng(seed)
    if callable(metric):
        arrays = {name: np.asarray(output) for name, output in outputs.items()}
        same_length(y_true=truth, **arrays)
        name = getattr(metric, "__name__", type(metric).__name__)
        return name, *_function_bootstrap(truth, list(arrays.values()), metric, resamples, rng, jackknife)
    predictions = {name: class_indices(output, name) for name, output in outputs.items()}
    same_length(y_true=truth, **predictions)
    names = names_of_classes(truth, *predictions.values(), class_names=class_names)
    cells = Cells.group(truth, list(predictions.values()), len(names))
    return metric, *_count_bootstrap(cells, count_metric(metric, names), resamples, rng)


def bootstrap_metric(
    y_true: ArrayLike,
    output: ArrayLike,
    metric: Metric = "macro_f1",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    jackknife: bool = True,
) -> BootstrapInterval:
    """Return one model's metric with percentile and BCa bootstrap intervals over the items.

    Args:
        y_true: Shape (n,), class indices.
        output: Shape (n,) class indices for a metric given by name; anything with n rows for a function.
        metric: A name that :func:`~agnews_exp.evaluation.metrics.count_metric` knows (vectorised), or a function
            ``(y_true, output) -> float`` (called once per resample, slow).
        resamples: Number of resamples, at least 100.
        level: Nominal coverage.
        seed: Seed of the resampling.
        class_names: The K class names; needed when the arrays might not hold every class or the metric names one.
        jackknife: False leaves out the n further calls that BCa needs when the metric is a function.
    """
    name, resampled, estimates, left_out = _bootstrap(
        y_true, {"output": output}, metric, resamples, level, seed, class_names, jackknife
    )
    single = left_out and (left_out[0][0], left_out[1])
    return summarise(name, resampled[0], float(estimates[0]), single, level)


def bootstrap_difference(
    y_true: ArrayLike,
    output_a: ArrayLike,
    output_b: ArrayLike,
    metric: Metric = "macro_f1",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    jackknife: bool = True,
) -> PairedBootstrap:
    """Return the paired bootstrap of A's metric minus B's over the same n items.

    Both outputs have the form of :func:`bootstrap_metric`'s, and the other arguments are the same.
    """
    outputs = {"output_a": output_a, "output_b": output_b}
    return summarise_pair(
        *_bootstrap(y_true, outputs, metric, resamples, level, seed, class_names, jackknife), level=level
    )


def bootstrap_mean_difference(
    values_a: ArrayLike,
    values_b: ArrayLike,
    *,
    name: str = "mean",
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """Return the paired bootstrap for a metric that is a mean over items (log-loss, Brier score, latency).

    With few hundred items of very heavy tails BCa covers less than it says (.91 for .95 at n = 500 and kurtosis 18);
    the percentile interval does better there.

    Args:
        values_a: Shape (n,), model A's value for each item.
        values_b: Shape (n,), model B's value for the same items.
        name: Name of the metric.
        resamples: Number of resamples, at least 100.
        level: Nominal coverage.
        seed: Seed of the resampling.
    """
    _check(resamples, level)
    values = np.stack([np.asarray(values_a, dtype=np.float64), np.asarray(values_b, dtype=np.float64)])
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise DataError("values_a and values_b must be one-dimensional, finite, and hold two items or more")
    n = values.shape[1]
    chunks = _index_chunks(np.random.default_rng(seed), n, resamples)
    resampled = np.concatenate([np.stack([row[items].mean(axis=1) for row in values]) for items in chunks], axis=1)
    total = values.sum(axis=1, keepdims=True)
    jackknife = ((total - values) / (n - 1), np.ones(n))
    return summarise_pair(name, resampled, values.mean(axis=1), jackknife, level)
