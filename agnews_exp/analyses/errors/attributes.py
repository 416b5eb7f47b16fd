"""Attributes of a text that need no model: its length, and the artefacts that a web feed left in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

ARTEFACTS: Final[dict[str, re.Pattern[str]]] = {
    "apostrophe #39;": re.compile(r"#39;"),
    "quotation mark quot;": re.compile(r"quot;"),
    "ampersand amp;": re.compile(r"amp;"),
    "other numeric entity": re.compile(r"#(?!39;)x?[0-9a-fA-F]{2,6};"),
    "escaped tag": re.compile(r"&lt;[A-Za-z/!][^&]*?&gt;"),
    "plain tag": re.compile(r"<[A-Za-z/!][^<>]*>"),
    "stock quote link": re.compile(r"fullquote|quickinfo|QuoteLookup", re.IGNORECASE),
    "web address": re.compile(r"https?://|www\."),
    "backslash": re.compile(r"\\"),
}
"""Artefacts that web feeds leave in texts, by name."""

_WORD = re.compile(r"\w+")


def artefacts(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which texts, shape (n,), hold each artefact, and which hold ``any`` of them."""
    found = {
        name: np.fromiter((bool(pattern.search(text)) for text in texts), dtype=bool, count=len(texts))
        for name, pattern in ARTEFACTS.items()
    }
    return found | {"any": np.logical_or.reduce(list(found.values()))}


def word_counts(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of words of each text, shape (n,): runs of letters, digits and underscores."""
    return np.fromiter((len(_WORD.findall(text)) for text in texts), dtype=np.int64, count=len(texts))


def length_edges(counts: NDArray[np.int64], n_bins: int) -> NDArray[np.int64]:
    """Return at most ``n_bins - 1`` inner edges of bins that hold about equally many texts by words, shape (n,)."""
    inner = np.quantile(counts, np.linspace(0, 1, n_bins + 1)[1:-1])
    edges = np.unique(np.ceil(inner).astype(np.int64))
    return edges[edges > counts.min()] if len(counts) else edges


def length_bins(counts: NDArray[np.int64], edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """Return each text's bin as an index (n,) into the bins' names; bin i holds edges[i-1] <= words < edges[i]."""
    lower, upper = [None, *edges.tolist()], [*edges.tolist(), None]
    names = []
    for low, high in zip(lower, upper, strict=True):
        if low is None:
            names.append("all lengths" if high is None else f"up to {high - 1} words")
        else:
            names.append(f"{low} words or more" if high is None else f"{low} to {high - 1} words")
    return np.searchsorted(edges, counts, side="right").astype(np.int64), names
