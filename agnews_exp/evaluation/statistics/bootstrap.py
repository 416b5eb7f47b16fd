"""Bootstrap intervals for one model's metric and for the paired difference of two models over the same items.

The items are resampled; the trained models stay fixed. The intervals therefore speak about other test sets of
this size from the same source, not about retraining (for that, compare several seeds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import FloatArray, Result, open_interval, same_length
from agnews_exp.evaluation.metrics import (
    Choice,
    CountMetric,
    Margins,
    Own,
    count_metric,
    find_metric,
    names_of_classes,
)
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import task_of

MARGIN = 0.005
"""Difference of a score below which two models are called equivalent, unless told otherwise."""


@dataclass(frozen=True)
class BootstrapInterval(Result):
    """A metric, or a difference of two, with its bootstrap intervals.

    Attributes:
        estimate: Value on the items themselves.
        standard_error: Standard deviation of the resamples.
        percentile: Ends of the percentile interval.
    """

    metric: str
    estimate: float
    standard_error: float
    percentile: tuple[float, float]
    level: float
    resamples: int


@dataclass(frozen=True)
class PairedBootstrap(Result):
    """Two models' metric and its difference on the same resampled items.

    Attributes:
        a: Model A's metric.
        b: Model B's metric.
        difference: A minus B.
        p_equivalent: Of two one-sided tests (TOST, Schuirmann 1987) that the difference is ``margin`` or more to
            either side; small where the models are equivalent within it.
        margin: The margin of equivalence, in units of the metric.
    """

    a: BootstrapInterval
    b: BootstrapInterval
    difference: BootstrapInterval
    p_equivalent: float
    margin: float


def summarise(name: str, resampled: FloatArray, estimate: float, level: float) -> BootstrapInterval:
    """Summarise resampled values, shape (R,)."""
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(resampled, np.array([tail, 1 - tail])))
    return BootstrapInterval(name, estimate, float(resampled.std(ddof=1)), (low, high), level, len(resampled))


def summarise_pair(
    name: str, resampled: FloatArray, estimates: FloatArray, level: float, margin: float = MARGIN
) -> PairedBootstrap:
    """Summarise the resampled metrics (2, R) of two models, and their estimates (2,)."""
    a, b = (summarise(name, resampled[m], float(estimates[m]), level) for m in (0, 1))
    differences = resampled[0] - resampled[1]
    difference = summarise(name, differences, float(estimates[0] - estimates[1]), level)
    beyond = 1 + max(int(np.sum(differences <= -margin)), int(np.sum(differences >= margin)))
    return PairedBootstrap(a, b, difference, beyond / (len(differences) + 1), margin)


MAX_ELEMENTS = 4_000_000  # float64 values in one chunk's largest array: 32 MB


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells that hold at least one item.

    Attributes:
        truth: Shape (C,), true class of each cell; or its set of classes, shape (C, K).
        predictions: Shape (M, C), the class given by each of the M models; or their sets, shape (M, C, K).
        counts: Shape (C,), items in each cell, all >= 1.
        clusters: Shape (G, C), sparse: items of each of G clusters in each cell; None where items are independent.
    """

    truth: NDArray[np.int64]
    predictions: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_classes: int
    clusters: Any = None

    @classmethod
    def group(
        cls,
        truth: NDArray[np.int64],
        predictions: list[NDArray[np.int64]],
        n_classes: int,
        clusters: NDArray[np.int64] | None = None,
    ) -> Cells:
        """Group n items, given M models' predictions of shape (n,) each, and maybe the cluster of each, 0 to G - 1."""
        if truth.ndim == 1 and n_classes ** (1 + len(predictions)) < 2**62:
            code = truth.copy()
            for predicted in predictions:
                code = code * n_classes + predicted
            _, first, place, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
        else:
            rows = np.stack([truth, *predictions], axis=1).reshape(len(truth), -1)
            _, first, place, counts = np.unique(
                rows, axis=0, return_index=True, return_inverse=True, return_counts=True
            )
        stacked = np.stack([predicted[first] for predicted in predictions])
        table = None
        if clusters is not None:
            from scipy.sparse import csr_array

            shape = (int(clusters.max()) + 1, len(first))
            table = csr_array((np.ones(len(truth)), (clusters, place.ravel())), shape=shape)
        return cls(truth[first], stacked, counts.astype(np.int64), n_classes, table)

    @property
    def n_items(self) -> int:
        """Number of items in all cells."""
        return int(self.counts.sum())

    def chunk(self, resamples: int) -> int:
        """Return how many resamples may be held in memory at once."""
        groups = 0 if self.clusters is None else int(self.clusters.shape[0])
        largest = max(len(self.counts), 3 * self.n_classes, self.n_classes**2, groups)
        return max(1, min(resamples, MAX_ELEMENTS // largest))

    def margins(self, weights: FloatArray, model: int) -> Margins:
        """Return the class counts of one model when cell c holds ``weights[..., c]`` items, shape (R, C)."""
        predicted = self.predictions[model]
        if predicted.ndim > 1:
            return Margins(*(weights @ sets for sets in (self.truth & predicted, self.truth, predicted)))
        right = predicted == self.truth
        return Margins(
            hits=_sum_by(weights[:, right], self.truth[right], self.n_classes),
            support=_sum_by(weights, self.truth, self.n_classes),
            predicted=_sum_by(weights, predicted, self.n_classes),
        )

    def draw(self, rng: np.random.Generator, resamples: int) -> FloatArray:
        """Return bootstrap resamples of the items, or of whole clusters, as cell counts, shape (R, C)."""
        if self.clusters is None:
            n = self.n_items
            return rng.multinomial(n, self.counts / n, size=resamples).astype(np.float64)
        n = self.clusters.shape[0]
        drawn: FloatArray = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64) @ self.clusters
        return drawn


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
Scored = str | MetricFunction
"""A metric of counts by its name, or any function of n true classes and n rows of output."""

MOST_CALLS = 1_000
"""Resamples at most of a metric that counts do not determine: each calls its function anew."""


def scored(
    name: str, answers: Sequence[Predictions], class_names: Sequence[str], own: Own = ()
) -> tuple[Scored, list[Outputs]]:
    """Return a metric as resampling takes it, and each answer as an array of n rows, which resampling can cut.

    Raises:
        ConfigError: The metric is unknown, or needs probabilities where there are none.
    """
    choice = find_metric(name, class_names, own, answers[0].task)
    if choice.metric.of in ("counts", "classes"):
        return name, [answer.labels for answer in answers]
    needed = choice.metric.of in ("probabilities", "rankings")
    given = all(answer.probabilities is not None for answer in answers)
    if needed and not given:
        raise ConfigError(f"The metric '{choice.metric.name}' needs probabilities, and one of the models gives none.")
    return _of_rows(choice, class_names), [_packed(answer, with_probabilities=given) for answer in answers]


def _packed(answer: Predictions, *, with_probabilities: bool) -> Outputs:
    columns: list[Outputs] = [answer.labels if answer.labels.ndim > 1 else answer.labels[:, None]]
    if with_probabilities and answer.probabilities is not None:
        columns.append(answer.probabilities)
    return np.hstack(columns).astype(np.float64)


def _of_rows(choice: Choice, class_names: Sequence[str]) -> MetricFunction:
    """Return a metric of labels or probabilities as a function of true classes and packed answers."""
    score, place = choice.metric.score, choice.class_name and list(class_names).index(choice.class_name)

    def metric(truth: NDArray[np.int64], rows: Outputs) -> float:
        width = truth.shape[1] if truth.ndim > 1 else 1
        labels = rows[:, :width].astype(np.int64)
        probabilities = rows[:, width:] if rows.shape[1] > width else None
        found = score(truth, labels if truth.ndim > 1 else labels[:, 0], probabilities)
        return float(found if place is None else found[place])

    metric.__name__ = choice.metric.name
    return metric


def _check(resamples: int, level: float) -> None:
    open_interval(level, "level")
    if resamples < 100:
        raise DataError(f"resamples must be at least 100 for an interval, got {resamples}")


def _count_bootstrap(
    cells: Cells, metric: CountMetric, resamples: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return the M models' resampled metric (M, R) and estimate (M,)."""
    models = range(len(cells.predictions))
    step = cells.chunk(resamples)
    resampled = np.empty((len(models), resamples))
    for start in range(0, resamples, step):
        weights = cells.draw(rng, min(step, resamples - start))
        for m in models:
            resampled[m, start : start + len(weights)] = metric(cells.margins(weights, m))
    counts = cells.counts.astype(np.float64)[None, :]
    return resampled, np.array([metric(cells.margins(counts, m))[0] for m in models])


def cluster_numbers(clusters: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the clusters of n items, named in any way, as numbers from 0 on, shape (n,).

    Raises:
        DataError: There are fewer than two.
    """
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    same_length(items=np.empty(n), clusters=member)
    if len(names) < 2:
        raise DataError("all items are of one cluster: there is nothing to resample")
    return member.astype(np.int64)


def _cluster_draws(rng: np.random.Generator, member: NDArray[np.int64], resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield the item numbers of each resample of whole clusters."""
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    for _ in range(resamples):
        yield np.concatenate([rows[g] for g in rng.integers(0, len(rows), len(rows))])


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
    member: NDArray[np.int64] | None,
) -> tuple[FloatArray, FloatArray]:
    if member is None:
        draws = (items for chunk in _index_chunks(rng, len(truth), resamples) for items in chunk)
    else:
        draws = (items for items in _cluster_draws(rng, member, resamples))
    resampled = [[metric(truth[items], output[items]) for output in outputs] for items in draws]
    return np.array(resampled).T, np.array([metric(truth, output) for output in outputs], dtype=np.float64)


def _bootstrap(
    y_true: ArrayLike,
    outputs: Mapping[str, ArrayLike],
    metric: Scored,
    resamples: int,
    level: float,
    seed: int,
    class_names: Sequence[str] | None,
    clusters: ArrayLike | None,
) -> tuple[str, FloatArray, FloatArray]:
    _check(resamples, level)
    check = task_of(y_true).check
    truth = check(y_true, "y_true")
    member = None if clusters is None else cluster_numbers(clusters, len(truth))
    rng = np.random.default_rng(seed)
    if callable(metric):
        arrays = {name: np.asarray(output) for name, output in outputs.items()}
        same_length(y_true=truth, **arrays)
        name = getattr(metric, "__name__", type(metric).__name__)
        return name, *_function_bootstrap(truth, list(arrays.values()), metric, resamples, rng, member)
    predictions = {name: check(output, name) for name, output in outputs.items()}
    same_length(y_true=truth, **predictions)
    names = names_of_classes(truth, *predictions.values(), class_names=class_names)
    cells = Cells.group(truth, list(predictions.values()), len(names), member)
    return metric, *_count_bootstrap(cells, count_metric(metric, names), resamples, rng)


def bootstrap_metric(
    y_true: ArrayLike,
    output: ArrayLike,
    metric: Scored = "macro_f1",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
) -> BootstrapInterval:
    """Return one model's metric with its percentile bootstrap interval over the n items.

    The metric is a name of counts (vectorised; ``output`` holds class indices, shape (n,)), or a function ``(y_true,
    output) -> float`` of any n rows, called once per resample. ``class_names`` are needed where the arrays might not
    hold every class or the metric names one. The corrected interval BCa (Efron 1987) covers no better for metrics of
    counts, and worse for losses with heavy tails; so there is one interval.

    ``clusters``, shape (n,), names the cluster of each item: those of one (a customer's, near-duplicates) are drawn
    together (Field and Welsh 2007), so that they need not be independent; clusters are. With few of them (some 30) the
    interval is too narrow.
    """
    name, resampled, estimates = _bootstrap(
        y_true, {"output": output}, metric, resamples, level, seed, class_names, clusters
    )
    found = summarise(name, resampled[0], float(estimates[0]), level)
    return _widened(found, y_true, output, metric, class_names)


def bootstrap_difference(
    y_true: ArrayLike,
    output_a: ArrayLike,
    output_b: ArrayLike,
    metric: Scored = "macro_f1",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    margin: float = MARGIN,
    clusters: ArrayLike | None = None,
) -> PairedBootstrap:
    """Return the paired bootstrap of A's metric minus B's over the same n items.

    Both outputs have the form of :func:`bootstrap_metric`'s, and the other arguments are the same; ``margin`` is that
    of the test of equivalence.
    """
    outputs = {"output_a": output_a, "output_b": output_b}
    found = _bootstrap(y_true, outputs, metric, resamples, level, seed, class_names, clusters)
    pair = summarise_pair(*found, level=level, margin=margin)
    a, b = (
        _widened(one, y_true, output, metric, class_names) for one, output in ((pair.a, output_a), (pair.b, output_b))
    )
    return replace(pair, a=a, b=b)


def _widened(
    found: BootstrapInterval,
    y_true: ArrayLike,
    output: ArrayLike,
    metric: Scored,
    class_names: Sequence[str] | None,
) -> BootstrapInterval:
    """Give a model without a single error a lower end, which no resample of its answers can.

    The error rate may be as large as Clopper and Pearson's limit (1934). The end is the lowest value that such a rate
    gives when the errors fall on one class, whichever hurts most; what it cannot hold is spread over the others.
    """
    truth = np.asarray(y_true)
    if truth.ndim > 1 or callable(metric) or not np.array_equal(truth, np.asarray(output)):
        return found
    names = names_of_classes(truth, class_names=class_names)
    n, k = len(truth), len(names)
    wrong = n * (1 - ((1 - found.level) / 2) ** (1 / n))
    support = np.bincount(truth, minlength=k).astype(np.float64)
    one = np.diag(np.minimum(support, wrong))
    rest = (wrong - one.sum(axis=1, keepdims=True)) / np.maximum(n - support, 1)[:, None]
    lost = one + rest * support * (1 - np.eye(k))
    given = lost.sum(axis=1, keepdims=True) * (1 - np.eye(k)) / (k - 1)  # wrong answers, over the other classes
    worst = count_metric(metric, names)(Margins(support - lost, np.tile(support, (k, 1)), support - lost + given))
    ends = min(float(worst.min()), found.estimate), found.estimate
    return replace(found, percentile=ends)


@dataclass(frozen=True, eq=False)
class JointBootstrap:
    """A metric of k systems on the same resampled items: what statements about several of them at once need.

    Attributes:
        names: The k systems.
        estimates: Shape (k,), the metric on the items themselves.
        resampled: Shape (k, R), the metric on each resample.
    """

    names: tuple[str, ...]
    estimates: FloatArray
    resampled: FloatArray

    def differences(self, pairs: Sequence[tuple[str, str]], level: float = 0.95) -> list[tuple[float, float]]:
        """Return intervals of the pairs' differences that hold for all of them at once with this coverage.

        Max-T intervals (Westfall and Young 1993): d -+ c s, c being the quantile of the largest studentised deviation
        of any pair in a resample. They are narrower than Bonferroni's, for the pairs hang together.
        """
        a, b = np.array([[self.names.index(name) for name in pair] for pair in pairs]).T
        found = self.estimates[a] - self.estimates[b]
        deviations = self.resampled[a] - self.resampled[b] - found[:, None]
        errors = deviations.std(axis=1, ddof=1)
        studentised = np.divide(
            np.abs(deviations), errors[:, None], out=np.zeros_like(deviations), where=errors[:, None] > 1e-15
        )
        reach = float(np.quantile(studentised.max(axis=0), level)) * errors
        return [(float(d - r), float(d + r)) for d, r in zip(found, reach, strict=True)]

    def best_set(self, alpha: float = 0.05, *, higher_is_better: bool = True) -> tuple[str, ...]:
        """Return the systems that may be the best: a set that holds the truly best one with a chance of 1 - alpha.

        For each system the hypothesis that no other is better is tested by its largest studentised shortfall against
        any other (one-sided max-T; multiple comparisons with the best, Hsu 1996); those not rejected stay.
        """
        sign = 1 if higher_is_better else -1
        kept = []
        for j, name in enumerate(self.names):
            shortfall = sign * (self.estimates - self.estimates[j])
            deviations = sign * (self.resampled - self.resampled[j]) - shortfall[:, None]
            errors = deviations.std(axis=1, ddof=1)
            others = errors > 1e-15  # not itself, nor one that answers the same
            if not others.any():
                kept.append(name)
                continue
            observed = float(np.max(shortfall[others] / errors[others]))
            null = np.max(deviations[others] / errors[others, None], axis=0)
            if (1 + int(np.sum(null >= observed))) / (1 + len(null)) > alpha:
                kept.append(name)
        return tuple(kept)


def joint_bootstrap(
    y_true: ArrayLike,
    outputs: Mapping[str, ArrayLike],
    metric: Scored = "macro_f1",
    *,
    resamples: int = 2000,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    clusters: ArrayLike | None = None,
) -> JointBootstrap:
    """Resample the n items and take all systems' metric on each resample, as :func:`bootstrap_metric` does for one."""
    _, resampled, estimates = _bootstrap(y_true, outputs, metric, resamples, 0.95, seed, class_names, clusters)
    return JointBootstrap(tuple(outputs), estimates, resampled)


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

    ``values_a`` and ``values_b``, shape (n,), are the two models' values for the same items.
    """
    _check(resamples, level)
    values = np.stack([np.asarray(values_a, dtype=np.float64), np.asarray(values_b, dtype=np.float64)])
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise DataError("values_a and values_b must be one-dimensional, finite, and hold two items or more")
    n = values.shape[1]
    chunks = _index_chunks(np.random.default_rng(seed), n, resamples)
    resampled = np.concatenate([np.stack([row[items].mean(axis=1) for row in values]) for items in chunks], axis=1)
    return summarise_pair(name, resampled, values.mean(axis=1), level)
