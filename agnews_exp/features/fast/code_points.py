"""Code points of texts and what each of them is: part of a word, white space, or neither."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CODES = 0x110000
"""Number of code points that Unicode has room for."""


class CodePoints:
    """Code points of texts and their classes; shared by all readers of a process."""

    def __init__(self) -> None:
        self.classes = np.zeros(CODES, np.uint8)
        self._lock = threading.Lock()
        self._classify(range(128))

    def _classify(self, codes: Sequence[int] | range) -> None:
        from agnews_exp.features.fast.text_kernels import KNOWN, SPACE, WORD

        for code in codes:
            character = chr(code)
            bits = int(KNOWN)
            if character.isalnum() or character == "_":
                bits |= int(WORD)
            if character.isspace():
                bits |= int(SPACE)
            self.classes[code] = bits

    def read(
        self, texts: Sequence[str], lowercase: bool
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
        """Return the code points of the texts, and where each begins and ends.

        Args:
            texts: Rows.
            lowercase: Whether to lower-case them, exactly as ``str.lower`` does for each alone.

        Returns:
            uint32 codes of all texts with one separator after each; int64 starts; int64 ends.
        """
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
        return codes, ends - lengths, ends


_code_points: CodePoints | None = None
_code_points_lock = threading.Lock()


def code_points() -> CodePoints:
    """Return the process' table of character classes."""
    global _code_points
    with _code_points_lock:
        if _code_points is None:
            _code_points = CodePoints()
        return _code_points
