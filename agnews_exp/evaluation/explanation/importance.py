"""How much a classifier leans on each family of features: what its score loses when the family says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Score = Callable[[Any], float]
"""Scores a feature matrix (n, V), higher is better."""


@dataclass(frozen=True)
class FamilyImportance:
    """What a family of columns is worth to a fitted model.

    Attributes:
        family: Its name.
        n_columns: Its columns.
        permuted: Mean loss of score when the family's part of each row comes from another row.
        permuted_sd: Standard deviation of that loss over the repetitions.
        dropped: Loss of score when the family's columns are all zero; the model is not fitted again.
    """

    family: str
    n_columns: int
    permuted: float
    permuted_sd: float
    dropped: float


def family_importance(
    matrix: Any, families: Mapping[str, NDArray[np.int64]], score: Score, *, repeats: int = 5, seed: int = 0
) -> tuple[float, list[FamilyImportance]]:
    """Permute (Breiman 2001) or blank all columns of a family together.

    Columns of a family move together, so that what they say of each other stays and only what they say of the rest
    and of the class is lost. Families that say the same stand in for one another: each can then look unimportant.

    Args:
        matrix: Shape (n, V), sparse or dense.
        families: Name to column indices.
        score: Scores a matrix of the same shape.
        repeats: Permutations.
        seed: Of the permutations.

    Returns:
        The score of the untouched matrix, and one entry a family.
    """
    generator = np.random.default_rng(seed)
    untouched = score(matrix)
    found = []
    for name, columns in families.items():
        without = _blanked(matrix, columns)
        own = matrix - without
        losses = [untouched - score(without + own[generator.permutation(own.shape[0])]) for _ in range(repeats)]
        spread = float(np.std(losses, ddof=1)) if repeats > 1 else 0.0
        dropped = untouched - score(without)
        found.append(FamilyImportance(name, len(columns), float(np.mean(losses)), spread, dropped))
    return untouched, found


def _blanked(matrix: Any, columns: NDArray[np.int64]) -> Any:
    keep = np.ones(matrix.shape[1])
    keep[columns] = 0.0
    if not hasattr(matrix, "tocsr"):
        return matrix * keep
    blanked = matrix.tocsr(copy=True)
    blanked.data = blanked.data * keep[blanked.indices]
    blanked.eliminate_zeros()
    return blanked
