"""A linear classifier of n-gram features, trained by compiled stochastic gradient descent in seconds."""

from __future__ import annotations

from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from agnews_exp.data.soft_targets import SoftTargets

_PIECE = 1 << 16
_LOSSES = {"log_loss": 0, "modified_huber": 1, "squared_hinge": 2}


class NgramLinear(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear bag of n-grams: one weight per n-gram and class, no hidden layer.

    The model class of fastText's supervised mode without the low-rank bottleneck, on exact n-grams instead of
    hashed ones. All classes are updated in one pass over a row; the learning rate falls linearly to 0, as in
    fastText. One thread and seeded shuffling: the same rows in the same order give the same weights on every
    machine.

    Args:
        loss: ``modified_huber`` and ``squared_hinge`` are one against the rest; ``log_loss`` is the softmax.
        epochs: Passes over the rows.
        learning_rate: First step size, for rows of mean squared length 1 (it is divided by the actual mean).
        alpha: L2 penalty.
        dropout: Share of a row's entries that are left out at random each time the row is learned from; the others
            are divided by what is left, so that scores keep their scale (Wang and Manning 2013, "Fast dropout
            training"). It wants more epochs.
        class_weight: Weight of each class, ``balanced`` (inverse to its rows), or None.
        random_state: Seed of the shuffling and of the dropout.

    Attributes:
        classes_: Shape (K,).
        coef_: Shape (K, V), float32.
        intercept_: Shape (K,).
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "loss": [StrOptions(set(_LOSSES))],
        "epochs": [Interval(Integral, 1, 10_000, closed="both")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        loss: Literal["log_loss", "modified_huber", "squared_hinge"] = "modified_huber",
        epochs: int = 5,
        learning_rate: float = 0.2,
        alpha: float = 3e-6,
        dropout: float = 0.0,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int | None = None,
    ) -> None:
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.dropout = dropout
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, soft: SoftTargets | None = None) -> Self:
        """Fit on features, shape (n, V), and n labels; a teacher's answers (``soft``) are for ``log_loss`` only.

        Raises:
            ValueError: y holds one class only, the weights grew without bound, or another loss has soft targets.
        """
        self._validate_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if soft is not None:
            if self.loss != "log_loss":
                raise ValueError(f"NgramLinear takes soft targets with loss=log_loss, not with loss={self.loss}.")
            self.classes_, codes = np.arange(soft.probabilities.shape[1]), np.asarray(y, dtype=np.int64)
        importance = np.ones(len(self.classes_))
        if self.class_weight is not None:
            importance = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        if len(self.classes_) < 2:
            raise ValueError("NgramLinear needs at least two classes; the data holds one class only.")
        rows = sparse.csr_matrix(X)
        data = rows.data
        # Summed piece by piece: the squares of all values at once would need as much memory as the features.
        mean_square = sum(
            float(np.square(data[start : start + _PIECE], dtype=np.float64).sum())
            for start in range(0, len(data), _PIECE)
        ) / rows.shape[0]  # fmt: skip
        # A row of a heavy class makes no larger step than one without weights, or it would throw the others over.
        rate = self.learning_rate / (mean_square if mean_square > 0 else 1.0) / max(1.0, float(importance.max()))
        weights = np.zeros((rows.shape[1], len(self.classes_)), dtype=np.float32)
        intercept = np.zeros(len(self.classes_))
        indices, pointers = rows.indices.astype(np.int32, copy=False), rows.indptr.astype(np.int64, copy=False)
        random = check_random_state(self.random_state)
        train = _kernel()
        taught = (
            (np.zeros((0, 0), np.float32), np.zeros(0, np.float32), 1.0)
            if soft is None
            else (soft.probabilities, soft.share, float(soft.temperature))
        )
        scale = 1.0
        for epoch in range(self.epochs):
            order = random.permutation(rows.shape[0]).astype(np.int64)
            seed = random.randint(1, 2**31 - 1) if self.dropout else 1
            scale = train(
                data, indices, pointers, codes, order, weights, intercept, scale, rate, self.alpha * mean_square,
                epoch / self.epochs, 1.0 / (self.epochs * len(order)), _LOSSES[self.loss], float(self.dropout), seed,
                importance, *taught,
            )  # fmt: skip
        self.coef_ = np.ascontiguousarray(weights.T) * np.float32(scale)
        self.intercept_ = intercept
        if not (np.isfinite(self.coef_).all() and np.isfinite(intercept).all()):
            raise ValueError(f"NgramLinear diverged with learning_rate={self.learning_rate}; choose a smaller one.")
        return self

    @classmethod
    def compile_kernel(cls) -> Any:
        """Compile the training loop, or read it from disk, by fitting two rows; returns the compiled function."""
        cls(epochs=1).fit(sparse.csr_matrix(np.eye(2)), np.arange(2))
        return _kernel()

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return scores, shape (n, K), or (n,) for two classes (positive means the second)."""
        scores = self.class_scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return class probabilities, shape (n, K)."""
        return self.probabilities_of(self.class_scores(X))

    def probabilities_of(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the class probabilities, shape (n, K), of :meth:`class_scores`.

        The softmax for ``log_loss``. For the other losses ``(clip(score, -1, 1) + 1) / 2``, made to sum to 1,
        as Zhang (2002) derives for the modified Huber loss; where every score is below -1 all classes are
        alike.
        """
        if self.loss == "log_loss":
            return np.asarray(softmax(scores, axis=1))
        raw = (np.clip(scores, -1, 1) + 1) / 2
        total = raw.sum(axis=1, keepdims=True)
        return np.where(total > 0, raw / np.where(total > 0, total, 1.0), 1.0 / len(self.classes_))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class with the highest score of each row, shape (n,)."""
        codes = self.class_scores(X).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def class_scores(self, X: Any) -> NDArray[np.float64]:
        """Return one score a class, shape (n, K), for two classes too."""
        check_is_fitted(self, "coef_")
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float32, np.float64], reset=False)
        return np.asarray(X @ self.coef_.T, dtype=np.float64) + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@cache
