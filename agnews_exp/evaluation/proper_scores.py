"""Proper scores of class probabilities: negative log-likelihood and Brier score with its decomposition.

A proper score is best for the true probabilities, so it judges calibration and discrimination together; calibration
errors (:mod:`agnews_exp.evaluation.calibration`) judge calibration alone and can be gamed by a constant forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.inputs import FloatArray, Result, class_indices, probability_matrix

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # as scikit-learn's log_loss on float64


@dataclass(frozen=True)
class BrierDecomposition(Result):
    """Brier score = reliability - resolution + uncertainty + binning, summed over the K one-against-rest forecasts.

    The first three terms are Murphy's (1973); they add up to the score only when all forecasts in a bin are equal.
    ``binning`` is what is left: the variance of the forecasts within bins minus twice their covariance with the
    outcomes there (Stephenson, Coelho and Jolliffe 2008). It shrinks with more bins.
    """

    brier: float  # the score, 0 (best) to 2
    reliability: float  # squared distance of forecast and frequency; 0 for calibrated forecasts. Smaller is better.
    resolution: float  # how far the bins' frequencies lie from the overall ones. Larger is better.
    uncertainty: float  # score of always forecasting the class frequencies of these items
    binning: float  # the rest of the score, as described above
    n_bins: int  # number of equally wide bins


def labelled_probabilities(y_true: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    """Return checked labels (n,) and probabilities (n, K).

    Raises:
        DataError: They do not fit together, or are no labels and no probabilities.
    """
    truth = class_indices(y_true, "y_true")
    matrix = probability_matrix(probabilities, len(truth))
    if truth.max() >= matrix.shape[1]:
        raise DataError(f"y_true holds class index {truth.max()}, but probabilities has {matrix.shape[1]} columns")
    return truth, matrix


def one_hot(y_true: NDArray[np.int64], n_classes: int) -> FloatArray:
    """Return shape (n, K) with 1 in each item's true class."""
    encoded = np.zeros((len(y_true), n_classes))
    encoded[np.arange(len(y_true)), y_true] = 1.0
    return encoded


def item_nll(y_true: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return each item's -ln p(true class), shape (n,), in nats; probabilities are floored at 2.2e-16."""
    truth, matrix = labelled_probabilities(y_true, probabilities)
    likelihood = matrix[np.arange(len(truth)), truth]
    values: FloatArray = -np.log(np.clip(likelihood, SMALLEST_PROBABILITY, 1.0))
    return values


def item_brier(y_true: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return each item's squared distance of the forecast from its class (Brier 1950), shape (n,), 0 to 2."""
    truth, matrix = labelled_probabilities(y_true, probabilities)
    values: FloatArray = ((matrix - one_hot(truth, matrix.shape[1])) ** 2).sum(axis=1)
    return values


def negative_log_likelihood(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of :func:`item_nll` (log-loss) over n items, in nats; shapes (n,) and (n, K)."""
    return float(item_nll(y_true, probabilities).mean())


def brier_score(y_true: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean of :func:`item_brier` over n items, 0 to 2; shapes (n,) and (n, K).

    For two classes it is twice scikit-learn's ``brier_score_loss`` by default.
    """
    return float(item_brier(y_true, probabilities).mean())


def brier_decomposition(y_true: ArrayLike, probabilities: ArrayLike, n_bins: int = 15) -> BrierDecomposition:
    """Return the parts of the Brier score of n class indices and probabilities (n, K); bins are equally wide."""
    truth, matrix = labelled_probabilities(y_true, probabilities)
    if n_bins < 1:
        raise DataError(f"n_bins must be at least 1, got {n_bins}")
    n, k = matrix.shape
    outcomes = one_hot(truth, k)
    base = outcomes.mean(axis=0)
    reliability = resolution = 0.0
    bins = np.clip(np.ceil(matrix * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    for column in range(k):
        count = np.bincount(bins[:, column], minlength=n_bins).astype(np.float64)
        used = count > 0
        forecast = np.bincount(bins[:, column], matrix[:, column], n_bins)[used] / count[used]
        frequency = np.bincount(bins[:, column], outcomes[:, column], n_bins)[used] / count[used]
        reliability += float(np.sum(count[used] * (forecast - frequency) ** 2)) / n
        resolution += float(np.sum(count[used] * (frequency - base[column]) ** 2)) / n
    uncertainty = float(np.sum(base * (1 - base)))
    brier = brier_score(truth, matrix)
    binning = brier - (reliability - resolution + uncertainty)
    return BrierDecomposition(brier, reliability, resolution, uncertainty, binning, n_bins)
