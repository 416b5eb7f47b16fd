"""Paired approximate randomisation test (Noreen 1989; Yeh 2000) for the difference of any metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.statistics.bootstrap import Metric
from agnews_exp.evaluation.statistics.cells import Cells
from agnews_exp.evaluation.statistics.inputs import Result, class_indices, same_length
from agnews_exp.evaluation.statistics.margins import CountMetric, FloatArray, count_metric, names_of_classes


@dataclass(frozen=True)
class RandomisationTest(Result):
    """Result of the test.

    Attributes:
        metric: Name of the metric.
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
    metric: Metric = "macro_f1",
    *,
    swaps: int = 10_000,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> RandomisationTest:
    """Test that it does not matter which model gave which answer.

    Under the null hypothesis the two answers to each item are exchangeable, so each pair is swapped with
    probability 1/2, and the metric's difference is taken anew.

    Args:
        y_true: Shape (n,), class indices.
        output_a: Model A's answers: shape (n,) class indices for a metric given by name, n rows for a function.
        output_b: Model B's answers to the same items.
        metric: A name (vectorised) or a function ``(y_true, output) -> float`` (called 2 per swap, slow).
        swaps: Number of random swaps.
        seed: Seed of the swaps.
        class_names: The K class names; needed when the arrays might not hold every class or the metric names one.
    """
    if swaps < 100:
        raise DataError(f"swaps must be at least 100 for a test, got {swaps}")
    truth = class_indices(y_true, "y_true")
    rng = np.random.default_rng(seed)
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        a, b = np.asarray(output_a), np.asarray(output_b)
        same_length(y_true=truth, output_a=a, output_b=b)
        observed = metric(truth, a) - metric(truth, b)
        shape = (len(truth),) + (1,) * (a.ndim - 1)
        null = np.empty(swaps)
        for index in range(swaps):
            swap = rng.random(shape) < 0.5
            null[index] = metric(truth, np.where(swap, b, a)) - metric(truth, np.where(swap, a, b))
    else:
        name = metric
        a, b = class_indices(output_a, "output_a"), class_indices(output_b, "output_b")
        same_length(y_true=truth, output_a=a, output_b=b)
        names = names_of_classes(truth, a, b, class_names=class_names)
        cells = Cells.group(truth, [a, b], len(names))
        observed, null = _swapped_differences(cells, count_metric(name, names), swaps, rng)
    extreme = int(np.sum(np.abs(null) >= abs(observed) - 1e-12))
    return RandomisationTest(name, float(observed), (1 + extreme) / (1 + swaps), swaps, 1 / (1 + swaps))


def _swapped_differences(
    cells: Cells, metric: CountMetric, swaps: int, rng: np.random.Generator
) -> tuple[float, FloatArray]:
    """Return the observed difference and those of random swaps, shape (R,).

    Each cell (t, i, j) is paired with its mirror (t, j, i): swapping s of its n items moves them there.
    """
    both = Cells(
        truth=np.concatenate([cells.truth, cells.truth]),
        predictions=np.concatenate([cells.predictions, cells.predictions[::-1]], axis=1),
        counts=np.concatenate([cells.counts, np.zeros_like(cells.counts)]),
        n_classes=cells.n_classes,
    )

    def difference(weights: FloatArray) -> FloatArray:
        value: FloatArray = metric(both.margins(weights, 0)) - metric(both.margins(weights, 1))
        return value

    observed = float(difference(both.counts[None, :].astype(np.float64))[0])
    null = np.empty(swaps)
    step = both.chunk(swaps)
    for start in range(0, swaps, step):
        rows = min(step, swaps - start)
        swapped = rng.binomial(cells.counts, 0.5, size=(rows, len(cells.counts)))
        weights = np.concatenate([cells.counts - swapped, swapped], axis=1).astype(np.float64)
        null[start : start + rows] = difference(weights)
    return observed, null
