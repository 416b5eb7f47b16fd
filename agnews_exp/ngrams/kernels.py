"""Compiled loops over n-grams: counting them all, looking known ones up, joining the tables of several threads.

An n-gram of symbols is one exact 64-bit key: its symbols side by side, ``bits`` each, the first one highest, shorter
n-grams padded with zeros on the right. So equal keys are equal n-grams, and keys made of alphabetical ranks sort as
the strings do. Keys live in an open-addressing table of pairs (key, number + 1) with linear probing.

Arguments that stand in several kernels are the named tuples of :mod:`agnews_exp.ngrams.counting`: ``texts``
(:class:`CodeRows`), ``rows`` (:class:`SymbolRows`), ``form`` (:class:`KeyForm`), ``table`` (:class:`Slots`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call, without the GIL, and keep the machine code on disk.

    numba stores the code in ``NUMBA_CACHE_DIR``, else beside the module, else (installed read-only) in the user's
    cache folder. Where none of these can be written it refuses to cache at all: then every process compiles anew,
    which is slower but still right. A shared temporary folder is no alternative, because numba runs what it finds
    there.
    """
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


KNOWN, WORD, SPACE = np.uint8(1), np.uint8(2), np.uint8(4)
"""Bits of a code point's class: looked at, matched by ``\\w``, matched by ``\\s``."""

_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_LOW = np.int64(0xFFFFFFFF)
_HIGH = np.int64(1) << np.int64(32)
_FOLD = np.uint64(29)


@compiled
def encode_characters(
    texts: Any, classes: Any, lookup: Any, alphabet: Any, limit: int, within_words: bool, frozen: bool, rows: Any
) -> int:
    """Turn rows of code points into symbols, with white space treated as scikit-learn's analyzers do.

    Two or more white-space characters become one blank; a single one stays as it is. ``within_words`` (``char_wb``)
    makes one segment of every word, with a blank on both sides.

    Args:
        texts: Code points of all rows.
        classes: Shape (0x110000,), uint8 bits per code point.
        lookup: Shape (0x110000,), uint32 symbol per code point, 0 for none; extended unless ``frozen``.
        alphabet: Code point of each symbol; entry 0 holds the number of symbols.
        limit: Largest symbol that fits into a key.
        within_words: Whether segments are words.
        frozen: Whether unknown code points end the segment instead of becoming symbols.
        rows: Output, with room for 2 n + 2 rows symbols of n code points.

    Returns:
        The number of segments, or -1 when the alphabet grew beyond ``limit``.
    """
    codes, starts, ends = texts
    symbols, segments, row_segments = rows
    n = 0
    k = 0
    segments[0] = 0
    for row in range(len(starts)):
        row_segments[row] = k
        i = starts[row]
        end = ends[row]
        inside = False
        while i <= end:
            # One extra round at the end of a row closes the last word.
            pad = False
            code = np.uint32(32)
            if i == end:
                if not (within_words and inside):
                    break
                pad = True
                inside = False
                i += 1
            else:
                code = codes[i]
                if classes[code] & SPACE:
                    if within_words:
                        i += 1
                        if not inside:
                            continue
                        inside = False
                        pad = True
                        code = np.uint32(32)
                    else:
                        j = i + 1
                        while j < end and classes[codes[j]] & SPACE:
                            j += 1
                        if j - i > 1:
                            code = np.uint32(32)
                        i = j
                elif within_words and not inside:
                    inside = True
                    code = np.uint32(32)
                else:
                    i += 1
            symbol = lookup[code]
            if symbol == 0 and not frozen:
                alphabet[0] += 1
                if alphabet[0] > limit:
                    return -1
                symbol = np.uint32(alphabet[0])
                alphabet[symbol] = code
                lookup[code] = symbol
            if symbol != 0:
                symbols[n] = symbol
                n += 1
            if (pad or symbol == 0) and n > segments[k]:
                k += 1
                segments[k] = n
        if n > segments[k]:
            k += 1
            segments[k] = n
    row_segments[len(starts)] = k
    return k


