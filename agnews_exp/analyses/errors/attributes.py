"""Attributes of a news text that need no model: its length, its source, and the artefacts of its web feed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

AGENCIES: Final[dict[str, tuple[str, ...]]] = {
    "Reuters": ("Reuters",),
    "AP": ("AP", "Associated Press"),
    "AFP": ("AFP",),
    "Canadian Press": ("CP", "Canadian Press"),
    "Sports Network": ("Sports Network",),
    "Sports Ticker": ("Ticker",),
    "CBS MarketWatch": ("CBS.MW", "CBS MarketWatch"),
    "Dow Jones": ("Dow Jones", "Dow Jones/AP"),
    "Bloomberg": ("Bloomberg",),
    "Forbes": ("Forbes.com",),
    "New Ratings": ("newratings.com", "New Ratings"),
    "Washington Post": ("washingtonpost.com",),
    "USA Today": ("USATODAY.com",),
    "NewsFactor": ("NewsFactor",),
    "PC World": ("PC World",),
    "Ziff Davis": ("Ziff Davis",),
    "InfoWorld": ("InfoWorld",),
    "Computerworld": ("COMPUTERWORLD",),
    "IDG": ("IDG NEWS SERVICE",),
    "MacCentral": ("MacCentral",),
    "TechWeb": ("TechWeb",),
    "SiliconValley.com": ("SiliconValley.com",),
    "SPACE.com": ("SPACE.com",),
    "Xinhua": ("Xinhuanet", "Xinhua"),
}
"""Sources that news texts name, with the spellings they use."""

NO_AGENCY: Final = "none named"
OTHER_AGENCY: Final = "other named"

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

_SPELLINGS = {spelling: name for name, spellings in AGENCIES.items() for spelling in spellings}
_NAMES = "|".join(re.escape(spelling) for spelling in sorted(_SPELLINGS, key=len, reverse=True))
_AGENCY = re.compile(rf"\(({_NAMES})\)|(?<![\w.])({_NAMES})\s+--?\s")
_WORD = re.compile(r"\w+")


def agency(text: str) -> str:
    """Return the source that a text names first, as ``(Reuters)`` or ``AP -``; ``none named`` otherwise."""
    found = _AGENCY.search(text)
    return _SPELLINGS[found.group(1) or found.group(2)] if found else NO_AGENCY


def agencies(texts: Sequence[str], min_rows: int = 1) -> tuple[NDArray[np.int64], list[str]]:
    """Return each text's source as an index (n,) into names, most frequent first, ``none named`` last.

    Sources that fewer than ``min_rows`` texts name are counted together as ``other named``.
    """
    named = [agency(text) for text in texts]
    counts: dict[str, int] = {}
    for name in named:
        counts[name] = counts.get(name, 0) + 1
    large = sorted((n for n in counts if n != NO_AGENCY and counts[n] >= min_rows), key=lambda n: (-counts[n], n))
    names = [*large, OTHER_AGENCY, NO_AGENCY]
    index = {name: i for i, name in enumerate(names)}
    return np.array([index.get(name, len(large)) for name in named], dtype=np.int64), names


def holding(texts: Sequence[str], patterns: Mapping[str, re.Pattern[str]]) -> dict[str, NDArray[np.bool_]]:
    """Return which texts, shape (n,), hold each pattern, by its name."""
    return {
        name: np.fromiter((bool(pattern.search(text)) for text in texts), dtype=bool, count=len(texts))
        for name, pattern in patterns.items()
    }


def artefacts(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which texts, shape (n,), hold each artefact, and which hold ``any`` of them."""
    found = holding(texts, ARTEFACTS)
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
