"""Which n-grams become the vocabulary: scikit-learn's rules, tie for tie."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agnews_exp.features.fast.counting import Block
from agnews_exp.features.fast.symbols import KeyTooWideError

_EXACT_FLOAT32 = 1 << 24


class CountedRows(Protocol):
    """N-grams counted over the rows that a vectoriser is fitted on (all of a corpus, or some of its rows)."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    def tf(self) -> NDArray[np.int64]:
        """Occurrences of each n-gram in these rows."""

    @property
    def df(self) -> NDArray[np.int64]:
        """Rows that hold each n-gram; 0 for one that only other rows hold."""

    def alphabetical(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the numbers of the chosen n-grams in alphabetical order."""

    def terms(self, numbers: NDArray[np.intp]) -> list[str]:
        """Return n-grams as strings."""

    def take_rows(self, columns: NDArray[np.int32]) -> list[tuple[Block, NDArray[np.int32]]] | None:
        """Hand over the blocks of these rows with the column of each of their numbers; None where not kept."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a vocabulary, as the parameters of scikit-learn's CountVectorizer.

    Attributes:
        min_df: Least number (int) or share (float) of rows.
        max_df: Most.
        max_features: Most terms; those with the most occurrences stay.
    """

    min_df: float | int
    max_df: float | int
    max_features: int | None


def select(counted: CountedRows, limits: Limits, dtype: np.dtype[Any], binary: bool) -> NDArray[np.intp]:
    """Return the numbers of the n-grams that form the vocabulary, in alphabetical order.

    Args:
        counted: The counts over the rows to fit on.
        limits: Bounds.
        dtype: Type of the matrix that scikit-learn would sum up: it decides how ties are broken.
        binary: Whether an n-gram counts once per row.

    Raises:
        ValueError: No n-gram at all, contradictory bounds, or none left: scikit-learn's own messages.
        KeyTooWideError: scikit-learn's sums would not be exact, so its choice cannot be foreseen.
    """
    df = counted.df
    present = df > 0
    if not present.any():
        raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
    n_rows = counted.n_rows
    most, least = _in_rows(limits.max_df, n_rows), _in_rows(limits.min_df, n_rows)
    if most < least:
        raise ValueError("max_df corresponds to < documents than min_df")
    kept = counted.alphabetical(present & (df <= most) & (df >= least))
    if limits.max_features is not None and len(kept) > limits.max_features:
        weight = (df if binary else counted.tf)[kept]
        if dtype == np.float32 and weight.max() >= _EXACT_FLOAT32:
            raise KeyTooWideError
        # The same unstable sort of the same numbers in the same order and type, so that ties fall the same way.
        sums = weight.astype(np.int64 if dtype.kind == "i" else dtype)
        kept = kept[np.sort((-sums).argsort()[: limits.max_features])]
    if len(kept) == 0:
        raise ValueError("After pruning, no terms remain. Try a lower min_df or a higher max_df.")
    return kept


def _in_rows(bound: Any, n_rows: int) -> Any:
    """Return a bound as a number of rows: an integer is one already, a float is a share."""
    return bound if isinstance(bound, Integral) else bound * n_rows


def columns_of(kept: NDArray[np.intp], n_ngrams: int) -> NDArray[np.int32]:
    """Return the column of each n-gram: its place among the kept ones, else -1."""
    columns = np.full(n_ngrams, -1, np.int32)
    columns[kept] = np.arange(len(kept), dtype=np.int32)
    return columns
