"""Texts as word ids, found once: every count of an exploration is arithmetic on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.tokens import TokenTable

IntArray = NDArray[np.int64]

_WORD: Final = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Return the lower-cased runs of letters, digits and underscores of a text."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class WordTable:
    """The words of n texts.

    Attributes:
        table: Ids of the words, text after text.
        terms: The V distinct words, id i at position i, in the order of their first occurrence.
    """

    table: TokenTable
    terms: tuple[str, ...]

    @property
    def ids(self) -> IntArray:
        """Shape (total,), the id of every word."""
        ids: IntArray = self.table.ids
        return ids

    @cached_property
    def documents(self) -> IntArray:
        """Shape (total,), the text that each word stands in."""
        return np.repeat(np.arange(len(self.table)), self.table.lengths)

    @cached_property
    def frequencies(self) -> IntArray:
        """Shape (V,), occurrences of each distinct word; 0 for words of texts that were not taken."""
        return np.bincount(self.ids, minlength=len(self.terms)).astype(np.int64)

    def take(self, positions: IntArray) -> WordTable:
        """Return the words of some texts, in this order; ids stay what they are."""
        return WordTable(self.table.take(positions), self.terms)

    def class_counts(self, labels: IntArray, n_classes: int) -> IntArray:
        """Return how often each class uses each word, shape (K, V).

        Args:
            labels: Shape (n,), each text's class.
            n_classes: K.
        """
        flat = labels[self.documents] * len(self.terms) + self.ids
        counts = np.bincount(flat, minlength=n_classes * len(self.terms))
        return counts.reshape(n_classes, len(self.terms)).astype(np.int64)

    def without(self, dropped: Iterable[str], min_length: int = 2) -> WordTable:
        """Return the table without some words and without words of fewer than ``min_length`` characters."""
        unwanted = frozenset(dropped)
        keep = np.array([len(term) >= min_length and term not in unwanted for term in self.terms], dtype=bool)
        mask = keep[self.ids] if len(self.ids) else np.zeros(0, dtype=bool)
        lengths = np.bincount(self.documents[mask], minlength=len(self.table))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return WordTable(TokenTable(self.ids[mask], offsets), self.terms)


def index_words(texts: Sequence[str], split: Callable[[str], list[str]] = split_words) -> WordTable:
    """Find the words of texts.

    Args:
        texts: The n texts.
        split: Cuts a text into words; ``str.split`` for words between blanks, letter case kept.
    """
    index: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    for position, text in enumerate(texts):
        words = split(text)
        lengths[position + 1] = len(words)
        ids.extend([index.setdefault(word, len(index)) for word in words])
    return WordTable(TokenTable(np.array(ids, dtype=np.int64), np.cumsum(lengths)), tuple(index))
