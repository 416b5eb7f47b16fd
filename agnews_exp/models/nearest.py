"""Nearest-neighbour classifiers: exact search, and the same neighbours on every machine."""

from __future__ import annotations

from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn import neighbors
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import pairwise_distances_chunked
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class CosineNeighbors(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """k nearest neighbours by cosine similarity, for sparse features.

    A class's share is the sum of ``max(similarity, 0) ** power`` over those of the ``n_neighbors`` most similar rows
    that belong to it. The search is exact (without ``max_rows``): similarities to all training rows are summed up
    term by term over the terms that a row holds, without the dense product that scikit-learn's brute force makes. Of
    rows that are alike to the last bit, those that come first vote.

    Args:
        n_neighbors: How many rows vote, at most all.
        power: How much more the more similar rows weigh; 0 weighs all alike.
        max_rows: Columns that more training rows hold are not searched: they are most of the work and say little about
            which rows are alike. So no text costs more than this many steps for each of its terms. None searches all.
        n_jobs: Threads of the search; None, 0 and -1 mean all cores. The result does not depend on it.

    Attributes:
        classes_: Shape (K,).
        class_prior_: Shape (K,), shares of the training rows: the answer where no row is similar at all.
        codes_: Shape (n,), class of each training row.
        index_rows_: Training rows that hold each column, column after column (the inverted index).
        index_values_: float32, the value of each, rows scaled to length 1.
        index_starts_: Shape (V + 1,), where each column begins in the two arrays above.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "power": [Interval(Real, 0, None, closed="left")],
        "max_rows": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self, n_neighbors: int = 10, power: float = 2.0, max_rows: int | None = None, n_jobs: int | None = None
    ) -> None:
        self.n_neighbors = n_neighbors
        self.power = power
        self.max_rows = max_rows
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Index features, shape (n, V), with n labels.

        Raises:
            ValueError: y holds one class only.
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("CosineNeighbors needs at least two classes; the data holds one class only.")
        index = sparse.csc_matrix(_unit_rows(X))
        rows_of_column = np.diff(index.indptr)
        searched = rows_of_column <= (index.shape[0] if self.max_rows is None else self.max_rows)
        kept = np.repeat(searched, rows_of_column)
        self.index_rows_ = index.indices[kept].astype(np.int32)
        self.index_values_ = index.data[kept]
        self.index_starts_ = np.concatenate([[0], np.cumsum(np.where(searched, rows_of_column, 0))]).astype(np.int64)
        self.codes_ = codes.astype(np.int64)
        self.class_prior_ = np.bincount(codes) / len(codes)
        return self

    @classmethod
    def compile_kernel(cls) -> Any:
        """Compile the search, or read it from disk, by answering two rows; returns the compiled function."""
        rows = sparse.csr_matrix(np.eye(2))
        cls(n_neighbors=1, n_jobs=1).fit(rows, np.arange(2)).predict_proba(rows)
        return _kernel()

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return each class's share of the votes, shape (n, K)."""
        from agnews_exp.ngrams.counting import run_threads
        from agnews_exp.ngrams.vectorizers import usable_jobs

        check_is_fitted(self, "codes_")
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float32, np.float64], reset=False)
        queries = _unit_rows(X)
        votes = np.zeros((queries.shape[0], len(self.classes_)))
        search = _kernel()

        def work(rows: NDArray[np.int64]) -> None:
            search(
                queries.indices, queries.indptr, queries.data, rows, self.index_rows_, self.index_starts_,
                self.index_values_, self.codes_, min(self.n_neighbors, len(self.codes_)), float(self.power), votes,
            )  # fmt: skip

        run_threads(work, np.array_split(np.arange(len(votes)), max(1, min(usable_jobs(self.n_jobs), len(votes)))))
        total = votes.sum(axis=1, keepdims=True)
        return np.where(total > 0, votes / np.where(total > 0, total, 1.0), self.class_prior_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class with the most votes of each row, shape (n,)."""
        codes = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


_DIGITS = 9
"""Decimal places of a distance that count: what lies beyond depends on the processor."""


class KNeighborsClassifier(neighbors.KNeighborsClassifier):  # type: ignore[misc]
    """scikit-learn's nearest neighbours; of training rows that are equally far away the first ones vote.

    scikit-learn takes any of them, which ones depends on the processor. Distances are always computed one by one
    (``algorithm`` and ``leaf_size`` change nothing); arguments and attributes are scikit-learn's.
    """

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Return distances and numbers of the nearest training rows, each of shape (n, k), nearest first.

        None in the place of X, shape (n, V), asks for the neighbours of the training rows, which scikit-learn answers.
        """
        if X is None:
            return super().kneighbors(X, n_neighbors, return_distance)
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if k > self.n_samples_fit_:
            raise ValueError(f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, {self.n_samples_fit_=}")

        def nearest(distances: NDArray[np.floating[Any]], _: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
            rounded = distances.round(_DIGITS)
            furthest = np.partition(rounded, k - 1, axis=1)[:, k - 1]
            candidates = (np.flatnonzero(row <= bound) for row, bound in zip(rounded, furthest, strict=True))
            orders = [
                some[np.argsort(row[some], kind="stable")[:k]] for row, some in zip(rounded, candidates, strict=True)
            ]
            return np.array(orders), np.take_along_axis(rounded, np.array(orders), axis=1)

        # scikit-learn keeps the training rows under a private name only.
        found = list(pairwise_distances_chunked(
            X, self._fit_X, reduce_func=nearest, metric=self.effective_metric_, n_jobs=self.n_jobs,
            **(self.effective_metric_params_ or {}),
        ))  # fmt: skip
        rows, distances = (np.concatenate([part[i] for part in found]) for i in (0, 1))
        return (distances, rows) if return_distance else rows


def _unit_rows(X: Any) -> Any:
    """Return the rows in float32, scaled to length 1, as CSR."""
    rows = sparse.csr_matrix(X, dtype=np.float32)
    return normalize(rows)


@cache
def _kernel() -> Any:
    """Return the compiled search; numba is imported when the first text is answered."""
    from agnews_exp.ngrams.kernels import compiled

    return compiled(_vote)


def _vote(
    columns: NDArray[np.int32],
    starts: NDArray[np.int32],
    values: NDArray[np.float32],
    rows: NDArray[np.int64],
    index_rows: NDArray[np.int32],
    index_starts: NDArray[np.int64],
    index_values: NDArray[np.float32],
    codes: NDArray[np.int64],
    n_neighbors: int,
    power: float,
    votes: NDArray[np.float64],
) -> None:
    """Add the votes of the nearest training rows to those ``rows`` of ``votes``, shape (n, K)."""
    n_train = len(codes)
    similarity = np.zeros(n_train, np.float32)
    best, nearest = np.empty(n_neighbors, np.float32), np.empty(n_neighbors, np.int64)
    for row in rows:
        for entry in range(starts[row], starts[row + 1]):
            column, value = columns[entry], values[entry]
            for place in range(index_starts[column], index_starts[column + 1]):
                similarity[index_rows[place]] += value * index_values[place]
        best[:] = 0.0
        for other in range(n_train):
            now = similarity[other]
            similarity[other] = 0.0
            if now <= best[n_neighbors - 1]:
                continue
            place = n_neighbors - 1
            while place > 0 and best[place - 1] < now:
                best[place], nearest[place] = best[place - 1], nearest[place - 1]
                place -= 1
            best[place], nearest[place] = now, other
        for place in range(n_neighbors):
            if best[place] > 0.0:
                votes[row, codes[nearest[place]]] += best[place] ** power
