"""Fitting of vocabularies and look-up of their terms, from own counts or those shared by all fits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.ngrams.counting import (
    STREAM_LIMIT,
    Block,
    Counts,
    KeyTooWideError,
    NgramSpec,
    NgramTable,
    alphabetical_keys,
    chunks,
    count_texts,
    cut_rows,
    prepare,
    reader_for,
    run_threads,
    split_keys,
    term_strings,
)


def pack_terms(terms: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the UTF-8 of n terms (lone surrogates included) as uint8, and their characters, shape (n,), int32."""
    text = "".join(terms).encode("utf-8", "surrogatepass")
    return np.frombuffer(text, np.uint8).copy(), np.fromiter(map(len, terms), np.int32, len(terms))


def unpack_terms(text: NDArray[Any], lengths: NDArray[Any]) -> list[str]:
    """Return the terms that :func:`pack_terms` packed."""
    joined = text.tobytes().decode("utf-8", "surrogatepass")
    ends = list(accumulate(lengths.tolist()))
    return [joined[first:last] for first, last in zip([0, *ends], ends, strict=False)]


def portable_log(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return natural logarithms of positive numbers that are the same on every processor.

    numpy's own for float64 differ in the last bit between a processor with AVX-512 and one without. These are computed
    with more digits and rounded.
    """
    return np.log(values.astype(np.longdouble)).astype(np.float64)


@dataclass(frozen=True)
class Weighting:
    """The weighting that turns counts into values."""

    binary: bool = False  # every count becomes one first
    tfidf: bool = False  # whether the other attributes apply; without it the values are counts
    sublinear: bool = False  # tf becomes 1 + ln(tf)
    idf: NDArray[np.float64] | None = None  # float64 (n_columns,), or None for no factor
    norm: str | None = None  # ``l1``, ``l2`` or None
    factor: float = 1.0  # number that every value is multiplied with in the end

    def weights(self) -> Weights:
        """Return what the kernel needs."""
        from agnews_exp.ngrams import kernels

        scheme = {"l1": kernels.L1, "l2": kernels.L2, None: kernels.RAW}[self.norm] if self.tfidf else kernels.COUNTS
        idf = np.empty(0) if self.idf is None else self.idf
        return Weights(self.binary, scheme, self.sublinear, idf, float(self.factor))


class Weights(NamedTuple):
    """A weighting as the kernel takes it: ``scheme`` is COUNTS, L1, L2 or RAW, ``idf`` is empty for none."""

    binary: bool
    scheme: int
    sublinear: bool
    idf: NDArray[np.float64]
    factor: float


class SortedBlock(NamedTuple):
    """A block of rows in the order of columns."""

    bucket: NDArray[np.int32]  # (n_columns + 1,): where each column's rows end in ``rows``
    rows: NDArray[np.uint16]  # the row of every occurrence, by column
    sizes: NDArray[np.int64]  # (rows of the block,): number of distinct columns of each row


def _index_type(stored: int) -> type:
    return np.int32 if stored <= np.iinfo(np.int32).max else np.int64


class _Output:
    """The arrays of the whole matrix, which blocks fill at the same time.

    Where the number of ``stored`` values is known beforehand, each block writes straight to its place.
    """

    def __init__(self, n_blocks: int, stored: int | None) -> None:
        self._whole: tuple[NDArray[Any], NDArray[np.float64]] | None = None
        if stored is not None:
            self._whole = np.empty(stored, _index_type(stored)), np.empty(stored, np.float64)
        self._sizes: list[Any] = [None] * n_blocks
        self._pieces: list[Any] = [None] * n_blocks
        self._begin = 0
        self._next = 0
        self._failed = False
        self._turn = threading.Condition()

    def claim(self, i: int, sizes: NDArray[np.int64], stored: int) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """Return where block i writes (indices, values), once all blocks before it have claimed their places.

        Returns:
            None when another block has failed.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._next == i or self._failed)
            if self._failed:
                return None
            self._sizes[i] = sizes
            place = slice(self._begin, self._begin + stored)
            self._begin, self._next = place.stop, i + 1
            self._turn.notify_all()
            if self._whole is not None:
                return self._whole[0][place], self._whole[1][place]
            self._pieces[i] = np.empty(stored, np.int32), np.empty(stored, np.float64)
            return self._pieces[i]  # type: ignore[no-any-return]

    def fail(self) -> None:
        """Let no block wait for one that will not come."""
        with self._turn:
            self._failed = True
            self._turn.notify_all()

    def arrays(self) -> Arrays:
        """Return values, indices and indptr of the whole matrix."""
        indptr: NDArray[Any] = np.cumsum(np.concatenate([np.zeros(1, np.int64), *self._sizes])).astype(
            _index_type(self._begin)
        )
        if self._whole is not None:
            return self._whole[1], self._whole[0], indptr
        indices, values = np.empty(self._begin, indptr.dtype), np.empty(self._begin, np.float64)
        # Every piece is let go once copied, and fresh memory counts only where it was written: the peak is the
        # matrix and one piece.
        end = self._begin
        while self._pieces:
            index, value = self._pieces.pop()
            begin = end - len(value)
            indices[begin:end] = index
            values[begin:end] = value
            end = begin
        return values, indices, indptr


