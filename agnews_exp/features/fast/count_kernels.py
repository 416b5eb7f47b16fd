"""Compiled loops over n-grams: counting them all, looking known ones up, joining the tables of several threads.

An n-gram of symbols is one exact 64-bit key: its symbols side by side, ``bits`` each, the first one highest, shorter
n-grams padded with zeros on the right. So equal keys are equal n-grams, and keys made of alphabetical ranks sort as
the strings do. Keys live in an open-addressing table of pairs (key, number + 1) with linear probing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agnews_exp.features.fast.compiled import compiled

_MIX = np.uint64(0x9E3779B97F4A7C15)
_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_LOW = np.int64(0xFFFFFFFF)
_HIGH = np.int64(1) << np.int64(32)


@compiled
def key_masks(max_n: int, bits: int) -> Any:
    """Return uint64 (max_n + 1,): the bits that an n-gram of n symbols takes, at index n."""
    masks = np.zeros(max_n + 1, np.uint64)
    one = (_ONE << np.uint64(bits)) - _ONE
    for n in range(1, max_n + 1):
        masks[n] = masks[n - 1] | (one << np.uint64(bits * (max_n - n)))
    return masks


@compiled
def gather_keys(
    symbols: Any,
    segments: Any,
    first: int,
    last: int,
    min_n: int,
    max_n: int,
    bits: int,
    masks: Any,
    within_words: bool,
    gathered: Any,
) -> int:
    """Write the key of every n-gram in some segments.

    Args:
        symbols: uint32 symbols.
        segments: Start of each segment and the end of the last.
        first: First segment.
        last: Segment after the last.
        min_n: Shortest n-gram.
        max_n: Longest n-gram.
        bits: Bits per symbol.
        masks: From :func:`key_masks`.
        within_words: Whether a segment shorter than ``min_n`` counts as one n-gram (``char_wb``).
        gathered: Output, uint64.

    Returns:
        The number of keys.
    """
    width = np.uint64(bits)
    full = masks[max_n]
    count = 0
    for k in range(first, last):
        a = segments[k]
        b = segments[k + 1]
        final = b - min_n
        shortest = min_n
        if final < a:
            if not within_words:
                continue
            final = a
            shortest = b - a
        window = _ZERO
        for j in range(a, a + max_n):
            window = window << width
            if j < b:
                window |= np.uint64(symbols[j])
        for p in range(a, final + 1):
            for n in range(shortest, min(max_n, b - p) + 1):
                gathered[count] = window & masks[n]
                count += 1
            window = (window << width) & full
            if p + max_n < b:
                window |= np.uint64(symbols[p + max_n])
    return count


@compiled
def count_ngrams(
    symbols: Any,
    segments: Any,
    row_segments: Any,
    first_row: int,
    row_base: int,
    min_n: int,
    max_n: int,
    bits: int,
    within_words: bool,
    table: Any,
    shift: int,
    room: int,
    keys: Any,
    sums: Any,
    state: Any,
    gathered: Any,
    stream: Any,
    stream_ends: Any,
) -> int:
    """Count the n-grams of rows, adding new ones to the table, until it has no room for a row.

    A row is done in three loops (make its keys, find their numbers, add them up), because the processor then waits
    for many places of the table at once: a third faster than one loop.

    Args:
        symbols: uint32 symbols of the rows.
        segments: Start of each segment and the end of the last.
        row_segments: First segment of each row and the end of the last.
        first_row: Row to begin with (where an earlier call stopped).
        row_base: Number of row 0 in the corpus, plus one: distinct for all rows of a table.
        min_n: As in :func:`gather_keys`.
        max_n: As in :func:`gather_keys`.
        bits: As in :func:`gather_keys`.
        within_words: As in :func:`gather_keys`.
        table: Shape (2 * size,), uint64.
        shift: 64 - log2(size).
        room: Number of n-grams that the table and ``keys`` can take.
        keys: Key of n-gram number i at index i.
        sums: int64, occurrences at 2 i, rows << 32 | last row at 2 i + 1.
        state: int64: number of n-grams, length of the stream.
        gathered: Work space, uint64, room for the n-grams of the longest row.
        stream: Output, int32 number of every n-gram occurrence in order; when it has no room for all rows, each
            row's overwrite those of the row before.
        stream_ends: Output, end of each row in ``stream``; empty to overwrite.

    Returns:
        The row that did not fit, or the number of rows when all are done.
    """
    masks = key_masks(max_n, bits)
    wrap = np.uint64(len(table) // 2 - 1)
    down = np.uint64(shift)
    keep = len(stream_ends) > 0
    count = state[0]
    out = state[1]
    for row in range(first_row, len(row_segments) - 1):
        first = row_segments[row]
        last = row_segments[row + 1]
        most = (segments[last] - segments[first]) * (max_n - min_n + 1) + (last - first)
        if count + most > room:
            state[0] = count
            state[1] = out
            return row
        found = gather_keys(symbols, segments, first, last, min_n, max_n, bits, masks, within_words, gathered)
        for i in range(found):
            key = gathered[i]
            place = (key * _MIX) >> down
            number = np.int64(0)
            while True:
                other = table[_TWO * place]
                if other == key:
                    number = np.int64(table[_TWO * place + _ONE]) - 1
                    break
                if other == _ZERO:
                    number = count
                    count += 1
                    table[_TWO * place] = key
                    table[_TWO * place + _ONE] = np.uint64(count)
                    keys[number] = key
                    sums[2 * number] = 0
                    sums[2 * number + 1] = 0
                    break
                place = (place + _ONE) & wrap
            stream[out + i] = number
        stamp = np.int64(row_base + row)
        for i in range(found):
            number = np.int64(stream[out + i])
            sums[2 * number] += 1
            seen = sums[2 * number + 1]
            # Without a branch: whether a row has seen an n-gram before is hard to predict.
            sums[2 * number + 1] = (seen & ~_LOW) + (_HIGH * np.int64(seen & _LOW != stamp) | stamp)
        if keep:
            out += found
            stream_ends[row] = out
    state[0] = count
    state[1] = out
    return len(row_segments) - 1


@compiled
def find_ngrams(
    symbols: Any,
    segments: Any,
    row_segments: Any,
    min_n: int,
    max_n: int,
    bits: int,
    within_words: bool,
    table: Any,
    shift: int,
    gathered: Any,
    stream: Any,
    stream_ends: Any,
) -> int:
    """Write the number of every n-gram occurrence that is in the table; arguments as in :func:`count_ngrams`.

    Returns:
        The length of the stream.
    """
    masks = key_masks(max_n, bits)
    wrap = np.uint64(len(table) // 2 - 1)
    down = np.uint64(shift)
    out = 0
    for row in range(len(row_segments) - 1):
        first = row_segments[row]
        last = row_segments[row + 1]
        found = gather_keys(symbols, segments, first, last, min_n, max_n, bits, masks, within_words, gathered)
        for i in range(found):
            key = gathered[i]
            place = (key * _MIX) >> down
            while True:
                other = table[_TWO * place]
                if other == key:
                    stream[out] = np.int64(table[_TWO * place + _ONE]) - 1
                    out += 1
                    break
                if other == _ZERO:
                    break
                place = (place + _ONE) & wrap
        stream_ends[row] = out
    return out


@compiled
def insert_keys(
    new_keys: Any, new_sums: Any, table: Any, shift: int, keys: Any, sums: Any, count: int, numbers: Any
) -> int:
    """Add keys with their sums to a table that has room for all of them.

    Args:
        new_keys: Keys to add, distinct among themselves.
        new_sums: Their sums, laid out as in :func:`count_ngrams`; counted over rows that the table has not seen.
        table: As in :func:`count_ngrams`.
        shift: As in :func:`count_ngrams`.
        keys: Keys of the table, extended.
        sums: Sums of the table, extended and increased.
        count: Number of keys in the table.
        numbers: Output, the table's number of each new key.

    Returns:
        The number of keys in the table afterwards.
    """
    wrap = np.uint64(len(table) // 2 - 1)
    down = np.uint64(shift)
    for i in range(len(new_keys)):
        key = new_keys[i]
        place = (key * _MIX) >> down
        number = 0
        while True:
            found = table[_TWO * place]
            if found == key:
                number = int(table[_TWO * place + _ONE]) - 1
                break
            if found == _ZERO:
                number = count
                count += 1
                table[_TWO * place] = key
                table[_TWO * place + _ONE] = np.uint64(count)
                keys[number] = key
                sums[2 * number] = 0
                sums[2 * number + 1] = 0
                break
            place = (place + _ONE) & wrap
        sums[2 * number] += new_sums[2 * i]
        sums[2 * number + 1] += new_sums[2 * i + 1] & ~_LOW
        numbers[i] = number
    return count
