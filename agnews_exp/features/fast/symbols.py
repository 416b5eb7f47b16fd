"""What is counted, and rows of numbered symbols: the terms in which readers and counters talk to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_CHARACTERS = 1 << 19
"""Characters that one step of work takes: large enough for numpy, small enough for the processor's cache."""

LONGEST_TEXT = 1 << 26
"""Characters of the longest text that compiled code takes, so that positions within a block fit into 32 bits."""

BLOCK_ROWS = 1 << 16
"""Most rows of a block, so that a row's number within it fits into 16 bits."""


class KeyTooWideError(Exception):
    """An n-gram does not fit into one 64-bit key: the caller counts with scikit-learn instead."""


@dataclass(frozen=True)
class NgramSpec:
    """What is counted: every setting that changes the n-grams of a text, and nothing else.

    Attributes:
        analyzer: ``word``, ``char`` or ``char_wb``.
        min_n: Shortest n-gram, at least 1.
        max_n: Longest n-gram.
        lowercase: Whether texts are lower-cased.
        token_pattern: Regular expression of a token (``word`` only, else empty).
        stop_words: Tokens to leave out, sorted (``word`` only).
        strip_accents: ``ascii``, ``unicode`` or None.
    """

    analyzer: str
    min_n: int
    max_n: int
    lowercase: bool
    token_pattern: str = ""
    stop_words: tuple[str, ...] = ()
    strip_accents: str | None = None

    @property
    def bits(self) -> int:
        """Bits of a key that each symbol gets."""
        return min(32, 64 // self.max_n)

    @property
    def limit(self) -> int:
        """Largest symbol that fits."""
        return (1 << self.bits) - 1

    @property
    def reader_lowers(self) -> bool:
        """Whether readers lower-case; stripping accents comes after it, so :func:`prepare` then does both."""
        return self.lowercase and self.strip_accents is None

    @property
    def within_words(self) -> bool:
        """Whether n-grams stay within padded words."""
        return self.analyzer == "char_wb"


@dataclass
class SymbolRows:
    """Symbols of some rows; see :mod:`agnews_exp.features.fast.text_kernels`.

    Attributes:
        symbols: uint32.
        segments: int64, start of each segment and the end of the last.
        row_segments: int64, first segment of each row and the end of the last.
    """

    symbols: NDArray[np.uint32]
    segments: NDArray[np.int64]
    row_segments: NDArray[np.int64]

    def most_ngrams(self, spec: NgramSpec) -> int:
        """Return an upper bound for the number of n-gram occurrences."""
        count = int(self.row_segments[-1])
        return int(self.segments[count]) * (spec.max_n - spec.min_n + 1) + count

    def most_in_row(self, spec: NgramSpec) -> int:
        """Return an upper bound for the number of n-gram occurrences of any one row."""
        symbols = np.diff(self.segments[self.row_segments])
        most = symbols * (spec.max_n - spec.min_n + 1) + np.diff(self.row_segments)
        return int(most.max(initial=0))


def without_stop_words(rows: SymbolRows, stop: int) -> SymbolRows:
    """Return the rows without the symbols up to ``stop``: their neighbours become adjacent."""
    count = int(rows.row_segments[-1])
    symbols = rows.symbols[: int(rows.segments[count])]
    keep = symbols > stop
    before = np.concatenate([[0], np.cumsum(keep)])
    return SymbolRows(symbols[keep], before[rows.segments[: count + 1]], rows.row_segments)


def prepare(texts: Sequence[str], spec: NgramSpec) -> Sequence[str]:
    """Apply what cannot be done in compiled code: lower-casing and stripping of accents, text by text."""
    if spec.strip_accents is None:
        return texts
    from sklearn.feature_extraction.text import strip_accents_ascii, strip_accents_unicode

    strip: Any = strip_accents_ascii if spec.strip_accents == "ascii" else strip_accents_unicode
    return [strip(text.lower() if spec.lowercase else text) for text in texts]


def chunks(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Cut rows into chunks of about :data:`CHUNK_CHARACTERS`, as (first row, row after the last)."""
    lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
    if lengths.max(initial=0) > LONGEST_TEXT:
        raise KeyTooWideError
    return cut_rows(lengths)


def cut_rows(sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut rows of so many characters into chunks; the cuts depend on nothing else."""
    group = (np.cumsum(sizes) - sizes) // CHUNK_CHARACTERS
    firsts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    return [
        (begin, min(begin + BLOCK_ROWS, last))
        for first, last in pairwise(firsts)
        for begin in range(first, last, BLOCK_ROWS)
    ]
