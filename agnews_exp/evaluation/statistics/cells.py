"""Items grouped into cells (true class, class given by A, class given by B), and metrics of weighted cells.

Two items of the same cell are exchangeable for every count metric. So drawing n items with replacement is one
multinomial draw over the cells in use (at most K^3, usually far fewer), and swapping the two models' answers at
random is one binomial draw per cell: exact, not an approximation, and independent of n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.statistics.margins import FloatArray, Margins

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
        return max(1, min(resamples, MAX_ELEMENTS // max(len(self.counts), 3 * self.n_classes)))

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
