"""Groups of rows that a column of the user's files names: scores of each (slices), intervals over all (clusters)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import FloatArray, Result
from agnews_exp.evaluation.metrics import macro_f1, margins_of
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval, metric_interval

FEW_ROWS = 20
"""Values with fewer rows are judged together, as ``(rare)``; rows without a value are ``(none)``."""

MOST_VALUES = 30
"""So many values of a column are judged one by one, those with most rows."""


@dataclass(frozen=True)
class SliceScore(Result):
    """The scores of the rows that have one value in a column."""

    column: str  # the column
    value: str  # the value
    rows: int  # number of rows
    accuracy: float  # with ``accuracy_low`` and ``accuracy_high``, Wilson's 95 % interval
    accuracy_low: float
    accuracy_high: float
    # Over the classes that occur in these rows or their answers, with ``macro_f1_low`` and ``macro_f1_high``, the 95 %
    # percentile bootstrap interval over rows.
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    difference: float  # accuracy less that of all other rows
    # Permutation test of that difference, adjusted over all slices of all columns (max-T, Westfall and Young 1993): the
    # share of random deals of the right answers to rows in which any slice differs as much.
    p_value: float


def grouped(values: Sequence[str]) -> NDArray[np.str_]:
    """Return the values of a column as slices, shape (n,): rare ones together, missing ones by name."""
    named = [value or "(none)" for value in values]
    counts = Counter(named)
    kept = {value for value, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:MOST_VALUES] if n >= FEW_ROWS}
    return np.array([value if value in kept else "(rare)" for value in named])


def score_slices(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], columns: Mapping[str, Sequence[str]]
) -> list[SliceScore]:
    """Return the scores of every value of every column, the lowest accuracy first; a single value makes no slices."""
    right = labels == predicted
    found: list[SliceScore] = []
    members: list[NDArray[np.bool_]] = []
    for column, values in columns.items():
        groups = grouped(values)
        names = np.unique(groups)
        for value in names.tolist() if len(names) > 1 else []:
            inside = groups == value
            n, hits, others = int(inside.sum()), int(right[inside].sum()), int(right[~inside].sum())
            accuracy = accuracy_interval(hits, n)
            rest = len(right) - n
            members.append(inside)
            found.append(
                SliceScore(
                    column, value, n, accuracy.estimate, accuracy.low, accuracy.high,
                    *_macro_f1(labels[inside], predicted[inside]), accuracy.estimate - others / rest, 1.0,
                )
            )  # fmt: skip
    adjusted = _permutation_p_values(right, np.array(members)) if found else np.empty(0)
    scored = [replace(one, p_value=float(p)) for one, p in zip(found, adjusted, strict=True)]
    return sorted(scored, key=lambda one: (one.accuracy, one.column, one.value))


def _permutation_p_values(right: NDArray[np.bool_], inside: NDArray[np.bool_], permutations: int = 1999) -> FloatArray:
    """Return max-T p-values, shape (S,), from which rows are right, shape (n,), and in which slices, shape (S, n)."""
    cells, place, counts = np.unique(inside, axis=1, return_inverse=True, return_counts=True)
    n, size, share = len(right), inside.sum(axis=1), float(right.mean())
    spread = np.sqrt(size * (n - size) / max(1, n - 1) * share * (1 - share))

    def deviations(hits: FloatArray) -> FloatArray:
        found: FloatArray = np.abs(hits - size * share) / np.where(spread > 0, spread, np.inf)
        return found

    observed = deviations(cells.astype(np.float64) @ np.bincount(place.ravel(), right, len(counts)))
    # Rows of the same slices are alike, so that dealing the right answers to cells deals them to rows.
    dealt = np.random.default_rng(0).multivariate_hypergeometric(counts, int(right.sum()), permutations)
    largest = deviations(dealt.astype(np.float64) @ cells.T).max(axis=1)
    extreme: FloatArray = (1 + (largest[:, None] >= observed - 1e-9).sum(axis=0)) / (1 + permutations)
    return extreme


def _macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return macro-F1 over the classes that occur, and its interval."""
    classes, places = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    if len(classes) == 1:  # one class, always right
        return (1.0, accuracy_interval(len(labels), len(labels)).low, 1.0)
    truth, given = places[: len(labels)], places[len(labels) :]
    names = [str(k) for k in classes.tolist()]
    value = float(macro_f1(margins_of(truth, given, len(classes))))
    return (value, *metric_interval(truth, given, "macro_f1", names))


def judge_clusters(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    clusters: Sequence[str],
    known: Collection[str],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return intervals over clusters of rows, and the share of rows whose cluster stands in training too.

    ``known`` are the clusters of the training rows; rows without a cluster (empty) are clusters of their own.

    Returns:
        ``clusters``, their number; ``shared``, a share of rows; ``accuracy`` and ``macro_f1``, each with estimate, low
        and high, where there are two clusters or more.
    """
    own = [name or f"(row {i})" for i, name in enumerate(clusters)]
    n = len(set(own))
    shared = float(np.mean([bool(name) and name in known for name in clusters]))
    found: dict[str, Any] = {"clusters": n, "shared": shared}
    for metric in ("accuracy", "macro_f1") if n > 1 else ():
        one = bootstrap_metric(labels, predicted, metric, resamples=2000, class_names=class_names, clusters=own)
        found[metric] = {"estimate": one.estimate, "low": one.percentile[0], "high": one.percentile[1]}
    return found


def worst_slice(scores: Sequence[SliceScore], alpha: float = 0.05) -> SliceScore | None:
    """Return the slice with the lowest accuracy among those that are surely below the other rows; None without any."""
    sure = [one for one in scores if one.difference < 0 and one.p_value <= alpha]
    return min(sure, key=lambda one: one.accuracy, default=None)
