"""Counting the n-grams of a corpus once, in compiled code, on several threads."""

from __future__ import annotations

import contextlib
import mmap
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_CHARACTERS = 1 << 19
"""Characters that one step of work takes: large enough for numpy, small enough for the processor's cache."""

LONGEST_TEXT = 1 << 26
"""Characters of the longest text that compiled code takes, so that positions within a block fit into 32 bits."""

BLOCK_ROWS = 1 << 16
"""Most rows of a block, so that a row's number within it fits into 16 bits."""


class KeyTooWideError(Exception):
    """An n-gram does not fit into one 64-bit key: the caller counts with scikit-learn instead."""


@dataclass(frozen=True)
class NgramSpec:
    """The kind of n-grams that are counted: every setting that changes those of a text, and nothing else."""

    analyzer: str  # ``word``, ``char`` or ``char_wb``
    min_n: int  # shortest n-gram, at least 1
    max_n: int  # longest n-gram
    lowercase: bool  # whether texts are lower-cased
    token_pattern: str = ""  # regular expression of a token (``word`` only, else empty)
    stop_words: tuple[str, ...] = ()  # tokens to leave out, sorted (``word`` only)
    strip_accents: str | None = None  # ``ascii``, ``unicode`` or None

    @property
    def bits(self) -> int:
        """Bits of a key that each symbol gets."""
        return min(32, 64 // self.max_n)

    @property
    def form(self) -> KeyForm:
        """The form of the keys."""
        return KeyForm(self.min_n, self.max_n, self.bits, self.analyzer == "char_wb")

    @property
    def limit(self) -> int:
        """Largest symbol that fits into its bits of a key."""
        return (1 << self.bits) - 1

    @property
    def reader_lowers(self) -> bool:
        """Whether readers lower-case; stripping accents comes after it, so :func:`prepare` then does both."""
        return self.lowercase and self.strip_accents is None


class KeyForm(NamedTuple):
    """The form of an n-gram's key: shortest and longest n-gram, bits of a symbol, whether padded words hold n-grams."""

    min_n: int
    max_n: int
    bits: int
    within_words: bool


class CodeRows(NamedTuple):
    """Texts as code points."""

    codes: NDArray[np.uint32]  # those of all texts with one separator after each
    starts: NDArray[np.int64]  # first position of each text in ``codes``
    ends: NDArray[np.int64]  # position after the last of each text


class SymbolRows(NamedTuple):
    """The symbols (numbers of characters or tokens) of some rows, cut into segments that no n-gram crosses."""

    symbols: NDArray[np.uint32]
    segments: NDArray[np.int64]  # start of each segment and the end of the last
    row_segments: NDArray[np.int64]  # first segment of each row and the end of the last

    def most_ngrams(self, spec: NgramSpec) -> int:
        """Return an upper bound for the number of n-gram occurrences."""
        count = int(self.row_segments[-1])
        return int(self.segments[count]) * (spec.max_n - spec.min_n + 1) + count

    def most_in_row(self, spec: NgramSpec) -> int:
        """Return an upper bound for the number of n-gram occurrences of any one row."""
        symbols = np.diff(self.segments[self.row_segments])
        most = symbols * (spec.max_n - spec.min_n + 1) + np.diff(self.row_segments)
        return int(most.max(initial=0))


def _room(symbols: int, segments: int, rows: int) -> SymbolRows:
    """Return empty rows with room for so many symbols, ends of segments, and rows."""
    return SymbolRows(np.empty(symbols, np.uint32), np.empty(segments, np.int64), np.empty(rows + 1, np.int64))


def without_stop_words(rows: SymbolRows, stop: int) -> SymbolRows:
    """Return the rows without the symbols up to ``stop``: their neighbours become adjacent."""
    count = int(rows.row_segments[-1])
    symbols = rows.symbols[: int(rows.segments[count])]
    keep = symbols > stop
    before = np.concatenate([[0], np.cumsum(keep)])
    return SymbolRows(symbols[keep], before[rows.segments[: count + 1]], rows.row_segments)


def prepare(texts: Sequence[str], spec: NgramSpec) -> Sequence[str]:
    """Apply what cannot be done in compiled code: lower-casing and stripping of accents, text by text."""
    if spec.strip_accents is None:
        return texts
    from sklearn.feature_extraction.text import strip_accents_ascii, strip_accents_unicode

    strip: Any = strip_accents_ascii if spec.strip_accents == "ascii" else strip_accents_unicode
    return [strip(text.lower() if spec.lowercase else text) for text in texts]


def chunks(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Cut rows into chunks of about :data:`CHUNK_CHARACTERS`, as (first row, row after the last)."""
    lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
    if lengths.max(initial=0) > LONGEST_TEXT:
        raise KeyTooWideError
    return cut_rows(lengths)


def cut_rows(sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut rows into chunks by their numbers of characters, shape (n,), int64: (first row, row after the last) each."""
    group = (np.cumsum(sizes) - sizes) // CHUNK_CHARACTERS
    firsts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    return [
        (begin, min(begin + BLOCK_ROWS, last))
        for first, last in pairwise(firsts)
        for begin in range(first, last, BLOCK_ROWS)
    ]


CODES = 0x110000
"""Number of code points that Unicode has room for."""


class CodePoints:
    """Code points of texts and their classes; shared by all readers of a process."""

    def __init__(self) -> None:
        self.classes = np.zeros(CODES, np.uint8)
        self._lock = threading.Lock()
        self._classify(range(128))

    def _classify(self, codes: Sequence[int] | range) -> None:
        from agnews_exp.ngrams.kernels import KNOWN, SPACE, WORD

        for code in codes:
            character = chr(code)
            bits = int(KNOWN)
            if character.isalnum() or character == "_":
                bits |= int(WORD)
            if character.isspace():
                bits |= int(SPACE)
            self.classes[code] = bits

    def read(self, texts: Sequence[str], lowercase: bool) -> CodeRows:
        """Return the code points of texts, lower-cased exactly as ``str.lower`` does it for each alone."""
        # A line feed is neither cased nor case-ignorable, so the one rule of str.lower that looks at its
        # neighbours (the final sigma) decides beside it as it does at the end of a text.
        joined = "\n".join(texts)
        if lowercase:
            lowered = joined.lower()
            if len(lowered) != len(joined):
                # Lower-casing can only lengthen a text; where it does, every text's own length is needed.
                texts = [text.lower() for text in texts]
                lowered = "\n".join(texts)
            joined = lowered
        lengths = np.fromiter((len(text) for text in texts), np.int64, len(texts))
        ends = np.cumsum(lengths + 1) - 1
        if joined.isascii():
            codes = np.frombuffer(joined.encode("ascii"), np.uint8).astype(np.uint32)
        else:
            codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
            new = codes[self.classes[codes] == 0]
            if len(new):
                with self._lock:
                    self._classify(np.unique(new).tolist())
        return CodeRows(codes, ends - lengths, ends)


@cache
def code_points() -> CodePoints:
    """Return the process's table of character classes."""
    return CodePoints()


_RUN_PATTERNS = {r"(?u)\b\w\w+\b": 2, r"\b\w\w+\b": 2, r"(?u)\b\w+\b": 1, r"\b\w+\b": 1, r"(?u)\w+": 1, r"\w+": 1}
r"""Token patterns that mean "maximal runs of \w", with the least length of a run."""


class CharacterReader:
    """Turns texts into the numbers of their characters.

    The ``known`` code points are symbols 1, 2, ..., and no others are added; None adds them as they come.
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
        from agnews_exp.ngrams.kernels import encode_characters

        points, spec = code_points(), self.spec
        codes = points.read(texts, spec.reader_lowers)
        n_codes, n_texts = len(codes.codes), len(texts)
        # A segment holds a symbol, and within words three symbols or the break that an unknown one makes.
        rows = _room(2 * n_codes + 2 * n_texts + 2, n_codes + n_texts + 2, n_texts)
        table = points.classes, self._lookup, self._alphabet
        if encode_characters(codes, *table, spec.limit, spec.form.within_words, self._frozen, rows) < 0:
            raise KeyTooWideError
        return rows

    def names(self) -> list[str]:
        """Return the character of each symbol, beginning with symbol 1."""
        return [chr(code) for code in self._alphabet[1 : int(self._alphabet[0]) + 1].tolist()]


class Tokens(NamedTuple):
    """Distinct tokens with their numbers from 1."""

    table: NDArray[np.uint64]  # shape (2 * size,), size a power of two: pairs (hash, number)
    arena: NDArray[np.uint32]  # code points of all tokens, one after the other
    ends: NDArray[np.int64]  # end of token i in ``arena`` at index i; entry 0 is 0
    total: NDArray[np.int64]  # shape (1,), the number of tokens


class TokenReader:
    r"""Turns texts into the numbers of their tokens, runs of ``\w``, in compiled code.

    The spec's pattern is one of ``_RUN_PATTERNS``. The ``known`` tokens are symbols, and no others are added; None adds
    them as they come.
    """

    def __init__(self, spec: NgramSpec, known: Sequence[str] | None = None) -> None:
        self.spec = spec
        self._shortest = _RUN_PATTERNS[spec.token_pattern]
        self._frozen = False
        zeros = np.zeros(1 << 14, np.uint32), np.zeros(1 << 11, np.int64), np.zeros(1, np.int64)
        self._tokens = Tokens(np.zeros(2 << 12, np.uint64), *zeros)
        stop = [word for word in spec.stop_words if re.fullmatch(r"\w+", word)]
        self._run(stop, False, 1)
        self._stop = int(self._tokens.total[0])
        if known is not None:
            self._run(known, False, 1)
            self._frozen = True

    def _make_room(self, characters: int) -> None:
        from agnews_exp.ngrams.kernels import intern_tokens

        table, arena, ends, count = self._tokens
        tokens = int(count[0])
        most = tokens + characters // 2 + 1
        if int(ends[tokens]) + characters > len(arena):
            arena = np.concatenate([arena, np.zeros(max(len(arena), characters), np.uint32)])
        if most + 1 > len(ends):
            ends = np.concatenate([ends, np.zeros(most + 1, np.int64)])
        grown = 3 * most > len(table)
        if grown:
            table = np.zeros(1 << (3 * most).bit_length(), np.uint64)
        self._tokens = Tokens(table, arena, ends, count)
        if grown:  # interning the known tokens again, in order, gives them the same numbers
            known = CodeRows(arena.copy(), ends[:tokens].copy(), ends[1 : tokens + 1].copy())
            count[0] = 0
            room = _room(tokens + 1, tokens + 2, tokens)
            intern_tokens(known, code_points().classes, 1, self._tokens, False, room)

    def _run(self, texts: Sequence[str], lowercase: bool, shortest: int) -> SymbolRows:
        from agnews_exp.ngrams.kernels import intern_tokens

        points = code_points()
        codes = points.read(texts, lowercase)
        n_codes, n_texts = len(codes.codes), len(texts)
        if not self._frozen:
            self._make_room(n_codes + 1)
        rows = _room(n_codes // 2 + n_texts + 1, n_codes // 2 + 2 * n_texts + 2, n_texts)
        intern_tokens(codes, points.classes, shortest, self._tokens, self._frozen, rows)
        return rows

    def read(self, texts: Sequence[str]) -> SymbolRows:
        """Return the symbols of texts without the stop words (call it from one thread at a time)."""
        rows = self._run(texts, self.spec.reader_lowers, self._shortest)
        if int(self._tokens.total[0]) > self.spec.limit:
            raise KeyTooWideError
        return without_stop_words(rows, self._stop) if self._stop else rows

    def names(self) -> list[str]:
        """Return the text of each symbol, beginning with symbol 1."""
        count = int(self._tokens.total[0])
        ends = self._tokens.ends[: count + 1].tolist()
        text = self._tokens.arena[: ends[-1]].tobytes().decode("utf-32-le", "surrogatepass")
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
    """Turns texts into the numbers of tokens that any regular expression finds; ``known`` as for TokenReader."""

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
    """Return the reader for a spec; ``known`` are the only characters or tokens that matter, None for all.

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


STREAM_LIMIT = 1 << 28
"""Most n-gram occurrences that are kept in memory (4 bytes each); beyond, rows are read a second time."""


class Slots(NamedTuple):
    """The arrays of a table of n-grams."""

    pairs: NDArray[np.uint64]  # shape (2 * size,), key and number + 1, or zeros
    shift: int  # 64 - log2(size)
    keys: NDArray[np.uint64]  # the key of number i at index i
    sums: NDArray[np.int64]  # occurrences of number i at 2 i, rows << 32 | last row at 2 i + 1


class NgramTable:
    """Open-addressing table from keys to numbers 0, 1, ..., with sums per number."""

    def __init__(self, room: int = 1 << 16) -> None:
        self.count = 0
        self._allocate(room)

    def _allocate(self, room: int) -> None:
        size = 1 << max(4, (room * 3 // 2).bit_length())
        room = size * 2 // 3
        pairs = np.empty(2 * size, np.uint64)
        pairs.fill(0)
        shift = 64 - (size.bit_length() - 1)
        self.slots = Slots(pairs, shift, np.empty(room, np.uint64), np.empty(2 * room, np.int64))

    def make_room(self, room: int) -> None:
        """Make room for this many n-grams in all; numbers stay the same, rows seen so far are closed."""
        if room <= len(self.slots.keys):
            return
        keys, sums = self.counted()
        self.count = 0
        self._allocate(max(room, 2 * len(self.slots.keys)))
        self.add(keys, sums)

    def counted(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the keys in use, shape (n,), and their sums, shape (2 n,)."""
        return self.slots.keys[: self.count], self.slots.sums[: 2 * self.count]

    def add(self, keys: NDArray[np.uint64], sums: NDArray[np.int64]) -> NDArray[np.int32]:
        """Add n-grams that were counted over other rows; return the number of each, shape (n,), int32.

        The keys, shape (n,), uint64, are distinct; ``sums``, shape (2 n,), int64, has occurrences at 2 i, rows << 32 at
        2 i + 1.
        """
        from agnews_exp.ngrams.kernels import insert_keys

        self.make_room(self.count + len(keys))
        numbers = np.empty(len(keys), np.int32)
        self.count = insert_keys(keys, sums, self.slots, self.count, numbers)
        return numbers


class Block(NamedTuple):
    """Occurrences of n-grams in some rows, in order."""

    stream: NDArray[np.int32]  # numbers
    starts: NDArray[np.int64]  # first position of each row in ``stream``
    ends: NDArray[np.int64]  # position after the last of each row
    worker: int = 0  # which thread's numbering it uses

    @property
    def occurrences(self) -> int:
        """Number of occurrences in these rows (``stream`` may hold those of others as well)."""
        return int((self.ends - self.starts).sum())


@dataclass
class Counts:
    """The n-grams of a corpus."""

    spec: NgramSpec  # the kind of n-grams
    n_rows: int  # number of rows
    keys: NDArray[np.uint64]  # (n,), key of each distinct n-gram
    tf: NDArray[np.int64]  # (n,), occurrences
    df: NDArray[np.int64]  # (n,), rows that hold it
    names: list[str]  # character or token of each symbol, beginning with symbol 1
    blocks: list[Block] | None  # the occurrences of all rows in order; None where they were too many to keep
    # For each worker, the number in ``keys`` of each of its own numbers; None where they are the same.
    numbering: list[NDArray[np.int32] | None] = field(default_factory=list)

    def alphabetical(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the numbers of the n-grams chosen by a mask, shape (n,), in alphabetical order."""
        kept = np.flatnonzero(mask)
        keys = alphabetical_keys(split_keys(self.keys[kept], self.spec), self.names, self.spec)
        return kept[np.argsort(keys, kind="stable")]

    def terms(self, numbers: NDArray[np.intp]) -> list[str]:
        """Return the n-grams with these numbers, shape (m,), as strings."""
        return term_strings(split_keys(self.keys[numbers], self.spec), self.names, self.spec)

    def take_rows(self, columns: NDArray[np.int32]) -> list[tuple[Block, NDArray[np.int32]]] | None:
        """Hand over the blocks of all rows, each with the column of its numbers; None where they were not kept.

        ``columns``, shape (n,), int32, is the column of each n-gram, -1 for none.
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
        from agnews_exp.ngrams.kernels import count_ngrams

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
            row = count_ngrams(rows, row, first_row + 1, spec.form, table.slots, state, self.gathered, stream, ends)
            table.count = int(state[0])
            if row < n_rows:
                table.make_room(table.count + longest)
        if not self.keep:
            return None
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        return Block(stream[: int(state[1])], starts, ends, self.number)


def count_texts(texts: Sequence[str], spec: NgramSpec, n_jobs: int, keep: bool | None = None) -> Counts:
    """Count the n-grams of texts; the result does not depend on the threads, up to the order of ``keys``.

    Occurrences are kept if ``keep`` says so; None keeps them up to :data:`STREAM_LIMIT`.

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
        numbering.append(table.add(*worker.table.counted()))
        worker.table = NgramTable(1)
    keys, flat = table.counted()
    sums = flat.reshape(-1, 2)
    return Counts(
        spec,
        n_rows,
        keys,
        np.ascontiguousarray(sums[:, 0]),
        sums[:, 1] >> 32,
        reader.names(),
        None if blocks is None else [block for block in blocks if block is not None],
        numbering,
    )


def split_keys(keys: NDArray[np.uint64], spec: NgramSpec) -> NDArray[np.uint64]:
    """Return the symbols of keys, shape (n,), as shape (max_n, n), uint64, 0 where an n-gram is shorter."""
    mask = np.uint64(spec.limit)
    return np.stack([(keys >> np.uint64(spec.bits * (spec.max_n - 1 - j))) & mask for j in range(spec.max_n)])


def alphabetical_keys(symbols: NDArray[np.uint64], names: Sequence[str], spec: NgramSpec) -> NDArray[np.uint64]:
    """Return keys, shape (n,), uint64, that sort as the strings of the n-grams do: by code point, prefixes first.

    A token's n-grams are joined by blanks, and no token holds a blank or anything below it, so comparing them token
    by token is the same as comparing the joined strings.
    """
    used = np.unique(symbols)
    order = sorted(used[used > 0].tolist(), key=lambda symbol: names[symbol - 1])
    ranks = np.zeros(len(names) + 1, np.uint64)  # from 1; symbol 0 and unused ones keep 0
    ranks[order] = np.arange(1, len(order) + 1, dtype=np.uint64)
    keys = np.zeros(symbols.shape[1], np.uint64)
    for row in symbols:
        keys = (keys << np.uint64(spec.bits)) | ranks[row]
    return keys


def term_strings(symbols: NDArray[np.uint64], names: Sequence[str], spec: NgramSpec) -> list[str]:
    """Return n-grams as strings, from their symbols, shape (max_n, n), and the symbols' names."""
    joiner = " " if spec.analyzer == "word" else ""
    texts = ["", *names]
    columns = [[texts[s] for s in row] for row in symbols.tolist()]
    lengths = (symbols > 0).sum(axis=0).tolist()
    return [joiner.join(parts[:length]) for parts, length in zip(zip(*columns, strict=True), lengths, strict=True)]
