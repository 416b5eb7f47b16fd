"""Names and readability by rules of a few lines, for where no language model is installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_CAPITALISED: Final = r"[A-Z][\w&'’-]*\w|[A-Z]"
_SEQUENCE: Final = re.compile(rf"(?:{_CAPITALISED})(?:[ ](?:(?:of|the|for|de|al)[ ])?(?:{_CAPITALISED}))*")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?;:](?:\\)?[\"'”’)]*\s+|\s-{1,2}\s+)[\"'“‘(]*$")
_WORD: Final = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_VOWELS: Final = re.compile(r"[aeiouy]+")
_SPOKEN: Final = ("shes", "ches", "ges")
_SENTENCE: Final = re.compile(r"[.!?]+(?:\s|$)")


def capitalised_sequences(text: str) -> list[str]:
    """Return the runs of capitalised words of a text: a cheap stand-in for named entities.

    A run of one word that opens a sentence says nothing and is left out. Headlines in title case are taken for one long
    name, so runs of more than four capitalised words are left out too. There are no types (person, place), and names
    that open a sentence alone are missed.
    """
    found = []
    for match in _SEQUENCE.finditer(text):
        words = match.group().split(" ")
        if sum(word[0].isupper() for word in words) > 4 or len(match.group()) < 2:
            continue
        if len(words) == 1 and _SENTENCE_START.search(text[max(0, match.start() - 6) : match.start()]):
            continue
        found.append(match.group())
    return found


def syllables(word: str) -> int:
    """Return the number of syllables of an English word by its groups of vowels, at least 1.

    A final silent e (but not -le behind a consonant) and a final -es or -ed that is not spoken are not counted.
    """
    lower = word.lower()
    count = len(_VOWELS.findall(lower))
    silent_e = lower.endswith("e") and not re.search(r"[^aeiouy]le$", lower)
    silent_ending = re.search(r"[^aeiouytd]ed$|[^aeiouyszxc]es$", lower) and not lower.endswith(_SPOKEN)
    return max(1, count - 1 if silent_e or silent_ending else count)


def flesch_reading_ease(text: str) -> float:
    """Return 206.835 - 1.015 words / sentences - 84.6 syllables / words (Flesch 1948); NaN without words.

    About 60 to 70 is plain English, below 30 very difficult.
    """
    words = _WORD.findall(text)
    if not words:
        return float("nan")
    sentences = max(1, len(_SENTENCE.findall(text)))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * sum(map(syllables, words)) / len(words)


def readability(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the Flesch reading ease of each text, shape (n,)."""
    return np.fromiter(map(flesch_reading_ease, texts), dtype=np.float64, count=len(texts))
