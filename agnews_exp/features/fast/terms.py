"""Strings as two arrays, and back: what a fitted vectoriser keeps of its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_terms(terms: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the UTF-8 of all terms (lone surrogates included), and the characters that each one has."""
    text = "".join(terms).encode("utf-8", "surrogatepass")
    return np.frombuffer(text, np.uint8).copy(), np.fromiter(map(len, terms), np.int32, len(terms))


def unpack_terms(text: NDArray[Any], lengths: NDArray[Any]) -> list[str]:
    """Return the terms that :func:`pack_terms` packed."""
    joined = text.tobytes().decode("utf-8", "surrogatepass")
    ends = list(accumulate(lengths.tolist()))
    return [joined[first:last] for first, last in zip([0, *ends], ends, strict=False)]
