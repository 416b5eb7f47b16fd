"""Groups of rows with too many errors, found on one set of rows and confirmed on another.

Every feature that enough rows share, and every pair of features, is one slice. A one-sided hypergeometric test
(Fisher's exact test) compares its errors with those of the other rows; Benjamini and Hochberg's procedure runs over
all slices tested, not only over those that look bad. What is found was selected for its errors, so its error rate is
too high; only the rate on other rows can be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.analyses.errors.confusions import Rate, rate
from agnews_exp.evaluation.inputs import BoolArray, FloatArray, IntArray, Result, adjust

REDUNDANT = 0.5
"""Slices that share more than this of their rows (Jaccard) are one finding: the one with the lower p-value."""


@dataclass(frozen=True, eq=False)
class Features:
    """Yes-or-no features of n rows."""

    matrix: Any  # shape (n, m), sparse, 0 or 1 (int64)
    names: tuple[str, ...]  # m names
    # M names of families, such as ``word``; two features of a family other than ``word`` exclude each other or overlap
    # by definition, so they make no pair.
    families: tuple[str, ...]


@dataclass(frozen=True)
class Slice(Result):
    """A group of rows with too many errors."""

    features: tuple[str, ...]  # names of the one or two features that its rows share
    found: Rate  # error rate where it was found
    p_found: float  # one-sided p-value there, unadjusted
    q_found: float  # adjusted over all slices tested
    confirmed: Rate | None  # error rate on the other rows; None where none of them is in the slice
    p_confirmed: float  # one-sided p-value there, unadjusted
    q_confirmed: float  # adjusted over the slices that were found


@dataclass(frozen=True)
class SliceSearch(Result):
    """The result of a search for slices."""

    slices: tuple[Slice, ...]  # those found, strongest first; redundant ones left out
    n_tested: int  # slices tested, all of which the adjustment counts
    n_significant: int  # slices with too many errors before redundant ones were left out
    overall: Rate  # error rate of all rows searched
    overall_confirming: Rate  # error rate of all rows that confirm


def make_features(texts: Sequence[str], attributes: Mapping[str, Mapping[str, BoolArray]], words: Sequence[str]) -> Any:
    """Return the yes-or-no features of n texts: attributes, shape (n,), by family and name, and lower-case words."""
    from scipy.sparse import csc_array, hstack
    from sklearn.feature_extraction.text import CountVectorizer

    columns = [(family, name, has) for family, members in attributes.items() for name, has in members.items()]
    blocks = []
    if columns:
        blocks.append(csc_array(np.stack([has for _, _, has in columns], axis=1).astype(np.int64)))
    if words:
        counter = CountVectorizer(vocabulary=list(words), binary=True, dtype=np.int64)
        blocks.append(csc_array(counter.transform(texts)))
    names = [name for _, name, _ in columns] + [f"'{word}'" for word in words]
    families = [family for family, _, _ in columns] + ["word"] * len(words)
    return Features(hstack(blocks, format="csc"), tuple(names), tuple(families))


def frequent_words(texts: Sequence[str], min_rows: int) -> list[str]:
    """Return the words (two letters or more, lower case) that at least ``min_rows`` texts hold, sorted."""
    from sklearn.feature_extraction.text import CountVectorizer

    if len(texts) < min_rows:
        return []
    try:
        counter = CountVectorizer(binary=True, min_df=min_rows).fit(texts)
    except ValueError:  # no word is that frequent
        return []
    return list(map(str, counter.get_feature_names_out()))


def excess_p_values(errors: IntArray, rows: IntArray, all_errors: ArrayLike, all_rows: ArrayLike) -> FloatArray:
    """Return the chance of so many errors or more in a random subset of this size (one-sided Fisher), shape (s,).

    ``all_errors`` in ``all_rows``, of which the slices are parts, are one number or of shape (s,).
    """
    from scipy.stats import hypergeom

    if not len(rows):
        return np.empty(0)
    # Few of these combinations differ among many slices, and each takes 50 microseconds.
    combinations = np.stack(np.broadcast_arrays(errors, rows, all_errors, all_rows))
    different, where = np.unique(combinations, axis=1, return_inverse=True)
    values: FloatArray = hypergeom.sf(different[0] - 1, different[3], different[2], different[1])
    return np.clip(values[where.reshape(-1)], 0.0, 1.0)


def find_slices(
    features: Features,
    wrong: BoolArray,
    confirming: Features,
    confirming_wrong: BoolArray,
    *,
    min_rows: int = 50,
    max_q: float = 0.05,
    pairs: bool = True,
) -> SliceSearch:
    """Find slices of the rows searched (validation) with too many errors, and look at them in other rows (test).

    A pair must err too often also among the rows of each of its two features, else it says no more than they do: its
    p-value is the largest of the three tests (an intersection-union test). ``max_q`` bounds the expected share of false
    findings; a slice and the rest have ``min_rows`` rows at least.
    """
    table = _candidates(features, wrong, min_rows, pairs)
    p_values = _p_values(table, int(wrong.sum()), len(wrong), max_q)
    q_values = adjust(p_values, "benjamini_hochberg")
    order = np.lexsort((table.second >= 0, p_values))
    significant = [int(i) for i in order if q_values[i] <= max_q]
    kept = _without_redundant(features, table, significant)
    confirmed = [_members(confirming, table, i) for i in kept]
    n_rows = np.array([len(rows) for rows in confirmed], dtype=np.int64)
    n_wrong = np.array([int(confirming_wrong[rows].sum()) for rows in confirmed], dtype=np.int64)
    p_confirmed = excess_p_values(n_wrong, n_rows, int(confirming_wrong.sum()), len(confirming_wrong))
    q_confirmed = adjust(p_confirmed, "benjamini_hochberg") if len(kept) else p_confirmed
    slices = []
    for at, i in enumerate(kept):
        names = tuple(features.names[f] for f in (table.first[i], table.second[i]) if f >= 0)
        label = " and ".join(names)
        other = rate(label, int(n_wrong[at]), int(n_rows[at])) if n_rows[at] else None
        found = rate(label, int(table.errors[i]), int(table.rows[i]))
        p, q = float(p_values[i]), float(q_values[i])
        slices.append(Slice(names, found, p, q, other, float(p_confirmed[at]), float(q_confirmed[at])))
    overall = rate("all", int(wrong.sum()), len(wrong))
    others = rate("all", int(confirming_wrong.sum()), len(confirming_wrong))
    return SliceSearch(tuple(slices), len(table.rows), len(significant), overall, others)


@dataclass(frozen=True, eq=False)
class _Table:
    """All slices tested: features (``second`` is -1 for a single one), rows, errors; and those of each feature."""

    first: IntArray
    second: IntArray
    rows: IntArray
    errors: IntArray
    feature_rows: IntArray
    feature_errors: IntArray


def _candidates(features: Features, wrong: BoolArray, min_rows: int, pairs: bool) -> _Table:
    from scipy.sparse import diags_array, issparse, triu

    matrix, n = features.matrix, len(wrong)
    rows = np.asarray(matrix.sum(axis=0), dtype=np.int64).reshape(-1)
    errors = np.asarray(matrix[np.flatnonzero(wrong)].sum(axis=0), dtype=np.int64).reshape(-1)
    usable = np.flatnonzero((rows >= min_rows) & (rows <= n - min_rows))
    first, second, counts, wrongs = usable, np.full(len(usable), -1), rows[usable], errors[usable]
    if pairs and len(usable):
        part = matrix[:, usable]
        together = triu(part.T @ part, k=1, format="coo")
        enough = (together.data >= min_rows) & (together.data <= n - min_rows)
        a, b, common = together.coords[0][enough], together.coords[1][enough], together.data[enough]
        families = np.unique(np.array(features.families)[usable], return_inverse=True)[1]
        word = np.array([features.families[f] == "word" for f in usable])
        # A feature that covers the other one makes no new slice.
        sensible = ((families[a] != families[b]) | word[a]) & (common < np.minimum(counts[a], counts[b]))
        a, b, common = a[sensible], b[sensible], common[sensible]
        both_wrong = (part.T @ diags_array(wrong.astype(np.int64), dtype=np.int64) @ part).tocsr()[a, b]
        first = np.concatenate([first, usable[a]])
        second = np.concatenate([second, usable[b]])
        counts = np.concatenate([counts, common])
        wrongs = np.concatenate(
            [wrongs, (both_wrong.toarray() if issparse(both_wrong) else np.asarray(both_wrong)).reshape(-1)]
        )
    return _Table(first.astype(np.int64), second.astype(np.int64), counts, wrongs.astype(np.int64), rows, errors)


def _p_values(table: _Table, all_errors: int, all_rows: int, max_q: float) -> FloatArray:
    """Return a p-value for each slice; those above ``max_q`` may be too small, as they cannot be significant."""
    p_values = excess_p_values(table.errors, table.rows, all_errors, all_rows)
    pairs = np.flatnonzero((table.second >= 0) & (p_values <= max_q))
    for part in (table.first[pairs], table.second[pairs]):
        within = excess_p_values(
            table.errors[pairs], table.rows[pairs], table.feature_errors[part], table.feature_rows[part]
        )
        p_values[pairs] = np.maximum(p_values[pairs], within)
    return p_values


def _members(features: Features, table: _Table, i: int) -> IntArray:
    rows = features.matrix[:, [table.first[i]]].indices
    if table.second[i] >= 0:
        rows = np.intersect1d(rows, features.matrix[:, [table.second[i]]].indices)
    return np.asarray(rows, dtype=np.int64)


def _without_redundant(features: Features, table: _Table, ranked: Sequence[int]) -> list[int]:
    kept: list[int] = []
    members: list[IntArray] = []
    for i in ranked:
        rows = _members(features, table, i)
        common = [len(np.intersect1d(rows, other, assume_unique=True)) for other in members]
        if all(c / (len(rows) + len(o) - c) <= REDUNDANT for c, o in zip(common, members, strict=True)):
            kept.append(i)
            members.append(rows)
    return kept
