"""Conformal prediction sets: as many classes as it takes to hold the true one with a promised chance.

Split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2023): a class enters the set of a text where its
score is at most the threshold that calibration rows give. If these and the new rows are exchangeable, and the rows
trained and chose nothing, the sets hold the true class with the promised chance, whatever the model. Three scores:

- ``lac``: 1 - p of the class; the smallest sets on average (Sadinle et al. 2019).
- ``class``: the same with a threshold of each class, so that the promise holds for every class by itself. A class with
  too few calibration rows for that is in every set.
- ``aps``: the probability of the classes above it and a random share of its own (Romano et al. 2020); larger sets for
  hard texts, smaller ones for easy texts.
"""

from __future__ import annotations

import math
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import unknown_name
from agnews_exp.evaluation.inputs import FloatArray, class_indices, open_interval, probability_matrix

Method = Literal["lac", "class", "aps"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)


def set_scores(probabilities: ArrayLike, method: Method, seed: int = 0) -> FloatArray:
    """Return how strange each class would be for each row, shape (n, K).

    The seed draws the shares of ``aps``; other rows need another one.

    Raises:
        ConfigError: The method is unknown.
    """
    if method not in METHODS:
        raise unknown_name("kind of prediction sets", method, METHODS)
    matrix = probability_matrix(probabilities)
    if method != "aps":
        return 1 - matrix
    order = np.argsort(-matrix, axis=1, kind="stable")
    ordered = np.take_along_axis(matrix, order, axis=1)
    own = ordered * np.random.default_rng(seed).random((len(matrix), 1))
    scores = np.empty_like(matrix)
    np.put_along_axis(scores, order, np.cumsum(ordered, axis=1) - ordered + own, axis=1)
    return scores


def set_thresholds(labels: ArrayLike, probabilities: ArrayLike, coverage: float, method: Method) -> FloatArray:
    """Return the threshold of each class, shape (K,); infinite where there are too few calibration rows.

    It is the k-th smallest score of the true classes, shape (n,), of rows that trained and chose nothing, k = ceil((n +
    1) coverage).
    """
    open_interval(coverage, "coverage")
    truth, scores = class_indices(labels, "labels"), set_scores(probabilities, method, seed=0)
    own = scores[np.arange(len(truth)), truth]
    groups = [own[truth == k] for k in range(scores.shape[1])] if method == "class" else [own]
    found = []
    for group in groups:
        rank = math.ceil((len(group) + 1) * coverage)
        found.append(float(np.sort(group)[rank - 1]) if rank <= len(group) else math.inf)
    return np.array(found if method == "class" else found * scores.shape[1])


def prediction_sets(
    probabilities: ArrayLike, thresholds: ArrayLike, method: Method, seed: int = 1
) -> NDArray[np.bool_]:
    """Return which classes are in each row's set, shape (n, K), by thresholds of the same method."""
    chosen: NDArray[np.bool_] = set_scores(probabilities, method, seed) <= np.asarray(thresholds)
    return chosen
