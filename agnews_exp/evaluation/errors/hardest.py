"""Each row's margin, and the rows that a model gets most wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.calibrators import log_probabilities
from agnews_exp.evaluation.predictions import Predictions

FloatArray = NDArray[np.float64]


def true_class_margins(labels: NDArray[np.int64], predictions: Predictions) -> FloatArray | None:
    """Return the true class's score minus the best other class's, shape (n,): negative where the row is wrong.

    The scores are the model's decision scores, or the logarithms of its probabilities where it has none.

    Args:
        labels: Shape (n,), true class indices.
        predictions: The model's answers.

    Returns:
        None for a model that gives labels only.
    """
    scores = predictions.scores
    if scores is None:
        if predictions.probabilities is None:
            return None
        scores = log_probabilities(predictions.probabilities)
    rows = np.arange(len(labels))
    others = np.array(scores, dtype=np.float64)
    others[rows, labels] = -np.inf
    margins: FloatArray = scores[rows, labels] - others.max(axis=1)
    return margins


def item_losses(labels: NDArray[np.int64], predictions: Predictions) -> FloatArray | None:
    """Return minus the logarithm of the true class's probability (nats), shape (n,); None without probabilities.

    Probabilities below 1e-12 count as 1e-12.
    """
    if predictions.probabilities is None:
        return None
    losses: FloatArray = -log_probabilities(predictions.probabilities)[np.arange(len(labels)), labels]
    return losses


def hardest_rows(labels: NDArray[np.int64], predictions: Predictions, n: int) -> NDArray[np.int64]:
    """Return positions of the n rows with the lowest margin, lowest first; wrong rows only, so perhaps fewer.

    A model that gives labels only has its first n errors returned.
    """
    wrong = np.flatnonzero(predictions.labels != labels)
    margins = true_class_margins(labels, predictions)
    if margins is None:
        return wrong[:n]
    losses = item_losses(labels, predictions)
    ties = np.zeros(len(labels)) if losses is None else -losses
    order = np.lexsort((ties[wrong], margins[wrong]))
    return wrong[order][:n]
