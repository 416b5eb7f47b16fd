"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.errors.rates import Rate, rate
from agnews_exp.evaluation.statistics.inputs import Result


@dataclass(frozen=True)
class Confusion(Result):
    """One kind of error.

    Attributes:
        first: The true class; of an undirected pair, the class with the lower index.
        second: The class given instead; of an undirected pair, the other class.
        of_rows: The errors among the rows that could have it: those of the true class, or of both classes.
        share_of_errors: The errors among all errors.
    """

    first: str
    second: str
    of_rows: Rate
    share_of_errors: float


def directed_confusions(
    matrix: NDArray[np.int64], class_names: Sequence[str], level: float = 0.95
) -> tuple[Confusion, ...]:
    """Return the pairs (true class, class given) that occur, most frequent first.

    Args:
        matrix: Shape (K, K); rows are true classes, columns those given.
        class_names: K names.
        level: Nominal coverage of the intervals.
    """
    support = matrix.sum(axis=1)
    cells = [(i, j, int(matrix[i, j]), int(support[i])) for i, j in np.ndindex(*matrix.shape) if i != j]
    return _ranked(cells, class_names, " -> ", level)


def undirected_confusions(
    matrix: NDArray[np.int64], class_names: Sequence[str], level: float = 0.95
) -> tuple[Confusion, ...]:
    """Return the pairs of classes that are taken for each other, most frequent first; arguments as above."""
    support = matrix.sum(axis=1)
    cells = [
        (i, j, int(matrix[i, j] + matrix[j, i]), int(support[i] + support[j]))
        for i, j in np.ndindex(*matrix.shape)
        if i < j
    ]
    return _ranked(cells, class_names, " <-> ", level)


def _ranked(
    cells: list[tuple[int, int, int, int]], names: Sequence[str], arrow: str, level: float
) -> tuple[Confusion, ...]:
    errors = sum(count for _, _, count, _ in cells)
    found = [
        Confusion(names[i], names[j], rate(f"{names[i]}{arrow}{names[j]}", count, total, level), count / errors)
        for i, j, count, total in cells
        if count
    ]
    return tuple(sorted(found, key=lambda pair: -pair.of_rows.count))
