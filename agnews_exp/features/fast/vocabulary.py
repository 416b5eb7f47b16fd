"""Looking n-grams up in a fixed vocabulary."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from agnews_exp.features.fast.counting import Block, NgramTable
from agnews_exp.features.fast.matrix import Part, Weighting
from agnews_exp.features.fast.readers import reader_for
from agnews_exp.features.fast.symbols import NgramSpec, chunks, prepare


class Vocabulary:
    """Looks the n-grams of texts up in a fixed set of terms.

    Args:
        spec: What the terms are made of.
        terms: The terms; term i is column i.

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
            lambda i: (self._find(texts[todo[i][0] : todo[i][1]]), self._numbers),
            len(todo),
            self.size,
            None,
            weighting,
        )

    def _find(self, texts: Sequence[str]) -> Block:
        from agnews_exp.features.fast.count_kernels import find_ngrams

        with self._lock:
            rows = self._reader.read(prepare(texts, self.spec))
        stream = np.empty(rows.most_ngrams(self.spec), np.int32)
        ends = np.empty(len(texts), np.int64)
        used = find_ngrams(
            rows.symbols,
            rows.segments,
            rows.row_segments,
            self.spec.min_n,
            self.spec.max_n,
            self.spec.bits,
            self.spec.within_words,
            self._table.table,
            self._table.shift,
            np.empty(rows.most_in_row(self.spec), np.uint64),
            stream,
            ends,
        )
        return Block(stream[:used], np.concatenate([np.zeros(1, np.int64), ends[:-1]]), ends)
