"""Compiled loops from streams of n-gram numbers to rows of a CSR matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agnews_exp.features.fast.compiled import compiled

COUNTS, L1, L2, RAW = 0, 1, 2, 3
"""What the values become: plain counts, TF-IDF scaled by the 1-norm or the 2-norm, or TF-IDF as it is."""


@compiled
def sort_block(
    stream: Any,
    starts: Any,
    ends: Any,
    columns: Any,
    n_columns: int,
    found: Any,
    bucket: Any,
    rows: Any,
    sizes: Any,
) -> int:
    """Order the n-grams of a block of rows by column, rows within a column in order (one counting sort).

    Equal n-grams of one row end up side by side, so no table per row is needed to add them up.

    Args:
        stream: int32 n-gram numbers.
        starts: First position of each row of the block in ``stream``.
        ends: Position after the last of each row.
        columns: int32 column of each n-gram number, -1 for none.
        n_columns: Number of columns.
        found: Work space, int32, one longer than the occurrences of the block.
        bucket: Work space and output, int32 (n_columns + 1,): where each column's rows end in ``rows``.
        rows: Output, uint16: block row of every occurrence, by column.
        sizes: Output, int64 (rows of the block,): number of distinct columns of each row.

    Returns:
        The number of stored values of the block.
    """
    bucket[:] = 0
    used = 0
    for row in range(len(starts)):
        before = used
        for e in range(starts[row], ends[row]):
            column = columns[stream[e]]
            found[used] = column
            if column >= 0:
                used += 1
                bucket[column + 1] += 1
        sizes[row] = used - before
    for column in range(n_columns):
        bucket[column + 1] += bucket[column]
    begin = 0
    for row in range(len(starts)):
        end = begin + sizes[row]
        sizes[row] = 0
        for e in range(begin, end):
            column = found[e]
            place = bucket[column]
            rows[place] = row
            bucket[column] = place + 1
        begin = end
    total = 0
    begin = 0
    for column in range(n_columns):
        end = int(bucket[column])
        last = -1
        for e in range(begin, end):
            row = int(rows[e])
            new = int(row != last)
            sizes[row] += new
            total += new
            last = row
        begin = end
    return total


@compiled
def fill_block(
    bucket: Any,
    rows: Any,
    sizes: Any,
    n_columns: int,
    binary: bool,
    scheme: int,
    sublinear: bool,
    logs: Any,
    idf: Any,
    factor: float,
    first_column: int,
    begins: Any,
    places: Any,
    indices: Any,
    values: Any,
) -> None:
    """Write the sorted block of :func:`sort_block` as rows of a CSR matrix and weigh them.

    Args:
        bucket: From :func:`sort_block`.
        rows: From :func:`sort_block`.
        sizes: From :func:`sort_block`.
        n_columns: Number of columns.
        binary: Whether every count becomes one.
        scheme: COUNTS, L1, L2 or RAW.
        sublinear: Whether a count tf becomes 1 + ln(tf).
        logs: 1 + ln(tf) at index tf for small tf.
        idf: float64 (n_columns,), or empty for none.
        factor: What every value is multiplied with in the end.
        first_column: Number of the first column.
        begins: int64 (rows of the block,): where each row's values begin in ``indices`` and ``values``.
        places: Work space, int64 (rows of the block,).
        indices: Output: columns of the values, ascending within a row.
        values: Output, float64.
    """
    n_rows = len(sizes)
    places[:] = begins
    begin = 0
    for column in range(n_columns):
        end = bucket[column]
        weight = 1.0
        if len(idf) > 0:
            weight = idf[column]
        e = begin
        while e < end:
            row = rows[e]
            count = 1
            e += 1
            while e < end and rows[e] == row:
                count += 1
                e += 1
            if binary:
                count = 1
            value = float(count)
            if scheme != COUNTS:
                if sublinear:
                    value = logs[count] if count < len(logs) else math.log(value) + 1.0
                value *= weight
            place = places[row]
            indices[place] = first_column + column
            values[place] = value
            places[row] = place + 1
        begin = end
    for row in range(n_rows):
        begin = begins[row]
        end = begin + sizes[row]
        total = 0.0
        if scheme == L2:
            for e in range(begin, end):
                total += values[e] * values[e]
            total = math.sqrt(total)
        elif scheme == L1:
            for e in range(begin, end):
                total += abs(values[e])
        if total > 0.0:
            for e in range(begin, end):
                values[e] /= total
        if factor != 1.0:
            for e in range(begin, end):
                values[e] *= factor


@compiled
def sum_columns(stream: Any, starts: Any, ends: Any, sums: Any) -> None:
    """Add up occurrences and rows of every n-gram over some rows.

    Args:
        stream: int32 n-gram numbers.
        starts: First position of each row in ``stream``.
        ends: Position after the last of each row.
        sums: Output, int64, zero at first: occurrences at 2 i, rows << 32 | last row at 2 i + 1.
    """
    low = np.int64(0xFFFFFFFF)
    high = np.int64(1) << np.int64(32)
    for row in range(len(starts)):
        stamp = np.int64(row + 1)
        for e in range(starts[row], ends[row]):
            number = stream[e]
            sums[2 * number] += 1
            seen = sums[2 * number + 1]
            if seen & low != stamp:
                sums[2 * number + 1] = ((seen & ~low) + high) | stamp