@dataclass(frozen=True, eq=False)
class Part:
    """Some columns of a matrix: the n-grams of one vectoriser."""

    # Gives block i (called from any thread) and the column of each of its numbers, -1 for none.
    block_at: Callable[[int], tuple[Block, NDArray[np.int32]]]
    n_blocks: int  # number of blocks
    n_columns: int  # number of columns
    stored: int | None  # number of stored values, or None where it is not known
    weighting: Weighting  # how counts become values


class _PartFiller:
    """One thread's work space for one part."""

    def __init__(self, part: Part, first_column: int) -> None:
        self._part, self._first_column = part, first_column
        self._weights = part.weighting.weights()
        self._sorted = SortedBlock(
            np.empty(part.n_columns + 1, np.int32), np.empty(0, np.uint16), np.empty(0, np.int64)
        )
        self._found = np.empty(1, np.int32)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Stored values of each row of the block that was sorted last, shape (n,)."""
        return self._sorted.sizes

    def sort(self, i: int) -> int:
        """Sort block i; return its number of stored values."""
        from agnews_exp.ngrams.kernels import sort_block

        block, columns = self._part.block_at(i)
        most, (bucket, rows, _) = block.occurrences, self._sorted
        if len(rows) < most:
            rows, self._found = np.empty(most, np.uint16), np.empty(most + 1, np.int32)
        self._sorted = SortedBlock(bucket, rows, np.empty(len(block.starts), np.int64))
        stored: int = sort_block(block, columns, self._found, self._sorted)
        return stored

    def fill(self, begins: NDArray[np.int64], logs: NDArray[np.float64], place: Any) -> None:
        """Write the sorted block, each row at its place."""
        from agnews_exp.ngrams.kernels import fill_block

        fill_block(self._sorted, self._weights, logs, self._first_column, begins, *place)


Arrays = tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]
"""Values (float64), indices and indptr (int32 or int64) of a CSR matrix."""


def build_matrix(parts: Sequence[Part], n_jobs: int) -> Arrays:
    """Build a canonical CSR matrix of parts that hold the same rows: columns ascending in each row, none twice."""
    n_blocks = parts[0].n_blocks
    first_columns = np.cumsum([0, *(part.n_columns for part in parts)]).tolist()
    stored = [part.stored for part in parts]
    output = _Output(n_blocks, None if None in stored else sum(s for s in stored if s is not None))
    queue = iter(range(n_blocks))
    lock = threading.Lock()
    logs = portable_log(np.maximum(np.arange(4096), 1)) + 1.0

    def work(_: int) -> None:
        try:
            fill()
        except BaseException:
            output.fail()
            raise

    def fill() -> None:
        fillers = [_PartFiller(part, first) for part, first in zip(parts, first_columns, strict=False)]
        while True:
            with lock:
                i = next(queue, -1)
            if i < 0:
                return
            total = sum(filler.sort(i) for filler in fillers)
            sizes = np.sum([filler.sizes for filler in fillers], axis=0)
            place = output.claim(i, sizes, total)
            if place is None:
                return
            begins = np.cumsum(sizes) - sizes
            for filler in fillers:
                filler.fill(begins, logs, place)
                begins = begins + filler.sizes

    run_threads(work, range(max(1, min(n_jobs, n_blocks))))
    return output.arrays()


class Vocabulary:
    """Looks the n-grams of texts up in a fixed set of terms; term i is column i.

    Raises:
        KeyTooWideError: The terms do not fit into 64-bit keys.
    """

    def __init__(self, spec: NgramSpec, terms: Sequence[str]) -> None:
        self.spec = spec
        self.size = len(terms)
        parts = [term.split(" ") for term in terms] if spec.analyzer == "word" else terms
        known = sorted({symbol for part in parts for symbol in part})
        self._reader = reader_for(spec, known)
        self._lock = threading.Lock()
        numbers = {name: i for i, name in enumerate(self._reader.names(), start=1)}
        keys = np.zeros(len(terms), np.uint64)
        for j in range(spec.max_n):
            column = [numbers[part[j]] if j < len(part) else 0 for part in parts]
            keys = (keys << np.uint64(spec.bits)) | np.asarray(column, np.uint64)
        # Terms longer than any n-gram (a token of another pattern may hold a blank) can never be found.
        fits = np.asarray([len(part) <= spec.max_n for part in parts], bool)
        self._table = NgramTable(self.size)
        self._numbers = np.flatnonzero(fits).astype(np.int32)
        self._table.add(keys[fits], np.zeros(2 * int(fits.sum()), np.int64))

    def part(self, texts: Sequence[str], weighting: Weighting) -> Part:
        """Return the part of a matrix that these texts make; see :func:`build_matrix`."""
        todo = chunks(texts)
        return Part(
            lambda i: (self._find(texts[todo[i][0] : todo[i][1]]), self._numbers), len(todo), self.size, None, weighting
        )

    def _find(self, texts: Sequence[str]) -> Block:
        from agnews_exp.ngrams.kernels import find_ngrams

        with self._lock:
            rows = self._reader.read(prepare(texts, self.spec))
        stream = np.empty(rows.most_ngrams(self.spec), np.int32)
        ends = np.empty(len(texts), np.int64)
        gathered = np.empty(rows.most_in_row(self.spec), np.uint64)
        used = find_ngrams(rows, self.spec.form, self._table.slots, gathered, stream, ends)
        return Block(stream[:used], np.concatenate([np.zeros(1, np.int64), ends[:-1]]), ends)


def select(
    counted: Counts | CorpusRows, min_df: Any, max_df: Any, max_features: int | None, binary: bool
) -> NDArray[np.intp]:
    """Return the numbers, shape (m,), of the n-grams that form the vocabulary, in alphabetical order.

    The bounds are those of scikit-learn's CountVectorizer; ``binary`` counts an n-gram once per row. Of equally
    frequent terms at the cut of ``max_features`` the first in alphabetical order stay.

    Raises:
        ValueError: No n-gram at all, contradictory bounds, or none left: scikit-learn's own messages.
    """
    df = counted.df
    present = df > 0
    if not present.any():
        raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
    n_rows = counted.n_rows
    bounds: list[Any] = [bound if isinstance(bound, Integral) else bound * n_rows for bound in (min_df, max_df)]
    least, most = bounds
    if most < least:
        raise ValueError("max_df corresponds to < documents than min_df")
    kept = counted.alphabetical(present & (df <= most) & (df >= least))
    if max_features is not None and len(kept) > max_features:
        kept = kept[most_frequent((df if binary else counted.tf)[kept], max_features)]
    if len(kept) == 0:
        raise ValueError("After pruning, no terms remain. Try a lower min_df or a higher max_df.")
    return kept


def most_frequent(totals: NDArray[Any], limit: int) -> NDArray[np.intp]:
    """Return the positions of the largest totals, shape (n,), ascending; of equal ones at the cut the first stay.

    scikit-learn sorts unstably here, so what it keeps at a tie depends on the processor.
    """
    return np.sort(np.argsort(-totals, kind="stable")[:limit])


_VERSION = 2


class CorpusCounts:
    """All n-grams of a corpus: each occurrence in every row (``stream``, ``row_ends``), keys, order and names."""

    def __init__(self, spec: NgramSpec, arrays: Mapping[str, NDArray[Any]]) -> None:
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
    order = np.argsort(alphabetical_keys(split_keys(counts.keys, spec), counts.names, spec), kind="stable")
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
    """The n-grams of some rows (int64) of a counted corpus; it offers the same as :class:`Counts`."""

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
        from agnews_exp.ngrams.kernels import sum_columns

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
        """Return the numbers of the n-grams chosen by a mask, shape (n,), in alphabetical order."""
        order = self.corpus.order
        return np.asarray(order[mask[order]], np.intp)

    def terms(self, numbers: NDArray[np.intp]) -> list[str]:
        """Return the n-grams with these numbers, shape (m,), as strings."""
        spec = self.corpus.spec
        return term_strings(split_keys(self.corpus.keys[numbers], spec), self.corpus.names, spec)

    def take_rows(self, columns: NDArray[np.int32]) -> list[tuple[Block, NDArray[np.int32]]]:
        """Return the blocks of these rows, each with ``columns``, shape (n,), the column of each n-gram or -1."""
        return corpus_blocks(self.corpus, self._rows, columns)


def corpus_blocks(
    corpus: CorpusCounts, rows: NDArray[np.int64], columns: NDArray[np.int32]
) -> list[tuple[Block, NDArray[np.int32]]]:
    """Cut rows, shape (m,), into blocks as :func:`~agnews_exp.ngrams.counting.chunks` cuts their texts."""
    starts, ends = corpus.row_ends[rows], corpus.row_ends[rows + 1]
    return [
        (Block(corpus.stream, starts[first:last], ends[first:last]), columns)
        for first, last in cut_rows(corpus.lengths[rows] + 1)
    ]


class SharedCounts:
    """The corpus whose counts the vectorisers of this process share: all rows that will be fitted on or transformed.

    The cache keeps them for other processes; None keeps them in memory only.
    """

    def __init__(self, texts: Sequence[str], cache: ArrayCache | None) -> None:
        self._row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        self._cache = cache
        self._counted: dict[NgramSpec, CorpusCounts | None] = {}
        self._digest: str | None = None
        self._lock = threading.Lock()

    def rows_of(self, texts: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the row of each of n texts, shape (n,), or None when one of them is not in the corpus."""
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
                return CorpusCounts(spec, _count_corpus(texts, spec, n_jobs))
            if self._digest is None:
                self._digest = digest_texts(texts)
            key = cache_key(_VERSION, self._digest, repr(spec))
            arrays = self._cache.get_or_build("ngrams", key, lambda: _count_corpus(texts, spec, n_jobs))
            return CorpusCounts(spec, arrays)
        except KeyTooWideError:
            return None


