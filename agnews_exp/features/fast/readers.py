"""From texts to symbols: lower-casing, tokenising and numbering, in chunks of rows.

The readers here number characters or tokens in the order of their first appearance; alphabetical order is made
later, for the few n-grams that survive (:mod:`agnews_exp.features.fast.counting`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.features.fast.code_points import CODES, code_points
from agnews_exp.features.fast.symbols import KeyTooWideError, NgramSpec, SymbolRows, without_stop_words

_RUN_PATTERNS = {
    r"(?u)\b\w\w+\b": 2,
    r"\b\w\w+\b": 2,
    r"(?u)\b\w+\b": 1,
    r"\b\w+\b": 1,
    r"(?u)\w+": 1,
    r"\w+": 1,
}
r"""Token patterns that mean "maximal runs of \w", with the least length of a run."""


class CharacterReader:
    """Numbers characters.

    Args:
        spec: What is counted.
        known: Code points that are symbols 1, 2, ...: then no others are added. None adds them as they come.
    """

    def __init__(self, spec: NgramSpec, known: NDArray[np.uint32] | None = None) -> None:
        self.spec = spec
        self._frozen = known is not None
        self._lookup = np.zeros(CODES, np.uint32)
        self._alphabet = np.zeros(min(spec.limit, CODES) + 2, np.uint32)
        if known is not None:
            if len(known) > spec.limit:
                raise KeyTooWideError
            self._alphabet[0] = len(known)
            self._alphabet[1 : len(known) + 1] = known
            self._lookup[known] = np.arange(1, len(known) + 1, dtype=np.uint32)

    def read(self, texts: Sequence[str]) -> SymbolRows:
        """Return the symbols of texts (call it from one thread at a time)."""
        from agnews_exp.features.fast.text_kernels import encode_characters

        points = code_points()
        codes, starts, ends = points.read(texts, self.spec.reader_lowers)
        room = 2 * len(codes) + 2 * len(texts) + 2
        symbols = np.empty(room, np.uint32)
        # A segment holds a symbol, and within words three symbols or the break that an unknown one makes.
        segments = np.empty(len(codes) + len(texts) + 2, np.int64)
        row_segments = np.empty(len(texts) + 1, np.int64)
        count = encode_characters(
            codes,
            starts,
            ends,
            points.classes,
            self._lookup,
            self._alphabet,
            self.spec.limit,
            self.spec.within_words,
            self._frozen,
            symbols,
            segments,
            row_segments,
        )
        if count < 0:
            raise KeyTooWideError
        return SymbolRows(symbols, segments, row_segments)

    def names(self) -> list[str]:
        """Return the character of each symbol, beginning with symbol 1."""
        return [chr(code) for code in self._alphabet[1 : int(self._alphabet[0]) + 1].tolist()]


class TokenReader:
    r"""Numbers tokens that are runs of ``\w``, in compiled code.

    Args:
        spec: What is counted; its pattern must be one that :func:`reader_for` sends here.
        known: Tokens that are symbols: then no others are added. None adds them as they come.
    """

    def __init__(self, spec: NgramSpec, known: Sequence[str] | None = None) -> None:
        self.spec = spec
        self._shortest = _RUN_PATTERNS[spec.token_pattern]
        self._frozen = False
        self._table = np.zeros(2 << 12, np.uint64)
        self._arena = np.zeros(1 << 14, np.uint32)
        self._arena_ends = np.zeros(1 << 11, np.int64)
        self._state = np.zeros(1, np.int64)
        stop = [word for word in spec.stop_words if re.fullmatch(r"\w+", word)]
        self._run(stop, False, 1)
        self._stop = int(self._state[0])
        if known is not None:
            self._run(known, False, 1)
            self._frozen = True

    def _make_room(self, characters: int) -> None:
        from agnews_exp.features.fast.text_kernels import intern_tokens

        tokens = int(self._state[0])
        used = int(self._arena_ends[tokens])
        most = tokens + characters // 2 + 1
        if used + characters > len(self._arena):
            self._arena = np.concatenate([self._arena, np.zeros(max(len(self._arena), characters), np.uint32)])
        if most + 1 > len(self._arena_ends):
            self._arena_ends = np.concatenate([self._arena_ends, np.zeros(most + 1, np.int64)])
        if 3 * most > len(self._table):
            # Interning the known tokens again, in order, gives them the same numbers.
            size = 1 << (3 * most).bit_length()
            self._table = np.zeros(size, np.uint64)
            starts = self._arena_ends[:tokens].copy()
            ends = self._arena_ends[1 : tokens + 1].copy()
            self._state[0] = 0
            intern_tokens(
                self._arena.copy(),
                starts,
                ends,
                code_points().classes,
                1,
                self._table,
                self._arena,
                self._arena_ends,
                self._state,
                False,
                np.empty(tokens + 1, np.uint32),
                np.empty(tokens + 2, np.int64),
                np.empty(tokens + 1, np.int64),
            )

    def _run(self, texts: Sequence[str], lowercase: bool, shortest: int) -> SymbolRows:
        from agnews_exp.features.fast.text_kernels import intern_tokens

        points = code_points()
        codes, starts, ends = points.read(texts, lowercase)
        if not self._frozen:
            self._make_room(len(codes) + 1)
        symbols = np.empty(len(codes) // 2 + len(texts) + 1, np.uint32)
        segments = np.empty(len(symbols) + len(texts) + 1, np.int64)
        row_segments = np.empty(len(texts) + 1, np.int64)
        intern_tokens(
            codes,
            starts,
            ends,
            points.classes,
            shortest,
            self._table,
            self._arena,
            self._arena_ends,
            self._state,
            self._frozen,
            symbols,
            segments,
            row_segments,
        )
        return SymbolRows(symbols, segments, row_segments)

    def read(self, texts: Sequence[str]) -> SymbolRows:
        """Return the symbols of texts without the stop words (call it from one thread at a time)."""
        rows = self._run(texts, self.spec.reader_lowers, self._shortest)
        if int(self._state[0]) > self.spec.limit:
            raise KeyTooWideError
        return without_stop_words(rows, self._stop) if self._stop else rows

    def names(self) -> list[str]:
        """Return the text of each symbol, beginning with symbol 1."""
        count = int(self._state[0])
        ends = self._arena_ends[: count + 1].tolist()
        text = self._arena[: ends[-1]].tobytes().decode("utf-32-le", "surrogatepass")
        return [text[ends[i] : ends[i + 1]] for i in range(count)]


class _TokenNumbers(dict[str, int]):
    """Token to symbol; a new token gets the next one, or 0 once ``frozen``."""

    frozen = False

    def __missing__(self, token: str) -> int:
        # A token with a blank or a control character could look like, or sort unlike, an n-gram of others.
        if token and min(token) <= " ":
            raise KeyTooWideError
        if self.frozen:
            return 0
        self[token] = number = len(self) + 1
        return number


class PatternReader:
    """Numbers the tokens of any other regular expression; ``re`` finds them.

    Args:
        spec: What is counted.
        known: As for :class:`TokenReader`.
    """

    def __init__(self, spec: NgramSpec, known: Sequence[str] | None = None) -> None:
        self.spec = spec
        self._find: Callable[[str], list[str]] = re.compile(spec.token_pattern).findall
        self._numbers = _TokenNumbers({word: i for i, word in enumerate(spec.stop_words, start=1)})
        self._stop = len(self._numbers)
        for word in known or ():
            self._numbers.setdefault(word, len(self._numbers) + 1)
        self._numbers.frozen = known is not None

    def read(self, texts: Sequence[str]) -> SymbolRows:
        """Return the symbols of texts without the stop words (call it from one thread at a time)."""
        numbers = self._numbers
        flat: list[int] = []
        row_ends = np.zeros(len(texts) + 1, np.int64)
        for row, text in enumerate(texts, start=1):
            tokens = self._find(text.lower() if self.spec.reader_lowers else text)
            flat.extend([numbers[token] for token in tokens])
            row_ends[row] = len(flat)
        if len(numbers) > self.spec.limit:
            raise KeyTooWideError
        rows = _split_at_unknown(np.asarray(flat, np.uint32), row_ends)
        return without_stop_words(rows, self._stop) if self._stop else rows

    def names(self) -> list[str]:
        """Return the text of each symbol, beginning with symbol 1."""
        return list(self._numbers)


def _split_at_unknown(flat: NDArray[np.uint32], row_ends: NDArray[np.int64]) -> SymbolRows:
    """Make segments of rows of symbols; a zero symbol ends a segment and is dropped."""
    kept = np.concatenate([[0], np.cumsum(flat != 0)])
    breaks = np.union1d(row_ends, np.flatnonzero(flat == 0))
    segments = kept[breaks]
    return SymbolRows(flat[flat != 0], segments, np.searchsorted(breaks, row_ends))


Reader = CharacterReader | TokenReader | PatternReader


def reader_for(spec: NgramSpec, known: Sequence[str] | None = None) -> Reader:
    """Return the reader for a spec.

    Args:
        spec: What is counted.
        known: The only characters or tokens that matter (those of a vocabulary), or None for all.

    Raises:
        KeyTooWideError: No key can hold these n-grams.
    """
    if spec.limit < 1:
        raise KeyTooWideError
    if spec.analyzer != "word":
        codes = None if known is None else np.asarray([ord(c) for c in known], np.uint32)
        return CharacterReader(spec, codes)
    if spec.token_pattern in _RUN_PATTERNS:
        return TokenReader(spec, known)
    return PatternReader(spec, known)
