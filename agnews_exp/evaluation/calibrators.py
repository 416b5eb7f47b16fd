"""Calibrators, which turn a fitted model's scores into probabilities that agree with observed frequencies.

All follow scikit-learn's conventions and are fitted on scores and labels of rows that trained neither the model nor
anything else (a part of validation kept for it). Scores have shape (n, K), on any scale, higher meaning more likely:
logits or decision values. One column of binary decision values, shape (n,) or (n, 1), is read as (-s/2, +s/2). For
a model that gives probabilities only, pass :func:`log_probabilities`.

Which one: temperature has one parameter and never changes a prediction; vector scaling has 2 K; Platt and isotonic
work one class against the rest and are then normalised, which suits the scores of one-against-rest models; the logits
of a softmax model mean something only beside each other, so give these two its log-probabilities. Isotonic needs a
thousand items or more and gives probabilities of exactly 0, which the log-loss punishes without limit.

Of a class without a row to fit on nothing can be learned: a calibrator with parameters of each class leaves it the
probability that the softmax of the scores gives it, and shares out the rest among the others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import FloatArray, class_indices, probability_matrix
from agnews_exp.evaluation.proper_scores import one_hot


def log_probabilities(probabilities: ArrayLike, floor: float = 1e-12) -> FloatArray:
    """Return the natural logarithm of probabilities (n, K), floored: scores for a calibrator."""
    logarithms: FloatArray = np.log(np.clip(probability_matrix(probabilities), floor, 1.0))
    return logarithms


def softmax(scores: ArrayLike) -> FloatArray:
    """Return class probabilities from scores (n, K): what "no calibration" means for scores."""
    probabilities: FloatArray = special.softmax(_score_matrix(scores), axis=1)
    return probabilities


def _score_matrix(scores: ArrayLike) -> FloatArray:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim == 1 or (matrix.ndim == 2 and matrix.shape[1] == 1):
        margin = matrix.reshape(-1)
        matrix = np.stack([-margin / 2, margin / 2], axis=1)
    if matrix.ndim != 2 or len(matrix) == 0:
        raise DataError(f"scores must have shape (items, classes), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise DataError("scores holds values that are not finite", fix="floor probabilities with log_probabilities")
    return matrix


class Calibrator(BaseEstimator):  # type: ignore[misc]
    """Base class of calibrators: fits scores to labels and gives probabilities.

    Attributes:
        classes_: Shape (K,), 0..K-1.
        n_features_in_: K, the number of score columns.
        seen_: Shape (S,), the classes that had rows to fit on; parameters of classes are of these only.
    """

    _by_class: ClassVar[bool] = True

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on scores, shape (n, K) (or (n,) for two classes), and class indices, shape (n,), of rows kept for it.

        Raises:
            DataError: The arrays do not fit together, or hold fewer than two classes.
        """
        scores, labels = _score_matrix(X), class_indices(y, "y")
        if len(labels) != len(scores):
            raise DataError(f"scores has {len(scores)} rows, but there are {len(labels)} labels")
        if labels.max() >= scores.shape[1]:
            raise DataError(f"y holds class index {labels.max()}, but scores has {scores.shape[1]} columns")
        seen = np.unique(labels)
        if len(seen) < 2:
            raise DataError("calibration needs rows of two classes or more")
        self.classes_ = np.arange(scores.shape[1])
        self.n_features_in_ = scores.shape[1]
        self.seen_ = seen if self._by_class else self.classes_
        self._fit(scores[:, self.seen_], np.searchsorted(self.seen_, labels))
        return self

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Return calibrated probabilities of scores, shape (n, K) (or (n,) for two classes); rows sum to 1."""
        check_is_fitted(self)
        scores = _score_matrix(X)
        if scores.shape[1] != self.n_features_in_:
            raise DataError(f"the calibrator was fitted on {self.n_features_in_} classes, got {scores.shape[1]}")
        calibrated = self._probabilities(scores[:, self.seen_])
        if len(self.seen_) == self.n_features_in_:
            return calibrated
        probabilities = softmax(scores)
        probabilities[:, self.seen_] = calibrated * probabilities[:, self.seen_].sum(axis=1, keepdims=True)
        return probabilities

    @abstractmethod
    def _fit(self, scores: FloatArray, labels: NDArray[np.int64]) -> None: ...

    @abstractmethod
    def _probabilities(self, scores: FloatArray) -> FloatArray: ...


def _normalised(one_against_rest: FloatArray) -> FloatArray:
    """Divide rows by their sums; rows of zeros become uniform."""
    totals = one_against_rest.sum(axis=1, keepdims=True)
    uniform = np.full(one_against_rest.shape, 1 / one_against_rest.shape[1])
    result: FloatArray = np.divide(one_against_rest, totals, out=uniform, where=totals > 0)
    return result


def _minimise(loss: Callable[[FloatArray], tuple[float, FloatArray]], start: FloatArray) -> FloatArray:
    found = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    )
    point: FloatArray = found.x
    return point


class PlattScaling(Calibrator):
    """Sigmoid of each class's score, one against the rest, normalised (Platt 1999).

    Attributes:
        slopes_: Shape (K,), a in p = sigmoid(a s + b).
        intercepts_: Shape (K,), b.
    """

    def _fit(self, scores: FloatArray, labels: NDArray[np.int64]) -> None:
        fitted = [self._fit_one(scores[:, k], labels == k) for k in range(scores.shape[1])]
        self.slopes_ = np.array([slope for slope, _ in fitted])
        self.intercepts_ = np.array([intercept for _, intercept in fitted])

    def _fit_one(self, score: FloatArray, positive: NDArray[np.bool_]) -> tuple[float, float]:
        # Platt's targets instead of 0 and 1: finite parameters even for scores that separate the classes.
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        centre, scale = float(score.mean()), float(score.std()) or 1.0
        scaled = (score - centre) / scale

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            logit = parameters[0] * scaled + parameters[1]
            residual = special.expit(logit) - target
            value = np.mean(np.logaddexp(0, logit) - target * logit)
            return float(value), np.array([np.mean(residual * scaled), np.mean(residual)])

        prior = float(special.logit((n_positive + 1) / (n_positive + n_negative + 2)))
        slope, intercept = _minimise(loss, np.array([0.0, prior]))
        return float(slope / scale), float(intercept - slope * centre / scale)

    def _probabilities(self, scores: FloatArray) -> FloatArray:
        return _normalised(special.expit(scores * self.slopes_ + self.intercepts_))


class IsotonicCalibration(Calibrator):
    """A non-decreasing step function of each class's score, one against the rest, normalised (Zadrozny, Elkan 2002).

    Attributes:
        thresholds_: K arrays of increasing scores.
        values_: K arrays of probabilities at these scores, interpolated between them and constant beyond.
    """

    def _fit(self, scores: FloatArray, labels: NDArray[np.int64]) -> None:
        from sklearn.isotonic import IsotonicRegression

        self.thresholds_: list[FloatArray] = []
        self.values_: list[FloatArray] = []
        for k in range(scores.shape[1]):
            regression = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
            regression.fit(scores[:, k], (labels == k).astype(np.float64))
            self.thresholds_.append(np.asarray(regression.X_thresholds_, dtype=np.float64))
            self.values_.append(np.asarray(regression.y_thresholds_, dtype=np.float64))

    def _probabilities(self, scores: FloatArray) -> FloatArray:
        columns = [
            np.interp(scores[:, k], thresholds, values)
            for k, (thresholds, values) in enumerate(zip(self.thresholds_, self.values_, strict=True))
        ]
        return _normalised(np.stack(columns, axis=1))


class TemperatureScaling(Calibrator):
    """Softmax of the scores divided by one temperature (Guo et al. 2017); predictions never change.

    Attributes:
        temperature_: T > 0; above 1 the softmax of the scores was too sure.
    """

    _by_class: ClassVar[bool] = False

    def _fit(self, scores: FloatArray, labels: NDArray[np.int64]) -> None:
        rows = np.arange(len(labels))
        spread = float(np.ptp(scores, axis=1).mean()) or 1.0  # brings scores of any scale to a usual range
        scaled = scores / spread

        def loss(log_inverse: float) -> float:
            logits = np.exp(log_inverse) * scaled
            return float(np.mean(special.logsumexp(logits, axis=1) - logits[rows, labels]))

        # Scores that separate the classes want T = 0; the bounds keep it finite.
        found = optimize.minimize_scalar(loss, bounds=(-10.0, 10.0), method="bounded", options={"xatol": 1e-9})
        self.temperature_ = float(spread / np.exp(found.x))

    def _probabilities(self, scores: FloatArray) -> FloatArray:
        probabilities: FloatArray = special.softmax(scores / self.temperature_, axis=1)
        return probabilities


class VectorScaling(Calibrator):
    """Softmax of weight times score plus bias, for each class (Guo et al. 2017).

    Attributes:
        weights_: Shape (K,).
        biases_: Shape (K,), summing to 0.
    """

    def _fit(self, scores: FloatArray, labels: NDArray[np.int64]) -> None:
        n, k = scores.shape
        spread = float(np.ptp(scores, axis=1).mean()) or 1.0
        scaled, outcomes = scores / spread, one_hot(labels, k)

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            logits = scaled * parameters[:k] + parameters[k:]
            normaliser = special.logsumexp(logits, axis=1)
            residual = special.softmax(logits, axis=1) - outcomes
            value = np.mean(normaliser - (logits * outcomes).sum(axis=1))
            return float(value), np.concatenate([(residual * scaled).sum(axis=0), residual.sum(axis=0)]) / n

        found = _minimise(loss, np.concatenate([np.full(k, 1.0), np.zeros(k)]))
        self.weights_ = found[:k] / spread
        self.biases_ = found[k:] - found[k:].mean()

    def _probabilities(self, scores: FloatArray) -> FloatArray:
        probabilities: FloatArray = special.softmax(scores * self.weights_ + self.biases_, axis=1)
        return probabilities


CALIBRATORS: Mapping[str, type[Calibrator]] = MappingProxyType(
    {
        "platt": PlattScaling,
        "isotonic": IsotonicCalibration,
        "temperature": TemperatureScaling,
        "vector": VectorScaling,
    }
)
