"""Shares of labelled rows: how many rows have each class, and how to divide rows so that every part has its share.

Labels are class indices, shape (n,), or sets of classes, shape (n, K), of 0 and 1. Rows with sets are divided by
iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), for no class alone says where a row belongs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


def class_counts(labels: Positions, n_classes: int) -> Positions:
    """Return the rows that have each class, shape (K,)."""
    counts: Positions = np.bincount(labels, minlength=n_classes) if labels.ndim == 1 else labels.sum(axis=0)
    return counts


def has_any(labels: Positions, classes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows have one of the chosen classes, a mask of shape (K,)."""
    chosen: NDArray[np.bool_] = classes[labels] if labels.ndim == 1 else labels @ classes.astype(np.int64) > 0
    return chosen


def stratified_cut(labels: Positions, size: float, seed: int) -> tuple[Positions, Positions]:
    """Return the positions of the rest, and those of a share ``size`` that is cut off, in the order of a seed."""
    from sklearn.model_selection import train_test_split

    if labels.ndim == 1:
        rest, cut = train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=seed)
        return rest, cut
    part = _dealt(labels, np.array([1 - size, size]), seed)
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def stratified_folds(labels: Positions, n_folds: int, seed: int | None) -> list[tuple[Positions, Positions]]:
    """Return folds: (positions to train on, positions held out), ascending; without a seed nothing is shuffled."""
    from sklearn.model_selection import StratifiedKFold

    if labels.ndim == 1:
        folds = StratifiedKFold(n_folds, shuffle=seed is not None, random_state=seed)
        return list(folds.split(np.zeros(len(labels)), labels))
    part = _dealt(labels, np.full(n_folds, 1 / n_folds), seed or 0)
    return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(n_folds)]


def _dealt(labels: Positions, shares: NDArray[np.float64], seed: int) -> Positions:
    """Return the part of each row, shape (n,), by iterative stratification.

    The class with the fewest rows left is dealt next, each of its rows to the part that wants it most: by the rows of
    this class that it lacks, then by all that it lacks, then by a seeded draw. Rows without any class come last.
    """
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(labels))
    lacking = np.outer(labels.sum(axis=0), shares)  # rows of each class that each part still wants
    room = len(labels) * shares
    part, left = np.full(len(labels), -1, dtype=np.int64), labels.sum(axis=0)

    def deal(row: int, wanted: NDArray[np.float64]) -> None:
        most = np.flatnonzero(wanted >= wanted.max() - 1e-9)
        most = most[room[most] >= room[most].max() - 1e-9]
        chosen = most[rng.randint(len(most))] if len(most) > 1 else most[0]
        part[row] = chosen
        room[chosen] -= 1
        lacking[labels[row] == 1, chosen] -= 1

    while (left > 0).any():
        rarest = int(np.argmin(np.where(left > 0, left, len(labels) + 1)))
        rows = order[(labels[order, rarest] == 1) & (part[order] < 0)]
        for row in rows.tolist():
            deal(row, lacking[rarest])
        left = left - labels[rows].sum(axis=0)
    for row in order[part[order] < 0].tolist():
        deal(row, room)
    return part


def spread(labels: Positions, seed: int) -> Positions:
    """Return the rows with sets in an order of which every beginning has about the share of each set that all have.

    Within the sorted sets the order follows multiples of the golden ratio, whose beginnings are evenly spread.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_set = shuffled[np.lexsort(labels[shuffled].T[::-1])]
    place = (np.arange(len(labels)) * ((np.sqrt(5) - 1) / 2)) % 1
    return by_set[np.argsort(place, kind="stable")]
