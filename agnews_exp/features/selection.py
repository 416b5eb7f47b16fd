"""Feature selectors that score every column of a sparse matrix in one pass over its non-zero entries."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin, chi2
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from agnews_exp.ngrams.fitting import portable_log


def presence_mutual_information(X: Any, y: ArrayLike) -> NDArray[np.float64]:
    """Return the mutual information, in nats, of a term's presence (not 0) in a document and its class.

    Manning, Raghavan and Schütze, Introduction to Information Retrieval, equation 13.17, for any number of
    classes. It equals ``sklearn.feature_selection.mutual_info_classif(X != 0, y, discrete_features=True)``,
    but takes one sparse product instead of one contingency table per column. TF-IDF weights themselves are no
    discrete variable: nearly every value is unique, so their plug-in mutual information would reward rarity.

    Returns:
        Shape (V,), float64, values >= 0, for X of shape (n, V), sparse or dense, and y of shape (n,).
    """
    present = sparse.csr_matrix(X, copy=True)
    present.eliminate_zeros()
    present.data = np.ones_like(present.data, dtype=np.float64)
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    n = present.shape[0]
    indicator = sparse.csr_matrix((np.ones(n), (codes, np.arange(n))), shape=(len(classes), n))
    joint_present = np.asarray((indicator @ present).todense())  # (K, V): documents of class k that hold term v
    per_class = np.bincount(codes, minlength=len(classes)).astype(np.float64)[:, None]
    document_frequency = joint_present.sum(axis=0, keepdims=True)
    total = np.zeros(present.shape[1])
    for joint, margin in (
        (joint_present, document_frequency),
        (per_class - joint_present, n - document_frequency),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            term = joint / n * portable_log(joint * n / (per_class * margin))
        total += np.where(joint > 0, term, 0.0).sum(axis=0)
    return np.maximum(total, 0.0)


class TopScoring(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Keep the ``k`` columns with the highest score against the labels, or all where there are no more.

    The score is ``chi2`` (scikit-learn's) or ``mutual_information`` (of a term's presence and the class). ``scores_``,
    shape (V,), float64, are lowest for a column without one (constant zero); ``support_`` is bool of shape (V,).
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "score": [StrOptions({"chi2", "mutual_information"})],
        "k": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, score: Literal["chi2", "mutual_information"] = "chi2", k: int = 5000) -> None:
        self.score = score
        self.k = k

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Score the columns of X, shape (n, V), against the n labels.

        Raises:
            ValueError: ``chi2`` was given negative values.
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"])
        scores = chi2(X, y)[0] if self.score == "chi2" else presence_mutual_information(X, y)
        self.scores_ = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=np.finfo(np.float64).min)
        # Stable and from the end, as SelectKBest breaks ties.
        kept = np.argsort(self.scores_, kind="mergesort")[-self.k :]
        self.support_ = np.zeros(len(self.scores_), dtype=bool)
        self.support_[kept] = True
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "support_")
        return np.asarray(self.support_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.score == "chi2"
        tags.target_tags.required = True
        return tags
