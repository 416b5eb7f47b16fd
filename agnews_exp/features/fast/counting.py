"""Counting the n-grams of a corpus once, in compiled code, on several threads."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.features.fast.readers import Reader, reader_for
from agnews_exp.features.fast.symbols import NgramSpec, SymbolRows, chunks, prepare

STREAM_LIMIT = 1 << 28
"""Most n-gram occurrences that are kept in memory (4 bytes each); beyond, rows are read a second time."""


class NgramTable:
    """Open-addressing table from keys to numbers 0, 1, ..., with sums per number.

    Args:
        room: Number of n-grams to make room for at first.
    """

    def __init__(self, room: int = 1 << 16) -> None:
        self.count = 0
        self._allocate(room)

    def _allocate(self, room: int) -> None:
        size = 1 << max(4, (room * 3 // 2).bit_length())
        self.room = size * 2 // 3
        self.shift = 64 - (size.bit_length() - 1)
        self.table = np.empty(2 * size, np.uint64)
        self.table.fill(0)
        self.keys = np.empty(self.room, np.uint64)
        self.sums = np.empty(2 * self.room, np.int64)

    def make_room(self, room: int) -> None:
        """Make room for this many n-grams in all; numbers stay the same, rows seen so far are closed."""
        if room <= self.room:
            return
        keys, sums, count = self.keys[: self.count], self.sums, self.count
        self.count = 0
        self._allocate(max(room, 2 * self.room))
        self.add(keys, sums[: 2 * count])

    def add(self, keys: NDArray[np.uint64], sums: NDArray[np.int64]) -> NDArray[np.int32]:
        """Add n-grams counted over other rows; return the number of each."""
        from agnews_exp.features.fast.count_kernels import insert_keys

        self.make_room(self.count + len(keys))
        numbers = np.empty(len(keys), np.int32)
        self.count = insert_keys(keys, sums, self.table, self.shift, self.keys, self.sums, self.count, numbers)
        return numbers


@dataclass
class Block:
    """Occurrences of n-grams in some rows, in order.

    Attributes:
        stream: int32 numbers.
        starts: int64, first position of each row in ``stream``.
        ends: int64, position after the last of each row.
        worker: Which thread's numbering it uses.
    """

    stream: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    worker: int = 0

    @property
    def occurrences(self) -> int:
        """Number of occurrences in these rows (``stream`` may hold those of others as well)."""
        return int((self.ends - self.starts).sum())


@dataclass
class Counts:
    """The n-grams of a corpus.

    Attributes:
        spec: What was counted.
        n_rows: Number of rows.
        keys: uint64 (n,), key of each distinct n-gram.
        tf: int64 (n,), occurrences.
        df: int64 (n,), rows that hold it.
        names: Character or token of each symbol, beginning with symbol 1.
        blocks: The occurrences of all rows in order; None where they were too many to keep.
        numbering: For each worker, the number in ``keys`` of each of its own numbers; None where they are the same.
    """

    spec: NgramSpec
    n_rows: int
    keys: NDArray[np.uint64]
    tf: NDArray[np.int64]
    df: NDArray[np.int64]
    names: list[str]
    blocks: list[Block] | None
    numbering: list[NDArray[np.int32] | None] = field(default_factory=list)

    def alphabetical(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the numbers of the chosen n-grams in alphabetical order."""
        kept = np.flatnonzero(mask)
        return kept[np.argsort(alphabetical_keys(split_keys(self.keys[kept], self.spec), self.names, self.spec))]

    def terms(self, numbers: NDArray[np.intp]) -> list[str]:
        """Return the n-grams as strings."""
        return term_strings(split_keys(self.keys[numbers], self.spec), self.names, self.spec)

    def take_rows(self, columns: NDArray[np.int32]) -> list[tuple[Block, NDArray[np.int32]]] | None:
        """Hand over the blocks of all rows, each with the column of its numbers; None where they were not kept.

        Args:
            columns: int32, the column of each n-gram, -1 for none.
        """
        if self.blocks is None:
            return None
        of_worker = [columns if numbers is None else columns[numbers] for numbers in self.numbering]
        blocks, self.blocks = self.blocks, None
        return [(block, of_worker[block.worker]) for block in blocks]


