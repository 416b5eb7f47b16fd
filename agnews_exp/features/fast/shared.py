"""One count of a corpus for many fits: folds, fractions and sweeps slice rows instead of counting again.

Counting needs no labels and looks at each row alone, so rows of all splits may be counted together; what a fit
learns (vocabulary, document frequencies) is summed over its own rows only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.cache import DEFAULT_SIZE_LIMIT, ArrayCache, CacheEntry, cache_key, digest_texts
from agnews_exp.features.fast.counting import (
    STREAM_LIMIT,
    Block,
    alphabetical_keys,
    count_texts,
    run_threads,
    split_keys,
    term_strings,
)
from agnews_exp.features.fast.symbols import KeyTooWideError, NgramSpec, cut_rows
from agnews_exp.features.fast.terms import pack_terms, unpack_terms

_VERSION = 1


class CorpusCounts:
    """All n-grams of a corpus: every occurrence in every row.

    Args:
        spec: What was counted.
        entry: Arrays ``stream``, ``row_ends``, ``lengths`` (characters of each text), ``keys``, ``order``,
            ``name_text``, ``name_lengths``.
    """

    def __init__(self, spec: NgramSpec, entry: CacheEntry) -> None:
        arrays = entry.arrays
        self.spec = spec
        self.stream: NDArray[np.int32] = arrays["stream"]
        self.row_ends: NDArray[np.int64] = arrays["row_ends"]
        self.lengths: NDArray[np.int64] = arrays["lengths"]
        self.keys: NDArray[np.uint64] = arrays["keys"]
        self.order: NDArray[np.int64] = arrays["order"]
        self.names = unpack_terms(arrays["name_text"], arrays["name_lengths"])


def _count_corpus(texts: Sequence[str], spec: NgramSpec, n_jobs: int) -> dict[str, NDArray[Any]]:
    counts = count_texts(texts, spec, n_jobs, keep=True)
    assert counts.blocks is not None
    row_ends = np.zeros(len(texts) + 1, np.int64)
    row = total = 0
    for block in counts.blocks:
        row_ends[row + 1 : row + 1 + len(block.ends)] = block.ends + total
        row += len(block.ends)
        total += len(block.stream)
    stream = np.empty(total, np.int32)
    while counts.blocks:
        block = counts.blocks.pop()
        numbers = counts.numbering[block.worker]
        stream[total - len(block.stream) : total] = block.stream if numbers is None else numbers[block.stream]
        total -= len(block.stream)
    order = np.argsort(alphabetical_keys(split_keys(counts.keys, spec), counts.names, spec))
    text, lengths = pack_terms(counts.names)
    return {
        "stream": stream,
        "row_ends": row_ends,
        "lengths": np.fromiter(map(len, texts), np.int64, len(texts)),
        "keys": counts.keys,
        "order": order,
        "name_text": text,
        "name_lengths": lengths,
    }


class CorpusRows:
    """The n-grams of some rows of a counted corpus (see :class:`~agnews_exp.features.fast.selection.CountedRows`).

    Args:
        corpus: The counts.
        rows: int64, rows of the corpus; one may occur more than once.
        n_jobs: Number of threads.
    """

    def __init__(self, corpus: CorpusCounts, rows: NDArray[np.int64], n_jobs: int) -> None:
        self.corpus = corpus
        self.n_rows = len(rows)
        self._rows = rows
        self._starts = corpus.row_ends[rows]
        self._ends = corpus.row_ends[rows + 1]
        sums = self._sum(n_jobs)
        self.tf: NDArray[np.int64] = np.ascontiguousarray(sums[:, 0])
        self.df: NDArray[np.int64] = sums[:, 1]

    def _sum(self, n_jobs: int) -> NDArray[np.int64]:
        from agnews_exp.features.fast.matrix_kernels import sum_columns

        n = len(self.corpus.keys)
        parts = np.array_split(np.arange(self.n_rows), max(1, min(n_jobs, self.n_rows)))
        sums = [np.zeros(2 * n, np.int64) for _ in parts]

        def work(i: int) -> None:
            sum_columns(self.corpus.stream, self._starts[parts[i]], self._ends[parts[i]], sums[i])

        run_threads(work, range(len(parts)))
        total = np.zeros((n, 2), np.int64)
        for part in sums:
            pairs = part.reshape(-1, 2)
            total[:, 0] += pairs[:, 0]
            total[:, 1] += pairs[:, 1] >> 32
        return total

    def alphabetical(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the numbers of the chosen n-grams in alphabetical order."""
        order = self.corpus.order
        return np.asarray(order[mask[order]], np.intp)

    def terms(self, numbers: NDArray[np.intp]) -> list[str]:
        """Return n-grams as strings."""
        spec = self.corpus.spec
        return term_strings(split_keys(self.corpus.keys[numbers], spec), self.corpus.names, spec)

    def take_rows(self, columns: NDArray[np.int32]) -> list[tuple[Block, NDArray[np.int32]]]:
        """Return the blocks of these rows with the column of each n-gram."""
        return corpus_blocks(self.corpus, self._rows, columns)


