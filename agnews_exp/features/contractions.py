"""English contractions written out, for the cleaning pipeline ``expansion``."""

from __future__ import annotations

import re
from typing import Final

_IRREGULAR: Final[dict[str, str]] = {
    "ain't": "are not",
    "can't": "cannot",
    "could've": "could have",
    "cap'n": "captain",
    "c'mon": "come on",
    "'cause": "because",
    "gimme": "give me",
    "gonna": "going to",
    "gotta": "got to",
    "i'm": "i am",
    "lemme": "let me",
    "let's": "let us",
    "ma'am": "madam",
    "ne'er": "never",
    "o'clock": "of the clock",
    "shan't": "shall not",
    "'tis": "it is",
    "'twas": "it was",
    "wanna": "want to",
    "won't": "will not",
    "y'all": "you all",
}
"""Contractions that the suffix rules would get wrong."""

_S_WORDS: Final = "he|she|it|that|this|there|here|what|where|when|who|why|how"
"""Words after which ``'s`` is "is"; after any other word it is taken for a possessive and left alone."""

_SUFFIXES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?<=\w)n't\b", re.IGNORECASE), " not"),
    (re.compile(r"(?<=\w)'re\b", re.IGNORECASE), " are"),
    (re.compile(r"(?<=\w)'ve\b", re.IGNORECASE), " have"),
    (re.compile(r"(?<=\w)'ll\b", re.IGNORECASE), " will"),
    (re.compile(r"(?<=\w)'d\b", re.IGNORECASE), " would"),
    (re.compile(rf"\b({_S_WORDS})'s\b", re.IGNORECASE), r"\1 is"),
)

_IRREGULAR_PATTERN: Final = re.compile(
    r"(?<!\w)(" + "|".join(re.escape(word) for word in sorted(_IRREGULAR, key=len, reverse=True)) + r")(?!\w)",
    re.IGNORECASE,
)


def _spelled_out(match: re.Match[str]) -> str:
    found = match.group(0)
    full = _IRREGULAR[found.lower()]
    return full[0].upper() + full[1:] if found[0].isupper() else full


def expand_contractions(text: str) -> str:
    """Write contractions out: ``"won't"`` becomes ``"will not"``, ``"they're"`` becomes ``"they are"``.

    A possessive ``'s`` stays. The typographic apostrophe (U+2019) counts as an apostrophe.

    Args:
        text: Any text.

    Returns:
        The text with contractions expanded; the first letter keeps its case.
    """
    if "'" not in text and "\u2019" not in text and not _IRREGULAR_PATTERN.search(text):
        return text
    expanded = _IRREGULAR_PATTERN.sub(_spelled_out, text.replace("\u2019", "'"))
    for pattern, replacement in _SUFFIXES:
        expanded = pattern.sub(replacement, expanded)
    return expanded
