"""Errors by class and by row: confused classes, hard rows, doubtful labels, and error rates with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import needs
from agnews_exp.evaluation.calibrators import log_probabilities
from agnews_exp.evaluation.inputs import BoolArray, FloatArray, Result, probability_matrix
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval


def true_class_margins(labels: NDArray[np.int64], predictions: Predictions) -> FloatArray | None:
    """Return the true class's score minus the best other class's, shape (n,): negative where the row is wrong.

    The scores are the model's decision scores, or the logarithms of its probabilities where it has none; None without
    both.
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
    """Return positions of the n wrong rows with the lowest margin, lowest first; fewer where fewer rows are wrong.

    Of a model that gives labels only these are its first n errors.
    """
    wrong = np.flatnonzero(predictions.labels != labels)
    margins = true_class_margins(labels, predictions)
    if margins is None:
        return wrong[:n]
    losses = item_losses(labels, predictions)
    ties = np.zeros(len(labels)) if losses is None else -losses
    order = np.lexsort((ties[wrong], margins[wrong]))
    return wrong[order][:n]


@dataclass(frozen=True, eq=False)
class LabelNoise(Result):
    """Candidates for wrong labels."""

    rows: NDArray[np.int64]  # shape (m,), positions, most doubtful first
    self_confidence: FloatArray  # shape (m,), the probability of the label that each of these rows has
    share: float  # m / n: an estimate of the share of wrong labels that is as good as the model


def find_label_noise(labels: NDArray[np.int64], probabilities: FloatArray) -> LabelNoise:
    """Find rows whose label the model contradicts more confidently than it confirms labels on average.

    ``labels`` has shape (n,), ``probabilities`` (n, K), of a model that has not seen these rows' labels.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    with needs("cleanlab", "Finding doubtful labels", "'agnews-exp[errors]'"):
        from cleanlab.filter import find_label_issues
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


@dataclass(frozen=True)
class Rate(Result):
    """A share with its interval."""

    name: str  # what is counted, such as the group's name
    count: int  # errors
    total: int  # rows, at least 1
    rate: float  # ``count / total``
    low: float  # lower end of Wilson's score interval (1927)
    high: float  # upper end


@dataclass(frozen=True)
class Contrast(Result):
    """The error rates of the rows that have an attribute and of those that have not."""

    name: str  # the attribute
    inside: Rate  # rows that have it
    outside: Rate  # the other rows
    p_value: float  # Fisher's exact test, two-sided, unadjusted


def rate(name: str, count: int, total: int) -> Rate:
    """Return ``count`` of ``total`` (at least 1) with its 95 % Wilson interval."""
    interval = accuracy_interval(count, total)
    return Rate(name, count, total, interval.estimate, interval.low, interval.high)


def rates_by_group(wrong: BoolArray, groups: NDArray[np.int64], names: Sequence[str]) -> tuple[Rate, ...]:
    """Return the error rate of each group that has rows, by the names that ``groups``, shape (n,), point to."""
    totals = np.bincount(groups, minlength=len(names))
    counts = np.bincount(groups[wrong], minlength=len(names))
    return tuple(rate(name, int(counts[i]), int(totals[i])) for i, name in enumerate(names) if totals[i])


def contrasts(wrong: BoolArray, attributes: Mapping[str, BoolArray]) -> tuple[Contrast, ...]:
    """Return rows with an attribute against rows without, for each attribute (n,) that some but not all rows have."""
    from scipy.stats import fisher_exact

    found = []
    for name, has in attributes.items():
        n_in, n_out = int(has.sum()), int((~has).sum())
        if not n_in or not n_out:
            continue
        inside, outside = int(wrong[has].sum()), int(wrong[~has].sum())
        table = [[inside, n_in - inside], [outside, n_out - outside]]
        p_value = float(fisher_exact(table).pvalue)
        found.append(Contrast(name, rate(name, inside, n_in), rate("others", outside, n_out), p_value))
    return tuple(found)


@dataclass(frozen=True)
class Confusion(Result):
    """Errors of one pair of classes."""

    first: str  # the true class; of an undirected pair, the class with the lower index
    second: str  # the class given instead; of an undirected pair, the other class
    of_rows: Rate  # the errors among the rows that could have it: those of the true class, or of both classes
    share_of_errors: float  # the errors among all errors


def confusions(matrix: NDArray[np.int64], class_names: Sequence[str], *, directed: bool) -> tuple[Confusion, ...]:
    """Return the pairs of classes that are confused in a matrix (K, K), most frequent first.

    Directed pairs are (true class, class given); else errors both ways are one pair's.
    """
    support = matrix.sum(axis=1)
    if directed:
        arrow, cells = " -> ", [(i, j, matrix[i, j], support[i]) for i, j in np.ndindex(*matrix.shape) if i != j]
    else:
        both, rows = matrix + matrix.T, support[:, None] + support
        arrow, cells = " <-> ", [(i, j, both[i, j], rows[i, j]) for i, j in np.ndindex(*matrix.shape) if i < j]
    errors = sum(count for _, _, count, _ in cells)
    found = [
        Confusion(one, other, rate(f"{one}{arrow}{other}", int(count), int(total)), float(count / errors))
        for one, other, count, total in ((class_names[i], class_names[j], c, t) for i, j, c, t in cells)
        if count
    ]
    return tuple(sorted(found, key=lambda pair: -pair.of_rows.count))