def _released_array(length: int) -> NDArray[np.int32]:
    """Return an int32 array whose memory goes back to the system as soon as it is let go.

    The usual allocator keeps freed pieces of this size, and then the matrix would come on top of them.
    """
    buffer = mmap.mmap(-1, max(4 * length, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(buffer, np.int32, length)


class _Worker:
    """One thread's table; counts chunk after chunk until none is left."""

    def __init__(self, spec: NgramSpec, keep: bool, number: int) -> None:
        self.spec = spec
        self.keep = keep
        self.number = number
        self.table = NgramTable()
        self.gathered = np.empty(0, np.uint64)

    def count(self, rows: SymbolRows, first_row: int) -> Block | None:
        from agnews_exp.features.fast.count_kernels import count_ngrams

        spec, table = self.spec, self.table
        n_rows = len(rows.row_segments) - 1
        longest = rows.most_in_row(spec)
        if longest > len(self.gathered):
            self.gathered = np.empty(longest, np.uint64)
        stream = _released_array(rows.most_ngrams(spec)) if self.keep else np.empty(longest, np.int32)
        ends = np.empty(n_rows if self.keep else 0, np.int64)
        state = np.array([table.count, 0], np.int64)
        row = 0
        while row < n_rows:
            row = count_ngrams(
                rows.symbols,
                rows.segments,
                rows.row_segments,
                row,
                first_row + 1,
                spec.min_n,
                spec.max_n,
                spec.bits,
                spec.within_words,
                table.table,
                table.shift,
                table.room,
                table.keys,
                table.sums,
                state,
                self.gathered,
                stream,
                ends,
            )
            table.count = int(state[0])
            if row < n_rows:
                table.make_room(table.count + longest)
        if not self.keep:
            return None
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        return Block(stream[: int(state[1])], starts, ends, self.number)


def count_texts(texts: Sequence[str], spec: NgramSpec, n_jobs: int, keep: bool | None = None) -> Counts:
    """Count the n-grams of texts.

    Args:
        texts: Rows.
        spec: What to count.
        n_jobs: Number of threads; the result does not depend on it, up to the order of ``keys``.
        keep: Whether to keep the occurrences; None keeps them up to :data:`STREAM_LIMIT`.

    Raises:
        KeyTooWideError: The n-grams do not fit into 64-bit keys.
    """
    if keep is None:
        keep = sum(map(len, texts)) * (spec.max_n - spec.min_n + 1) <= STREAM_LIMIT
    reader = reader_for(spec)
    todo = chunks(texts)
    blocks: list[Block | None] = [None] * len(todo)
    workers = [_Worker(spec, keep, i) for i in range(max(1, min(n_jobs, len(todo))))]
    queue: Iterator[tuple[int, tuple[int, int]]] = enumerate(todo)
    lock = threading.Lock()

    def work(worker: _Worker) -> None:
        nonlocal queue
        while True:
            with lock:
                position, (first, last) = next(queue, (-1, (0, 0)))
                if position < 0:
                    return
                try:
                    rows = reader.read(prepare(texts[first:last], spec))
                except BaseException:
                    queue = iter(())
                    raise
            blocks[position] = worker.count(rows, first)

    run_threads(work, workers)
    return _joined(spec, len(texts), reader, workers, blocks if keep else None)


def run_threads(work: Callable[[Any], None], tasks: Sequence[Any]) -> None:
    """Run ``work`` on every task, each in its own thread; the first error is raised when all have ended."""
    if len(tasks) == 1:
        work(tasks[0])
        return
    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(work, task) for task in tasks]:
            future.result()


def _joined(
    spec: NgramSpec, n_rows: int, reader: Reader, workers: list[_Worker], blocks: list[Block | None] | None
) -> Counts:
    table = workers[0].table
    numbering: list[NDArray[np.int32] | None] = [None]
    for worker in workers[1:]:
        other = worker.table
        numbering.append(table.add(other.keys[: other.count], other.sums[: 2 * other.count]))
        worker.table = NgramTable(1)
    sums = table.sums[: 2 * table.count].reshape(-1, 2)
    return Counts(
        spec,
        n_rows,
        table.keys[: table.count],
        np.ascontiguousarray(sums[:, 0]),
        sums[:, 1] >> 32,
        reader.names(),
        None if blocks is None else [block for block in blocks if block is not None],
        numbering,
    )


def symbol_ranks(names: Sequence[str], used: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the alphabetical rank (from 1) of each used symbol; symbol 0 and unused ones get 0."""
    order = sorted(used.tolist(), key=lambda symbol: names[symbol - 1])
    ranks = np.zeros(len(names) + 1, np.uint64)
    ranks[order] = np.arange(1, len(order) + 1, dtype=np.uint64)
    return ranks


def split_keys(keys: NDArray[np.uint64], spec: NgramSpec) -> NDArray[np.uint64]:
    """Return the symbols of keys: shape (max_n, n), 0 where an n-gram is shorter."""
    mask = np.uint64(spec.limit)
    return np.stack([(keys >> np.uint64(spec.bits * (spec.max_n - 1 - j))) & mask for j in range(spec.max_n)])


def alphabetical_keys(symbols: NDArray[np.uint64], names: Sequence[str], spec: NgramSpec) -> NDArray[np.uint64]:
    """Return keys that sort as the strings of the n-grams do (by code point, a prefix before what it begins).

    A token's n-grams are joined by blanks, and no token holds a blank or anything below it, so comparing them token
    by token is the same as comparing the joined strings.
    """
    used = np.unique(symbols)
    ranks = symbol_ranks(names, used[used > 0])
    keys = np.zeros(symbols.shape[1], np.uint64)
    for row in symbols:
        keys = (keys << np.uint64(spec.bits)) | ranks[row]
    return keys


def term_strings(symbols: NDArray[np.uint64], names: Sequence[str], spec: NgramSpec) -> list[str]:
    """Return the n-grams as strings."""
    joiner = " " if spec.analyzer == "word" else ""
    texts = ["", *names]
    columns = [[texts[s] for s in row] for row in symbols.tolist()]
    lengths = (symbols > 0).sum(axis=0).tolist()
    return [joiner.join(parts[:length]) for parts, length in zip(zip(*columns, strict=True), lengths, strict=True)]