def corpus_blocks(
    corpus: CorpusCounts, rows: NDArray[np.int64], columns: NDArray[np.int32]
) -> list[tuple[Block, NDArray[np.int32]]]:
    """Cut rows into blocks as :func:`~agnews_exp.features.fast.symbols.chunks` cuts their texts."""
    starts, ends = corpus.row_ends[rows], corpus.row_ends[rows + 1]
    return [
        (Block(corpus.stream, starts[first:last], ends[first:last]), columns)
        for first, last in cut_rows(corpus.lengths[rows] + 1)
    ]


class SharedCounts:
    """The corpus whose counts the vectorisers of this process share.

    Args:
        texts: All rows that will be fitted on or transformed, of any split, in any order.
        cache: Where counts are kept for other processes; None keeps them in memory only.
    """

    def __init__(self, texts: Sequence[str], cache: ArrayCache | None) -> None:
        self._row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        self._cache = cache
        self._counted: dict[NgramSpec, CorpusCounts | None] = {}
        self._digest: str | None = None
        self._lock = threading.Lock()

    def rows_of(self, texts: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the row of each text, or None when one of them is not in the corpus."""
        rows = list(map(self._row_of.get, texts))
        return None if None in rows else np.asarray(rows, np.int64)

    def counts(self, spec: NgramSpec, n_jobs: int) -> CorpusCounts | None:
        """Return the counts, made now or before; None when they would be too large or need wider keys."""
        with self._lock:
            if spec not in self._counted:
                self._counted[spec] = self._count(spec, n_jobs)
            return self._counted[spec]

    def _count(self, spec: NgramSpec, n_jobs: int) -> CorpusCounts | None:
        texts = list(self._row_of)
        if sum(map(len, texts)) * (spec.max_n - spec.min_n + 1) > STREAM_LIMIT:
            return None
        try:
            if self._cache is None:
                return CorpusCounts(spec, CacheEntry(_count_corpus(texts, spec, n_jobs), {}))
            if self._digest is None:
                self._digest = digest_texts(texts)
            key = cache_key(_VERSION, self._digest, repr(spec))
            entry = self._cache.get_or_build("ngrams", key, lambda: (_count_corpus(texts, spec, n_jobs), {}))
            return CorpusCounts(spec, entry)
        except KeyTooWideError:
            return None


_active: list[SharedCounts] = []


@contextlib.contextmanager
def shared_counts(
    texts: Sequence[str], *, cache_dir: Path | None = None, size_limit: int = DEFAULT_SIZE_LIMIT
) -> Iterator[SharedCounts]:
    """Let all fast vectorisers of this process count these texts once, while the context is open.

    They recognise texts by their content, as they are given to ``fit`` and ``transform`` (so after any cleaning);
    texts that are not among these are counted as usual. Results are the same inside and outside.

    Args:
        texts: Rows of all splits.
        cache_dir: Folder in which other processes find the counts; None keeps them in memory.
        size_limit: Bytes that the folder may hold.
    """
    shared = SharedCounts(texts, None if cache_dir is None else ArrayCache(cache_dir, size_limit))
    _active.append(shared)
    try:
        yield shared
    finally:
        _active.remove(shared)


def find_counted(texts: Sequence[str], spec: NgramSpec, n_jobs: int) -> tuple[CorpusCounts, NDArray[np.int64]] | None:
    """Return the counts that hold all of these texts, and their rows; None when no open context has them."""
    for shared in reversed(_active):
        rows = shared.rows_of(texts)
        if rows is not None and (corpus := shared.counts(spec, n_jobs)) is not None:
            return corpus, rows
    return None
