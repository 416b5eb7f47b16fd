"""Rows whose label is probably wrong: confident learning (Northcutt, Jiang and Chuang 2021) with cleanlab."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import MissingDependencyError
from agnews_exp.evaluation.statistics.inputs import Result, probability_matrix


@dataclass(frozen=True, eq=False)
class LabelNoise(Result):
    """Candidates for wrong labels.

    Attributes:
        rows: Shape (m,), positions, most doubtful first.
        self_confidence: Shape (m,), the probability of the label that each of these rows has.
        share: m / n: an estimate of the share of wrong labels that is as good as the model.
    """

    rows: NDArray[np.int64]
    self_confidence: NDArray[np.float64]
    share: float


def find_label_noise(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> LabelNoise:
    """Find rows whose label the model contradicts more confidently than it confirms labels on average.

    Args:
        labels: Shape (n,), class indices as labelled.
        probabilities: Shape (n, K), of a model that has not seen these rows' labels.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Label-noise candidates need the package 'cleanlab', which is not installed.",
            fix="pip install 'agnews-exp[errors]'",
        ) from error
    matrix = probability_matrix(probabilities, len(labels))
    # cleanlab wants every class among the labels; one that no row has can have no wrong label either.
    present = np.unique(labels)
    renumbered = np.searchsorted(present, labels)
    part = matrix[:, present]
    totals = part.sum(axis=1, keepdims=True)
    part = np.where(totals > 0, part / np.where(totals > 0, totals, 1), 1 / len(present))
    if len(present) < 2:
        rows = np.empty(0, dtype=np.int64)
    else:
        found = find_label_issues(renumbered, part, return_indices_ranked_by="self_confidence", n_jobs=1)
        rows = np.asarray(found, dtype=np.int64)
    return LabelNoise(rows, matrix[rows, labels[rows]], len(rows) / len(labels))
