"""Texts that are the same but for a few words, within and across splits.

Texts are compared by their word shingles: Jaccard similarity of the sets of k-word sequences, letter case and
punctuation aside. MinHash with locality-sensitive hashing (datasketch) proposes pairs, their exact similarity decides.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.confusions import Contrast, Rate, contrasts, rate
from agnews_exp.core.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.core.errors import needs
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import column_values
from agnews_exp.data.tables import ColumnName
from agnews_exp.evaluation.drift import split_words
from agnews_exp.evaluation.inputs import FloatArray, IntArray, Result
from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval, bootstrap_metric


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Groups of texts with equal words and pairs of similar ones, among n texts."""

    keys: IntArray  # shape (n,), 0..m-1; texts with the same words in the same order have the same key
    first: IntArray  # shape (p,), key of one of each pair of near-duplicates
    second: IntArray  # shape (p,), key of the other one, greater than ``first``
    similarity: FloatArray  # shape (p,), Jaccard similarity of the pair's shingles, below 1 or, rarely, 1


@dataclass(frozen=True, eq=False)
class Matches:
    """The most similar text of another split, for each of the r rows of one split."""

    position: IntArray  # shape (r,), position in the other split; -1 where no text is similar enough
    similarity: FloatArray  # shape (r,), 0 where there is none

    @property
    def found(self) -> NDArray[np.bool_]:
        """Shape (r,), whether there is one."""
        return self.position >= 0


def normalised(text: str) -> str:
    """Return the words of a text in lower case, one space between them."""
    return " ".join(split_words(text))


def exact_keys(texts: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Return each text's key (n,) and the m different normalised texts, key i at position i."""
    index: dict[str, int] = {}
    keys = [index.setdefault(normalised(text), len(index)) for text in texts]
    return np.array(keys, dtype=np.int64), list(index)


def shingles(words: str, size: int) -> frozenset[str]:
    """Return the sequences of ``size`` words of a normalised text; all of it where it is shorter."""
    parts = words.split()
    return frozenset(" ".join(parts[i : i + size]) for i in range(max(1, len(parts) - size + 1)))


def find_near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.5, shingle_words: int = 3, permutations: int = 128, seed: int = 1
) -> NearDuplicates:
    """Find all pairs of texts whose shingles have a Jaccard similarity of ``threshold`` or more.

    Of 38 words and three-word shingles, one word changed leaves .85, four words about .5. ``permutations`` is the
    length of the MinHash signatures: more find more of the pairs near the threshold.

    Raises:
        MissingDependencyError: datasketch is not installed.
    """
    with needs("datasketch", "Finding near-duplicates", "'agnews-exp[errors]'"):
        from datasketch import MinHash, MinHashLSH
    keys, different = exact_keys(texts)
    sets = [shingles(words, shingle_words) for words in different]
    # Candidates are checked exactly, so a missed pair is worse than a needless one.
    index = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    encoded = ([shingle.encode() for shingle in members] for members in sets)
    signatures = MinHash.generator(encoded, num_perm=permutations, seed=seed, hashfunc=zlib.crc32)
    pairs: list[tuple[int, int, float]] = []
    for key, signature in enumerate(signatures):
        for other in index.query(signature):
            common = len(sets[key] & sets[other])
            if (similarity := common / (len(sets[key]) + len(sets[other]) - common)) >= threshold:
                pairs.append((other, key, similarity))
        index.insert(key, signature, check_duplication=False)
    pairs.sort()
    first, second, values = ([pair[i] for pair in pairs] for i in range(3))
    return NearDuplicates(keys, np.array(first, np.int64), np.array(second, np.int64), np.array(values, np.float64))


def cached_near_duplicates(cache_dir: Path, texts: Sequence[str], settings: Mapping[str, Any]) -> NearDuplicates:
    """Return the near-duplicates among texts; ``settings`` are the named arguments of :func:`find_near_duplicates`.

    Raises:
        MissingDependencyError: datasketch is not installed.
    """

    def build() -> dict[str, Any]:
        return dict(vars(find_near_duplicates(texts, **settings)))

    key = cache_key(1, digest_texts(texts), *(settings[name] for name in sorted(settings)))
    return NearDuplicates(**ArrayCache(cache_dir / "analyses").get_or_build("near_duplicates", key, build))


