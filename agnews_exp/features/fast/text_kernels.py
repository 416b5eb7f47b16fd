"""Compiled loops from code points to symbols: characters, characters within words, and word tokens.

A *symbol* is a small integer >= 1 that stands for one character or one token; 0 means none. A *segment* is a run of
symbols that n-grams may not leave: a row, or for ``char_wb`` a padded word. Where symbols may not be added (a fitted
vocabulary), an unknown one ends its segment, because no n-gram that holds it can be in the vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agnews_exp.features.fast.compiled import compiled

KNOWN, WORD, SPACE = np.uint8(1), np.uint8(2), np.uint8(4)
"""Bits of a code point's class: looked at, matched by ``\\w``, matched by ``\\s``."""

_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_FOLD = np.uint64(29)


@compiled
def encode_characters(
    codes: Any,
    starts: Any,
    ends: Any,
    classes: Any,
    lookup: Any,
    alphabet: Any,
    limit: int,
    within_words: bool,
    frozen: bool,
    symbols: Any,
    segments: Any,
    row_segments: Any,
) -> int:
    """Turn rows of code points into symbols, with white space treated as scikit-learn's analyzers do.

    Two or more white-space characters become one blank; a single one stays as it is. ``within_words`` (``char_wb``)
    makes one segment of every word, with a blank on both sides.

    Args:
        codes: Shape (n,), uint32 code points of all rows.
        starts: Shape (rows,), first position of each row in ``codes``.
        ends: Shape (rows,), position after the last of each row.
        classes: Shape (0x110000,), uint8 bits per code point.
        lookup: Shape (0x110000,), uint32 symbol per code point, 0 for none; extended unless ``frozen``.
        alphabet: Code point of each symbol; entry 0 holds the number of symbols.
        limit: Largest symbol that fits into a key.
        within_words: Whether segments are words.
        frozen: Whether unknown code points end the segment instead of becoming symbols.
        symbols: Output, at least 2 n + 2 rows long.
        segments: Output, start of each segment in ``symbols`` and the end of the last.
        row_segments: Output, shape (rows + 1,), first segment of each row.

    Returns:
        The number of segments, or -1 when the alphabet grew beyond ``limit``.
    """
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
def intern_tokens(
    codes: Any,
    starts: Any,
    ends: Any,
    classes: Any,
    shortest: int,
    table: Any,
    arena: Any,
    arena_ends: Any,
    state: Any,
    frozen: bool,
    symbols: Any,
    segments: Any,
    row_segments: Any,
) -> int:
    r"""Find the maximal runs of ``\w`` that have at least ``shortest`` characters, and number them.

    With ``shortest=2`` these are the matches of scikit-learn's default pattern ``(?u)\b\w\w+\b``.

    Args:
        codes: As in :func:`encode_characters`.
        starts: As in :func:`encode_characters`.
        ends: As in :func:`encode_characters`.
        classes: As in :func:`encode_characters`.
        shortest: Least number of characters of a token.
        table: Shape (2 * size,), uint64, size a power of two with room for all new tokens: pairs (hash, symbol).
        arena: uint32 code points of all distinct tokens, with room for all new ones.
        arena_ends: End of token s in ``arena`` at index s; entry 0 is 0.
        state: int64, entry 0 the number of tokens.
        frozen: As in :func:`encode_characters`.
        symbols: Output.
        segments: Output.
        row_segments: Output.

    Returns:
        The number of segments.
    """
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
