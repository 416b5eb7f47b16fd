"""From counted or looked-up n-grams to the sparse matrix, in blocks of rows, on several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.features.fast.counting import Block, run_threads

_LOG_TABLE = 4096


@dataclass(frozen=True)
class Weighting:
    """How counts become values.

    Attributes:
        binary: Every count becomes one first.
        tfidf: Whether the other attributes apply; without it the values are counts.
        sublinear: tf becomes 1 + ln(tf).
        idf: float64 (n_columns,), or None for no factor.
        norm: ``l1``, ``l2`` or None.
        factor: What every value is multiplied with in the end.
    """

    binary: bool = False
    tfidf: bool = False
    sublinear: bool = False
    idf: NDArray[np.float64] | None = None
    norm: str | None = None
    factor: float = 1.0

    def description(self) -> bytes:
        """Return all of it as bytes, for the key of a cached matrix."""
        idf = b"" if self.idf is None else self.idf.tobytes()
        return repr((self.binary, self.tfidf, self.sublinear, self.norm, self.factor, len(idf))).encode() + idf

    def scheme(self) -> int:
        """Return the kernel's number for the kind of values."""
        from agnews_exp.features.fast import matrix_kernels as kernels

        if not self.tfidf:
            return kernels.COUNTS
        return {"l1": kernels.L1, "l2": kernels.L2, None: kernels.RAW}[self.norm]


def _index_type(stored: int) -> type:
    return np.int32 if stored <= np.iinfo(np.int32).max else np.int64


class _Output:
    """The arrays of the whole matrix, which blocks fill at the same time.

    Args:
        n_blocks: Number of blocks.
        stored: Number of stored values, where it is known beforehand: then each block writes straight to its place.
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

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]:
        """Return values, indices and indptr."""
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
    """Some columns of a matrix: the n-grams of one vectoriser.

    Attributes:
        block_at: Gives block i (called from any thread) and the column of each of its numbers, -1 for none.
        n_blocks: Number of blocks.
        n_columns: Number of columns.
        stored: Number of stored values, or None where it is not known.
        weighting: How counts become values.
    """

    block_at: Callable[[int], tuple[Block, NDArray[np.int32]]]
    n_blocks: int
    n_columns: int
    stored: int | None
    weighting: Weighting


class _PartFiller:
    """One thread's work space for one part."""

    def __init__(self, part: Part, first_column: int) -> None:
        weighting = part.weighting
        self._part = part
        self._first_column = first_column
        self._idf = np.empty(0) if weighting.idf is None else weighting.idf
        self._bucket = np.empty(part.n_columns + 1, np.int32)
        self._rows, self._found = np.empty(0, np.uint16), np.empty(1, np.int32)
        self.sizes = np.empty(0, np.int64)

    def sort(self, i: int) -> int:
        """Sort block i; return its number of stored values and leave those of its rows in ``sizes``."""
        from agnews_exp.features.fast.matrix_kernels import sort_block

        block, columns = self._part.block_at(i)
        most = block.occurrences
        if len(self._rows) < most:
            self._rows, self._found = np.empty(most, np.uint16), np.empty(most + 1, np.int32)
        self.sizes = np.empty(len(block.starts), np.int64)
        stored: int = sort_block(
            block.stream,
            block.starts,
            block.ends,
            columns,
            self._part.n_columns,
            self._found,
            self._bucket,
            self._rows,
            self.sizes,
        )
        return stored

    def fill(self, begins: NDArray[np.int64], logs: NDArray[np.float64], place: Any) -> None:
        """Write the sorted block, each row at its place."""
        from agnews_exp.features.fast.matrix_kernels import fill_block

        weighting = self._part.weighting
        fill_block(
            self._bucket,
            self._rows,
            self.sizes,
            self._part.n_columns,
            weighting.binary,
            weighting.scheme(),
            weighting.sublinear,
            logs,
            self._idf,
            float(weighting.factor),
            self._first_column,
            begins,
            np.empty(len(self.sizes), np.int64),
            *place,
        )


def build_matrix(parts: Sequence[Part], n_jobs: int) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]:
    """Return (values, indices, indptr) of a canonical CSR matrix: columns ascending in each row, none twice.

    Args:
        parts: The parts side by side; their blocks must hold the same rows.
        n_jobs: Number of threads.
    """
    n_blocks = parts[0].n_blocks
    first_columns = np.cumsum([0, *(part.n_columns for part in parts)]).tolist()
    stored = [part.stored for part in parts]
    output = _Output(n_blocks, None if None in stored else sum(s for s in stored if s is not None))
    queue = iter(range(n_blocks))
    lock = threading.Lock()
    logs = np.log(np.maximum(np.arange(_LOG_TABLE, dtype=np.float64), 1.0)) + 1.0

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