@compiled
def intern_tokens(texts: Any, classes: Any, shortest: int, tokens: Any, frozen: bool, rows: Any) -> int:
    r"""Find the maximal runs of ``\w`` of ``shortest`` characters or more, number them, and count the segments.

    With ``shortest=2`` these are the matches of scikit-learn's default pattern ``(?u)\b\w\w+\b``. ``tokens``
    (:class:`Tokens`) has room for all new ones; the others are as in :func:`encode_characters`.
    """
    codes, starts, ends = texts
    symbols, segments, row_segments = rows
    table, arena, arena_ends, state = tokens
    mask = np.uint64(len(table) // 2 - 1)
    n = 0
    k = 0
    segments[0] = 0
    for row in range(len(starts)):
        row_segments[row] = k
        i = starts[row]
        end = ends[row]
        while i < end:
            if not classes[codes[i]] & WORD:
                i += 1
                continue
            start = i
            digest = _SEED
            while i < end and classes[codes[i]] & WORD:
                digest = (digest ^ np.uint64(codes[i])) * _PRIME
                i += 1
            length = i - start
            if length < shortest:
                continue
            digest = (digest ^ (digest >> _FOLD)) * _PRIME
            digest = (digest ^ (digest >> _FOLD)) | _ONE
            place = digest & mask
            symbol = np.uint32(0)
            while True:
                found = table[place * np.uint64(2)]
                if found == 0:
                    break
                if found == digest:
                    candidate = np.int64(table[place * np.uint64(2) + _ONE])
                    first = arena_ends[candidate - 1]
                    if arena_ends[candidate] - first == length:
                        same = True
                        for j in range(length):
                            if arena[first + j] != codes[start + j]:
                                same = False
                                break
                        if same:
                            symbol = np.uint32(candidate)
                            break
                place = (place + _ONE) & mask
            if symbol == 0 and not frozen:
                state[0] += 1
                first = arena_ends[state[0] - 1]
                for j in range(length):
                    arena[first + j] = codes[start + j]
                arena_ends[state[0]] = first + length
                symbol = np.uint32(state[0])
                table[place * np.uint64(2)] = digest
                table[place * np.uint64(2) + _ONE] = np.uint64(symbol)
            if symbol != 0:
                symbols[n] = symbol
                n += 1
            elif n > segments[k]:
                k += 1
                segments[k] = n
        if n > segments[k]:
            k += 1
            segments[k] = n
    row_segments[len(starts)] = k
    return k


COUNTS, L1, L2, RAW = 0, 1, 2, 3
"""Kinds of values: plain counts, TF-IDF scaled by the 1-norm or the 2-norm, or TF-IDF as it is."""


@compiled
def sort_block(block: Any, columns: Any, found: Any, part: Any) -> int:
    """Order the n-grams of a block of rows by column, rows within a column in order (one counting sort).

    Equal n-grams of one row end up side by side, so no table per row is needed to add them up.

    Args:
        block: The occurrences (:class:`Block`).
        columns: int32 column of each n-gram number, -1 for none.
        found: Work space, int32, one longer than the occurrences of the block.
        part: Output (:class:`SortedBlock`).

    Returns:
        The number of stored values of the block.
    """
    stream, starts, ends = block.stream, block.starts, block.ends
    bucket, rows, sizes = part
    n_columns = len(bucket) - 1
    for column in range(n_columns + 1):
        bucket[column] = 0
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
def fill_block(part: Any, weights: Any, logs: Any, first_column: int, begins: Any, indices: Any, values: Any) -> None:
    """Write a block that :func:`sort_block` sorted as rows of a CSR matrix and weigh them.

    ``logs`` has 1 + ln(tf) at index tf for small tf; ``begins``, int64 (rows of the block,), where a row's values begin
    in the outputs: ``indices``, ascending within a row, and ``values``, float64.
    """
    bucket, rows, sizes = part
    binary, scheme, sublinear, idf, factor = weights
    places = np.empty(len(sizes), np.int64)
    n_rows = len(sizes)
    for row in range(n_rows):  # assigning a slice would compile the words of an error message for two seconds
        places[row] = begins[row]
    begin = 0
    for column in range(len(bucket) - 1):
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
    """Add up occurrences and rows of every n-gram over some rows of a stream.

    ``sums``, int64, zero at first, gets occurrences at 2 i, rows << 32 | last row at 2 i + 1.
    """
    for row in range(len(starts)):
        stamp = np.int64(row + 1)
        for e in range(starts[row], ends[row]):
            number = stream[e]
            sums[2 * number] += 1
            seen = sums[2 * number + 1]
            if seen & _LOW != stamp:
                sums[2 * number + 1] = ((seen & ~_LOW) + _HIGH) | stamp


@compiled
def key_masks(max_n: int, bits: int) -> Any:
    """Return uint64 (max_n + 1,): the bits that an n-gram of n symbols takes, at index n."""
    masks = np.empty(max_n + 1, np.uint64)
    masks[0] = _ZERO
    one = (_ONE << np.uint64(bits)) - _ONE
    for n in range(1, max_n + 1):
        masks[n] = masks[n - 1] | (one << np.uint64(bits * (max_n - n)))
    return masks


@compiled
def gather_keys(rows: Any, row: int, form: Any, masks: Any, gathered: Any) -> int:
    """Write the key of every n-gram of a row into ``gathered``, uint64; return their number.

    Where n-grams stay within words (``char_wb``), a segment shorter than ``min_n`` counts as one.
    """
    symbols, segments = rows.symbols, rows.segments
    min_n, max_n, bits, within_words = form
    width = np.uint64(bits)
    full = masks[max_n]
    count = 0
    for k in range(rows.row_segments[row], rows.row_segments[row + 1]):
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
def find_place(pairs: Any, shift: Any, key: Any) -> Any:
    """Return where a table of pairs, shape (2 * size,), uint64, holds a key (twice the place), or is free for it."""
    last = np.uint64(len(pairs) - 1)
    place = ((key * _PRIME) >> shift) << _ONE
    while pairs[place] != key and pairs[place] != _ZERO:
        place = (place + _TWO) & last
    return place


@compiled
def find_or_add(pairs: Any, shift: Any, keys: Any, sums: Any, key: Any, count: int) -> Any:
    """Return a key's number in a table of ``count`` keys; a new one gets the number ``count`` and sums of zero."""
    place = find_place(pairs, shift, key)
    if pairs[place] == key:
        return np.int64(pairs[place + _ONE]) - 1
    pairs[place] = key
    pairs[place + _ONE] = np.uint64(count + 1)
    keys[count] = key
    sums[2 * count] = 0
    sums[2 * count + 1] = 0
    return np.int64(count)


@compiled
def count_ngrams(
    rows: Any, first_row: int, row_base: int, form: Any, table: Any, state: Any, gathered: Any, stream: Any, ends: Any
) -> int:
    """Count the n-grams of rows, adding new ones to the table, until it has no room for a row.

    A row is done in three loops (make its keys, find their numbers, add them up), because the processor then waits
    for many places of the table at once: a third faster than one loop.

    Args:
        rows: The symbols.
        first_row: Row to begin with (where an earlier call stopped).
        row_base: Number of row 0 in the corpus, plus one: distinct for all rows of a table.
        form: The form of keys.
        table: The table.
        state: int64: number of n-grams, length of the stream.
        gathered: Work space, uint64, room for the n-grams of the longest row.
        stream: Output, int32 number of every n-gram occurrence in order; when it has no room for all rows, each
            row's overwrite those of the row before.
        ends: Output, end of each row in ``stream``; empty to overwrite.

    Returns:
        The row that did not fit, or the number of rows when all are done.
    """
    masks = key_masks(form.max_n, form.bits)
    segments, row_segments = rows.segments, rows.row_segments
    pairs, keys, sums = table.pairs, table.keys, table.sums
    shift = np.uint64(table.shift)
    keep = len(ends) > 0
    count = state[0]
    out = state[1]
    for row in range(first_row, len(row_segments) - 1):
        first = row_segments[row]
        last = row_segments[row + 1]
        most = (segments[last] - segments[first]) * (form.max_n - form.min_n + 1) + (last - first)
        if count + most > len(keys):
            state[0] = count
            state[1] = out
            return row
        found = gather_keys(rows, row, form, masks, gathered)
        for i in range(found):
            number = find_or_add(pairs, shift, keys, sums, gathered[i], count)
            count = max(count, number + 1)
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
            ends[row] = out
    state[0] = count
    state[1] = out
    return len(row_segments) - 1


@compiled
def find_ngrams(rows: Any, form: Any, table: Any, gathered: Any, stream: Any, ends: Any) -> int:
    """Write the number of every n-gram occurrence that is in the table; arguments as in :func:`count_ngrams`.

    Returns:
        The length of the stream.
    """
    masks = key_masks(form.max_n, form.bits)
    pairs, shift = table.pairs, np.uint64(table.shift)
    out = 0
    for row in range(len(rows.row_segments) - 1):
        found = gather_keys(rows, row, form, masks, gathered)
        for i in range(found):
            place = find_place(pairs, shift, gathered[i])
            if pairs[place] != _ZERO:
                stream[out] = np.int64(pairs[place + _ONE]) - 1
                out += 1
        ends[row] = out
    return out


@compiled
def insert_keys(new_keys: Any, new_sums: Any, table: Any, count: int, numbers: Any) -> int:
    """Add distinct keys with sums over rows that a table, which has room for all of them, has not seen.

    Its number of each new key is written into ``numbers``; returned is its number of keys afterwards.
    """
    pairs, keys, sums = table.pairs, table.keys, table.sums
    shift = np.uint64(table.shift)
    for i in range(len(new_keys)):
        number = find_or_add(pairs, shift, keys, sums, new_keys[i], count)
        count = max(count, number + 1)
        sums[2 * number] += new_sums[2 * i]
        sums[2 * number + 1] += new_sums[2 * i + 1] & ~_LOW
        numbers[i] = number
    return count
