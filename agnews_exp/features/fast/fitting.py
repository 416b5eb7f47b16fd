"""Fitting and looking up: own counts, shared counts or a finished matrix on disk, whichever is at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.cache import CacheEntry, cache_key, digest_texts
from agnews_exp.features.fast.counting import Counts, count_texts
from agnews_exp.features.fast.matrices import active_cache
from agnews_exp.features.fast.matrix import Part, Weighting, build_matrix
from agnews_exp.features.fast.selection import Limits, columns_of, select
from agnews_exp.features.fast.shared import CorpusCounts, CorpusRows, corpus_blocks, find_counted
from agnews_exp.features.fast.symbols import NgramSpec
from agnews_exp.features.fast.terms import pack_terms, unpack_terms
from agnews_exp.features.fast.vocabulary import Vocabulary

Arrays = tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]
"""Values, indices and indptr of a CSR matrix."""

_VERSION = 1


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Everything that a fit depends on, besides the texts.

    Attributes:
        spec: What is counted.
        limits: Bounds of the vocabulary.
        dtype: Type of scikit-learn's count matrix (see :func:`~agnews_exp.features.fast.selection.select`).
        binary: Whether an n-gram counts once per row.
        weigh: Given document frequencies and number of rows, how counts become values.
        weights: ``weigh`` in words, for the key of a cached matrix.
    """

    spec: NgramSpec
    limits: Limits
    dtype: np.dtype[Any]
    binary: bool
    weigh: Callable[[NDArray[np.int64], int], Weighting]
    weights: str


@dataclass(frozen=True, eq=False)
class Learned:
    """What a fit found.

    Attributes:
        term_text: See :func:`~agnews_exp.features.fast.terms.pack_terms`.
        term_lengths: Likewise.
        df: int64, rows of the fit that hold each term.
        matrix: The rows of the fit; None when not asked for.
        lookup: Finds the terms in other texts.
        part: What the matrix can be built from; None when not asked for.
    """

    term_text: NDArray[np.uint8]
    term_lengths: NDArray[np.int32]
    df: NDArray[np.int64]
    matrix: Arrays | None
    lookup: Lookup
    part: Part | None = None


class Lookup:
    """Finds the terms of a fitted vectoriser in texts.

    Args:
        spec: What the terms are made of.
        term_text: The terms, packed.
        term_lengths: The terms, packed.
        counted: A counted corpus and the column of each of its n-grams, where the fit used one.
    """

    def __init__(
        self,
        spec: NgramSpec,
        term_text: NDArray[np.uint8],
        term_lengths: NDArray[np.int32],
        counted: tuple[CorpusCounts, NDArray[np.int32]] | None = None,
    ) -> None:
        self.spec = spec
        self._packed = term_text, term_lengths
        self._counted = counted
        self._vocabulary: Vocabulary | None = None
        self._lock = threading.Lock()

    def matrix(self, texts: Sequence[str], weighting: Weighting, n_jobs: int) -> Arrays:
        """Return the rows of texts.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        cache = active_cache()
        if cache is None:
            return build_matrix([self.part(texts, weighting, n_jobs)], n_jobs)
        text, lengths = self._packed
        parts = (text.tobytes(), lengths.tobytes(), repr(self.spec), weighting.description(), digest_texts(texts))
        return _arrays(
            cache.get_or_build(
                "matrices",
                cache_key("rows", _VERSION, *parts),
                lambda: (_named(build_matrix([self.part(texts, weighting, n_jobs)], n_jobs)), {}),
            )
        )

    def part(self, texts: Sequence[str], weighting: Weighting, n_jobs: int) -> Part:
        """Return what the rows of texts can be built from, past the cache of matrices.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        if self._counted is not None:
            found = find_counted(texts, self.spec, n_jobs)
            if found is not None and found[0] is self._counted[0]:
                blocks = corpus_blocks(found[0], found[1], self._counted[1])
                return Part(blocks.__getitem__, len(blocks), len(self._packed[1]), None, weighting)
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = Vocabulary(self.spec, unpack_terms(*self._packed))
        return self._vocabulary.part(texts, weighting)


def learn(texts: Sequence[str], request: FitRequest, n_jobs: int, want_matrix: bool) -> Learned:
    """Fit on texts.

    Args:
        texts: Rows.
        request: What to fit.
        n_jobs: Number of threads; changes nothing but the time.
        want_matrix: Whether the rows of these texts are needed as well.

    Raises:
        KeyTooWideError: scikit-learn has to do it.
        ValueError: As :func:`~agnews_exp.features.fast.selection.select`.
    """
    cache = active_cache() if want_matrix else None
    if cache is None:
        return _with_matrix(learn_part(texts, request, n_jobs, want_matrix), n_jobs)
    made: list[Learned] = []

    def build() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        new = _with_matrix(learn_part(texts, request, n_jobs, True), n_jobs)
        made.append(new)
        assert new.matrix is not None
        rest: dict[str, NDArray[Any]] = {"term_text": new.term_text, "term_lengths": new.term_lengths, "df": new.df}
        return _named(new.matrix) | rest, {}

    settings = repr((request.spec, request.limits, request.dtype.name, request.binary, request.weights))
    entry = cache.get_or_build("matrices", cache_key("fit", _VERSION, digest_texts(texts), settings), build)
    if made:
        return made[0]
    text, lengths = np.array(entry.arrays["term_text"]), np.array(entry.arrays["term_lengths"])
    return Learned(text, lengths, np.array(entry.arrays["df"]), _arrays(entry), Lookup(request.spec, text, lengths))


def _with_matrix(learned: Learned, n_jobs: int) -> Learned:
    if learned.part is None:
        return learned
    return replace(learned, matrix=build_matrix([learned.part], n_jobs), part=None)


def learn_part(texts: Sequence[str], request: FitRequest, n_jobs: int, want_part: bool = True) -> Learned:
    """Fit on texts, past the cache of matrices, and return what their rows can be built from instead of them.

    Arguments and errors are those of :func:`learn`.
    """
    spec = request.spec
    found = find_counted(texts, spec, n_jobs)
    counted: Counts | CorpusRows
    # Without a matrix to fill, the occurrences need not be kept.
    if found is None:
        counted = count_texts(texts, spec, n_jobs, keep=None if want_part else False)
    else:
        counted = CorpusRows(*found, n_jobs)
    kept = select(counted, request.limits, request.dtype, request.binary)
    columns = columns_of(kept, len(counted.df))
    text, lengths = pack_terms(counted.terms(kept))
    df = counted.df[kept]
    lookup = Lookup(spec, text, lengths, None if found is None else (found[0], columns))
    part = None
    if want_part:
        weighting = request.weigh(df, len(texts))
        blocks: list[Any] | None = counted.take_rows(columns)
        # A term is stored once for every row that holds it, so the matrix has its final size from the start.
        stored = int(df.sum())
        if blocks is None:
            part = replace(lookup.part(texts, weighting, n_jobs), stored=stored)
        else:
            part = Part(lambda i: _take(blocks, i), len(blocks), len(kept), stored, weighting)
    return Learned(text, lengths, df, None, lookup, part)


def _take(blocks: list[Any], i: int) -> Any:
    """Return an item and forget it, so that its memory is free once it has been used."""
    block, blocks[i] = blocks[i], None
    return block


def _named(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return dict(zip(("values", "indices", "indptr"), arrays, strict=True))


def _arrays(entry: CacheEntry) -> Arrays:
    return entry.arrays["values"], entry.arrays["indices"], entry.arrays["indptr"]
