"""Frequent and discriminative n-grams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.exploration.measures.words import IntArray, WordTable

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """How often each class uses the n-grams of one length.

    Attributes:
        keys: Shape (m,), each n-gram's word ids as digits of a number whose base is the size of the vocabulary.
        size: Words of an n-gram.
        vocabulary: The words.
        counts: Shape (K, m).
    """

    keys: IntArray
    size: int
    vocabulary: tuple[str, ...]
    counts: IntArray

    def spell(self, position: int) -> str:
        """Return an n-gram, its words joined by one blank."""
        key, base, parts = int(self.keys[position]), max(1, len(self.vocabulary)), []
        for _ in range(self.size):
            key, last = divmod(key, base)
            parts.append(self.vocabulary[last])
        return " ".join(reversed(parts))

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The m n-grams."""
        return tuple(map(self.spell, range(len(self.keys))))

    @property
    def totals(self) -> IntArray:
        """Shape (m,), occurrences in all classes."""
        totals: IntArray = self.counts.sum(axis=0)
        return totals

    def top(self, n: int, of: int | None = None) -> list[tuple[str, int]]:
        """Return the n most frequent with their occurrences, of all classes or of one; equals by name."""
        counts = self.totals if of is None else self.counts[of]
        n = min(n, len(counts))
        if n == 0:
            return []
        least = max(1, int(np.partition(counts, -n)[-n]))
        found = [(self.spell(i), int(counts[i])) for i in np.flatnonzero(counts >= least).tolist()]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:n]


def count_ngrams(words: WordTable, labels: IntArray, n_classes: int, size: int, min_count: int = 1) -> NgramCounts:
    """Count n-grams within texts.

    Args:
        words: The words of n texts.
        labels: Shape (n,), each text's class.
        n_classes: K.
        size: Words of an n-gram, 1 to 3.
        min_count: Rarer n-grams are left out.
    """
    ids, documents, base = words.ids, words.documents, max(1, len(words.terms))
    keys, of = ids, documents
    for step in range(1, size):
        keys, of = keys[:-1] * base + ids[step:], of[:-1]
    inside = documents[size - 1 :] == of
    found, where, totals = np.unique(keys[inside], return_inverse=True, return_counts=True)
    frequent = totals >= min_count
    renumbered = np.cumsum(frequent) - 1
    kept = frequent[where]
    m = int(frequent.sum())
    flat = labels[of[inside][kept]] * m + renumbered[where[kept]]
    counts = np.bincount(flat, minlength=n_classes * m).reshape(n_classes, m).astype(np.int64)
    return NgramCounts(found[frequent], size, words.terms, counts)


def weighted_log_odds(counts: IntArray, prior_words: float) -> FloatArray:
    """Return how much more each class uses each term than the other classes do, as z-scores, shape (K, m).

    The log-odds ratio with an informative Dirichlet prior, divided by its standard deviation: equations 15, 16, 20 and
    22 of Monroe, Colaresi and Quinn, "Fightin' Words" (2008). The prior has the shares of the whole corpus, so that
    rare terms are drawn to no difference.

    Args:
        counts: Shape (K, m).
        prior_words: The prior's weight, in words.
    """
    total = counts.sum(axis=0)
    prior = prior_words * total / total.sum()
    scores = np.zeros(counts.shape)
    for k, own in enumerate(counts):
        other = total - own
        a, b = own + prior, other + prior
        rest_a, rest_b = own.sum() + prior_words - a, other.sum() + prior_words - b
        difference = np.log(a / rest_a) - np.log(b / rest_b)
        scores[k] = difference / np.sqrt(1 / a + 1 / b)
    return scores


def chi2_scores(matrix: Any, labels: IntArray) -> FloatArray:
    """Return the chi2 statistic of each column against the classes, shape (m,).

    Args:
        matrix: Shape (n, m), not negative, sparse or dense.
        labels: Shape (n,).
    """
    from sklearn.feature_selection import chi2

    scores: FloatArray = np.nan_to_num(chi2(matrix, labels)[0])
    return scores