_active_shared: list[SharedCounts] = []


@contextlib.contextmanager
def shared_counts(texts: Sequence[str], *, cache_dir: Path | None = None) -> Iterator[SharedCounts]:
    """Let all fast vectorisers of this process count these texts once, while the context is open.

    They recognise texts by their content, as they are given to ``fit`` and ``transform`` (so after any cleaning);
    texts that are not among these are counted as usual. Results are the same inside and outside.
    """
    shared = SharedCounts(texts, None if cache_dir is None else ArrayCache(cache_dir))
    _active_shared.append(shared)
    try:
        yield shared
    finally:
        _active_shared.remove(shared)


def find_counted(texts: Sequence[str], spec: NgramSpec, n_jobs: int) -> tuple[CorpusCounts, NDArray[np.int64]] | None:
    """Return the counts that hold all of n texts, and their rows, shape (n,); None when no open context has them."""
    for shared in reversed(_active_shared):
        rows = shared.rows_of(texts)
        if rows is not None and (corpus := shared.counts(spec, n_jobs)) is not None:
            return corpus, rows
    return None


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of a fit."""

    term_text: NDArray[np.uint8]  # see :func:`pack_terms`
    term_lengths: NDArray[np.int32]  # likewise
    df: NDArray[np.int64]  # rows of the fit that hold each term
    lookup: Lookup  # finds the terms in other texts
    part: Part | None = None  # the part that the matrix of these rows can be built from; None when not asked for


class Lookup:
    """Finds the terms (packed) of a fitted vectoriser in texts.

    ``counted`` is a counted corpus and the column of each of its n-grams, where the fit used one.
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

    def part(self, texts: Sequence[str], weighting: Weighting, n_jobs: int) -> Part:
        """Return the part that the rows of texts can be built from.

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


Weigh = Callable[[NDArray[np.int64], int], Weighting]
"""Given document frequencies, shape (n,), and the number of rows: how counts become values."""


def learn(
    texts: Sequence[str], spec: NgramSpec, bounds: tuple[float, float, int | None, bool], weigh: Weigh, n_jobs: int,
    want_part: bool,
) -> Learned:  # fmt: skip
    """Fit a vocabulary within the bounds of :func:`select`, and with ``want_part`` keep what the matrix needs.

    Raises:
        KeyTooWideError: scikit-learn has to do it.
        ValueError: As :func:`select`.
    """
    found = find_counted(texts, spec, n_jobs)
    counted: Counts | CorpusRows
    # Without a matrix to fill, the occurrences need not be kept.
    if found is None:
        counted = count_texts(texts, spec, n_jobs, keep=None if want_part else False)
    else:
        counted = CorpusRows(*found, n_jobs)
    kept = select(counted, *bounds)
    columns = np.full(len(counted.df), -1, np.int32)
    columns[kept] = np.arange(len(kept), dtype=np.int32)
    text, lengths = pack_terms(counted.terms(kept))
    df = counted.df[kept]
    lookup = Lookup(spec, text, lengths, None if found is None else (found[0], columns))
    part = None
    if want_part:
        weighting = weigh(df, len(texts))
        blocks: list[Any] | None = counted.take_rows(columns)
        # A term is stored once for every row that holds it, so the matrix has its final size from the start.
        stored = int(df.sum())
        if blocks is None:
            part = replace(lookup.part(texts, weighting, n_jobs), stored=stored)
        else:
            part = Part(lambda i: _take(blocks, i), len(blocks), len(kept), stored, weighting)
    return Learned(text, lengths, df, lookup, part)


def _take(blocks: list[Any], i: int) -> Any:
    """Return an item and forget it, so that its memory is free once it has been used."""
    block, blocks[i] = blocks[i], None
    return block