def component_numbers(found: NearDuplicates) -> IntArray:
    """Return the group of each text, shape (n,): texts that a chain of (near-)duplicates links are of one group."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n_keys = int(found.keys.max(initial=-1)) + 1
    links = csr_array((np.ones(len(found.first)), (found.first, found.second)), shape=(n_keys, n_keys))
    groups: IntArray = connected_components(links, directed=False)[1].astype(np.int64)[found.keys]
    return groups


CLUSTERS = "near_duplicates"
"""The value of ``evaluation.cluster_column`` that makes groups of near-duplicates."""

ALIKE = 0.8
"""Jaccard similarity from which on texts are of one group: one word of 38 changed leaves .85."""


def row_groups(
    column: ColumnName, data: Mapping[str, Any], parts: Mapping[str, TextRows], cache_dir: Path
) -> dict[str, list[str]]:
    """Return the group of each row by split: a column's values, or near-duplicates for :data:`CLUSTERS`.

    Args:
        column: The value of ``evaluation.cluster_column``.
        data: The resolved group ``data`` of a configuration.
        parts: Rows by split.
        cache_dir: Keeps what was found.
    """
    if column != CLUSTERS:
        (named,) = column_values(data, parts, [column], "evaluation.cluster_column").values()
        return named
    every, places = joined(parts)
    numbers = component_numbers(cached_near_duplicates(cache_dir, every, {"threshold": ALIKE}))
    return {split: [str(group) for group in numbers[rows].tolist()] for split, rows in places.items()}


def exact_duplicates(texts: Sequence[str]) -> NearDuplicates:
    """Return only the texts with the same words, which needs no package; ``first`` and ``second`` are empty."""
    none = np.empty(0, dtype=np.int64)
    return NearDuplicates(exact_keys(texts)[0], none, none, np.empty(0))


def count_across(found: NearDuplicates, parts: Mapping[str, slice]) -> dict[str, dict[str, int]]:
    """Count, by split and split, rows that have a (near-)duplicate in another split, or another row in their own."""
    from scipy.sparse import csr_array

    n_keys = int(found.keys.max(initial=-1)) + 1
    ones = np.ones(2 * len(found.first), dtype=np.int64)
    ends = np.concatenate([found.first, found.second]), np.concatenate([found.second, found.first])
    neighbours = csr_array((ones, ends), shape=(n_keys, n_keys))
    held = {name: np.bincount(found.keys[rows], minlength=n_keys) for name, rows in parts.items()}
    near = {name: neighbours @ counts for name, counts in held.items()}
    return {
        split: {
            other: int(np.sum(held[split] * ((held[other] > (1 if other == split else 0)) | (near[other] > 0))))
            for other in parts
        }
        for split in parts
    }


def joined(parts: Mapping[str, TextRows]) -> tuple[list[str], dict[str, slice]]:
    """Return the texts of all splits, one after the other, and where each split's lie among them."""
    every: list[str] = []
    places = {}
    for name, rows in parts.items():
        places[name] = slice(len(every), len(every) + len(rows))
        every += rows.texts
    return every, places


def best_matches(found: NearDuplicates, rows: slice, others: slice) -> Matches:
    """Return the most similar of ``others`` for each of ``rows``; the first one among equals."""
    n_keys = int(found.keys.max(initial=-1)) + 1
    where = np.full(n_keys, -1, dtype=np.int64)
    other_keys = found.keys[others]
    where[other_keys[::-1]] = np.arange(len(other_keys))[::-1]
    similarity = (where >= 0).astype(np.float64)
    position = where.copy()
    ends = np.concatenate([found.first, found.second]), np.concatenate([found.second, found.first])
    values = np.concatenate([found.similarity, found.similarity])
    # Ascending, so that the last write to a key, the one that stays, is its most similar neighbour.
    for pair in np.argsort(values, kind="stable"):
        key, neighbour = ends[0][pair], ends[1][pair]
        if where[key] < 0 and where[neighbour] >= 0 and values[pair] > similarity[key]:
            position[key], similarity[key] = where[neighbour], values[pair]
    own = found.keys[rows]
    return Matches(position[own], similarity[own])


@dataclass(frozen=True)
class DuplicateEffect(Result):
    """The metrics of a split with and without the rows that have a near-duplicate among the training rows."""

    n_rows: int  # rows of the split
    n_near: int  # those with a near-duplicate in train
    all_rows: dict[str, BootstrapInterval]  # metrics of all rows, by name
    # Metrics of the rows that have none; None where there are no such rows.
    without: dict[str, BootstrapInterval] | None
    errors: Contrast | None  # error rates of both kinds of rows; None where there is only one kind
    # Of the rows with a near-duplicate, those that bear another label than it does; None without any.
    conflicts: Rate | None
    follows_train: Rate | None  # of the conflicting rows, those to which the model gives the training row's label
    # Metrics of all rows with intervals over groups of (near-)duplicates; None where there is one group only.
    in_groups: dict[str, BootstrapInterval] | None


def duplicate_effect(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    train_labels: NDArray[np.int64],
    matches: Matches,
    class_names: Sequence[str],
    groups: IntArray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> DuplicateEffect:
    """Return the effect of near-duplicates among the t training rows on the metrics of one split of n rows.

    ``groups`` has the group of each of the n rows (:func:`component_numbers`).
    """

    def metrics(rows: NDArray[np.bool_], clusters: IntArray | None = None) -> dict[str, BootstrapInterval]:
        return {
            metric: bootstrap_metric(
                labels[rows], predicted[rows], metric, resamples=resamples, seed=seed, class_names=class_names,
                clusters=clusters,
            )
            for metric in ("accuracy", "macro_f1")
        }  # fmt: skip

    near = matches.found
    contrast = contrasts(predicted != labels, {"near-duplicate in train": near})
    theirs = train_labels[matches.position[near]]
    differ = theirs != labels[near]
    follow = (predicted[near] == theirs) & differ
    n_near, n_differ = int(near.sum()), int(differ.sum())
    return DuplicateEffect(
        n_rows=len(labels),
        n_near=n_near,
        all_rows=metrics(np.ones(len(labels), dtype=bool)),
        without=metrics(~near) if (~near).any() else None,
        errors=contrast[0] if contrast else None,
        conflicts=rate("other label than in train", n_differ, n_near) if n_near else None,
        follows_train=rate("model gives train's label", int(follow.sum()), n_differ) if n_differ else None,
        in_groups=metrics(np.ones(len(labels), dtype=bool), groups) if len(np.unique(groups)) > 1 else None,
    )