def _kernel() -> Any:
    """Return the compiled training loop; numba is imported when the first model is trained."""
    from agnews_exp.ngrams.kernels import compiled

    return compiled(_train_epoch)


def _train_epoch(
    data: NDArray[np.floating[Any]],
    indices: NDArray[np.int32],
    pointers: NDArray[np.int64],
    labels: NDArray[np.int64],
    order: NDArray[np.int64],
    weights: NDArray[np.float32],
    intercept: NDArray[np.float64],
    scale: float,
    rate: float,
    alpha: float,
    done: float,
    step: float,
    loss: int,
    dropout: float,
    seed: int,
    importance: NDArray[np.float64],
    soft: NDArray[np.float32],
    share: NDArray[np.float32],
    temperature: float,
) -> float:
    """Update ``weights`` (V, K) and ``intercept`` (K,) in place by one pass; returns the new scale.

    The true weights are ``scale * weights``, so that the L2 penalty costs one multiplication per row instead
    of one per weight. ``done`` is the share of training that lies behind, ``step`` the share of one row;
    ``alpha`` is per unit of mean squared row length, because ``rate`` has been divided by it. ``seed`` (positive)
    decides what ``dropout`` leaves out. ``importance`` (K,) are the classes' weights. ``soft`` (n, K), ``share`` (n,)
    and ``temperature`` are those of :class:`~agnews_exp.data.soft_targets.SoftTargets`, or empty.
    """
    n_classes = weights.shape[1]
    score, soften = np.empty(n_classes), np.empty(n_classes)
    longest = 0
    for row in range(len(pointers) - 1):
        longest = max(longest, pointers[row + 1] - pointers[row])
    columns, values = np.empty(longest, np.int32), np.empty(longest, np.float32)
    boost = np.float32(1.0 / (1.0 - dropout))
    # Marsaglia's xorshift generator: the same numbers on every machine.
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    for position in range(order.shape[0]):
        row = order[position]
        now = rate * (1.0 - done - position * step)
        for k in range(n_classes):
            score[k] = 0.0
        kept = 0
        for entry in range(pointers[row], pointers[row + 1]):
            if dropout > 0.0:
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                if (state >> np.uint64(11)) * (1.0 / 9007199254740992.0) < dropout:
                    continue
            # Rounded here and not beforehand: a float32 copy of all values costs more memory than this costs time.
            column, value = indices[entry], np.float32(data[entry]) * boost
            columns[kept], values[kept] = column, value
            kept += 1
            for k in range(n_classes):
                score[k] += value * weights[column, k]
        highest = -np.inf
        for k in range(n_classes):
            score[k] = score[k] * scale + intercept[k]
            highest = max(highest, score[k])
        # From here on score[k] is the loss's derivative by the score of class k.
        part = share[row] if len(share) else 0.0
        if part > 0.0:
            # The derivative of T^2 KL(p || softmax(z / T)) by z is T (softmax(z / T) - p).
            total = 0.0
            for k in range(n_classes):
                soften[k] = np.exp((score[k] - highest) / temperature)
                total += soften[k]
            for k in range(n_classes):
                soften[k] = part * temperature * (soften[k] / total - soft[row, k])
        if loss == 0:
            total = 0.0
            for k in range(n_classes):
                score[k] = np.exp(score[k] - highest)
                total += score[k]
            for k in range(n_classes):
                score[k] /= total
            score[labels[row]] -= 1.0
            if part > 0.0:
                for k in range(n_classes):
                    score[k] = (1.0 - part) * score[k] + soften[k]
        else:
            for k in range(n_classes):
                sign = 1.0 if k == labels[row] else -1.0
                margin = sign * score[k]
                if margin >= 1.0:
                    score[k] = 0.0
                elif loss == 1 and margin < -1.0:
                    score[k] = -4.0 * sign
                else:
                    score[k] = -2.0 * sign * (1.0 - margin)
        scale *= max(0.0, 1.0 - now * alpha)
        if scale < 1e-6:
            for column in range(weights.shape[0]):
                for k in range(n_classes):
                    weights[column, k] *= scale
            scale = 1.0
        for k in range(n_classes):
            # The intercept is on in every row, so it learns at a hundredth of the rate, as in scikit-learn's
            # SGD.
            score[k] *= importance[labels[row]]
            intercept[k] -= 0.01 * now * score[k]
            score[k] *= now / scale
        for entry in range(kept):
            for k in range(n_classes):
                weights[columns[entry], k] -= values[entry] * score[k]
    return scale
