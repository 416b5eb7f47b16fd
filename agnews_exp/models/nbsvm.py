"""NB-SVM: a linear support vector machine on features scaled by naive-Bayes log-count ratios."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import LinearSVC
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from agnews_exp.ngrams.fitting import portable_log


class NBSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """NB-SVM of Wang and Manning (2012), "Baselines and Bigrams"; one against the rest beyond two classes.

    For one class against the rest, with feature vectors f, ``p = alpha + sum of f over the class`` and
    ``q = alpha + sum of f over the rest``, the log-count ratio is ``r = ln((p / |p|_1) / (q / |q|_1))``. A
    linear SVM is trained on ``r * f``; its weights w are interpolated with their mean magnitude ``m = |w|_1 /
    V``: ``w' = (1 - beta) m + beta w`` (the paper's equation 7). The score of a document is ``(r * w') . f +
    b``.

    Args:
        alpha: Smoothing of the counts, above 0.
        beta: Trust in the SVM against naive Bayes, in [0, 1]; 1 is the SVM alone (the paper's default is
            0.25).
        C: Inverse regularisation of the SVM.
        binarize: Take presence instead of the values, as the paper does. Without it f are the values
            themselves.
        max_iter: Limit of the SVM's iterations.
        tol: Tolerance of the SVM.
        class_weight: Weight of each class, ``balanced`` (inverse to its rows), or None.
        random_state: Seed of the SVM.

    Attributes:
        classes_: Shape (K,).
        log_count_ratio_: Shape (K, V), or (1, V) for two classes.
        coef_: Shape (K, V) or (1, V): ``r * w'``.
        intercept_: Shape (K,) or (1,).
        n_iter_: Iterations of the SVM that took most.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, 1, closed="both")],
        "C": [Interval(Real, 0, None, closed="neither")],
        "binarize": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.25,
        C: float = 1.0,
        binarize: bool = True,
        max_iter: int = 2000,
        tol: float = 1e-4,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.C = C
        self.binarize = binarize
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Fit on non-negative features, shape (n, V), and n labels.

        Raises:
            ValueError: X holds negative values, or y holds one class only.
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_non_negative(X, "NBSVM (input X)")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("NBSVM needs at least two classes; the data holds one class only.")
        features = self._features(X)
        # With two classes one problem decides both; it scores the second class, as scikit-learn's linear
        # models do.
        positives = range(len(self.classes_)) if len(self.classes_) > 2 else [1]
        sample_weight = compute_sample_weight(self.class_weight, y)
        ratios, machines = zip(*(self._fit_one(features, codes == k, sample_weight) for k in positives), strict=True)
        self.log_count_ratio_ = np.stack(ratios)
        weights = np.stack([machine.coef_.ravel() for machine in machines])
        mean_magnitude = np.abs(weights).mean(axis=1, keepdims=True)
        self.coef_ = self.log_count_ratio_ * ((1 - self.beta) * mean_magnitude + self.beta * weights)
        self.intercept_ = np.array([float(machine.intercept_[0]) for machine in machines])
        self.n_iter_ = max(int(machine.n_iter_) for machine in machines)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return scores, shape (n, K), or (n,) for two classes (positive means the second)."""
        check_is_fitted(self, "coef_")
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        scores = np.asarray(self._features(X) @ self.coef_.T) + self.intercept_
        return np.asarray(scores.ravel() if len(self.classes_) == 2 else scores)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class with the highest score of each row, shape (n,)."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def _features(self, X: Any) -> Any:
        if not self.binarize:
            return X
        if sparse.issparse(X):
            present = X.copy()
            present.data = (present.data > 0).astype(np.float64)
            return present
        return (X > 0).astype(np.float64)

    def _fit_one(
        self, features: Any, positive: NDArray[np.bool_], sample_weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], LinearSVC]:
        """Return one class's log-count ratio, shape (V,), and the SVM trained on the features times it."""
        p = self.alpha + np.asarray(features[positive].sum(axis=0), dtype=np.float64).ravel()
        q = self.alpha + np.asarray(features[~positive].sum(axis=0), dtype=np.float64).ravel()
        ratio = portable_log(p / p.sum()) - portable_log(q / q.sum())
        scaled = sparse.csr_matrix(features.multiply(ratio)) if sparse.issparse(features) else features * ratio
        machine = LinearSVC(C=self.C, dual="auto", max_iter=self.max_iter, tol=self.tol, random_state=self.random_state)
        return ratio, machine.fit(scaled, positive.astype(np.int64), sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags
