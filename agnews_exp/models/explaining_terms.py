"""Where the n-grams of a fitted vectoriser stand in a text: from columns back to characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

_SPACES = re.compile(r"\s\s+")  # as in scikit-learn's character analyzers

NOWHERE = -1
"""Position of a character that the text does not have, such as the padding around a word."""


@dataclass(frozen=True)
class Mapped:
    """A text made from another one, with the place in the original of each of its characters.

    Attributes:
        text: Of n characters.
        positions: n places in the original, or ``NOWHERE``.
    """

    text: str
    positions: Sequence[int]

    def slice(self, begin: int, end: int) -> Mapped:
        """Return a part of it."""
        return Mapped(self.text[begin:end], self.positions[begin:end])

    def changed(self, text: str) -> Mapped:
        """Return another version of the text: characters are paired where the versions agree, whatever the case."""
        if len(text) == len(self.text):
            return Mapped(text, self.positions)
        before, after = [c.lower() for c in self.text], [c.lower() for c in text]
        positions = [NOWHERE] * len(text)
        for kind, a0, a1, b0, b1 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if kind in ("equal", "replace"):
                for j in range(b0, b1):
                    positions[j] = self.positions[a0 + (j - b0) * (a1 - a0) // (b1 - b0)]
        return Mapped(text, positions)


def is_ngram_vectoriser(block: Any) -> bool:
    """Whether a feature block counts n-grams that can be found again in a text."""
    return getattr(block, "analyzer", None) in ("word", "char", "char_wb") and hasattr(block, "build_preprocessor")


def occurrences(vectoriser: Any, source: Mapped) -> Iterator[tuple[str, list[int]]]:
    """Yield every n-gram of a text, once for each place, with the original places of its characters.

    The n-grams are those of scikit-learn's analyzers (``_word_ngrams``, ``_char_ngrams``, ``_char_wb_ngrams``).

    Args:
        vectoriser: Fitted; :func:`is_ngram_vectoriser` is true for it.
        source: The text as the vectoriser gets it.
    """
    text = source.changed(vectoriser.build_preprocessor()(source.text))
    low, high = vectoriser.ngram_range
    if vectoriser.analyzer == "word":
        yield from _word_ngrams(vectoriser, text, low, high)
    elif vectoriser.analyzer == "char":
        text = _collapsed(text)
        for n in range(low, min(high, len(text.text)) + 1):
            for begin in range(len(text.text) - n + 1):
                yield _gram(text.slice(begin, begin + n))
    else:
        for match in re.finditer(r"\S+", text.text):
            inner = text.slice(*match.span())
            padded = Mapped(f" {inner.text} ", [NOWHERE, *inner.positions, NOWHERE])
            yield from _grams_of_word(padded, low, high)


def _word_ngrams(vectoriser: Any, text: Mapped, low: int, high: int) -> Iterator[tuple[str, list[int]]]:
    stop_words = vectoriser.get_stop_words() or frozenset()
    tokens = [token for token in _tokens(vectoriser, text) if token.text not in stop_words]
    for n in range(low, high + 1):
        for begin in range(len(tokens) - n + 1):
            part = tokens[begin : begin + n]
            yield " ".join(t.text for t in part), [p for t in part for p in t.positions if p != NOWHERE]


def _tokens(vectoriser: Any, text: Mapped) -> Iterator[Mapped]:
    if vectoriser.tokenizer is None:
        pattern = re.compile(vectoriser.token_pattern)
        for match in pattern.finditer(text.text):
            yield text.slice(*match.span(min(pattern.groups, 1)))
        return
    cursor = 0
    for token in vectoriser.build_tokenizer()(text.text):
        begin = text.text.find(token, cursor)
        if begin < 0:
            yield Mapped(token, [NOWHERE] * len(token))
            continue
        cursor = begin + len(token)
        yield text.slice(begin, cursor)


def _collapsed(text: Mapped) -> Mapped:
    """Make each run of white space one space, as the character analyzer does."""
    parts: list[str] = []
    positions: list[int] = []
    end = 0
    for match in _SPACES.finditer(text.text):
        parts += [text.text[end : match.start()], " "]
        positions += [*text.positions[end : match.start()], text.positions[match.start()]]
        end = match.end()
    return Mapped("".join([*parts, text.text[end:]]), [*positions, *text.positions[end:]])


def _grams_of_word(word: Mapped, low: int, high: int) -> Iterator[tuple[str, list[int]]]:
    length = len(word.text)
    for n in range(low, high + 1):
        for begin in range(max(1, length - n + 1)):
            yield _gram(word.slice(begin, begin + n))
        if length <= n:  # a word that is too short for n is counted once
            return


def _gram(part: Mapped) -> tuple[str, list[int]]:
    return part.text, [p for p in part.positions if p != NOWHERE]
