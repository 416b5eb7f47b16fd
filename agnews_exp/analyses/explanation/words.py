"""The form that every explanation has: the words of a text, each with a weight for one class."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.evaluation.inputs import FloatArray

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")
"""A word with its apostrophes, or a run of punctuation: everything but white space belongs to one word."""

Answer = Callable[[list[str]], FloatArray]
"""Answers n texts with shape (n, K): higher means more likely."""

Explainer = Callable[[Sequence[str], NDArray[np.int64]], "list[Explanation]"]
"""Explains n texts, each for the class index given for it."""


def word_spans(text: str) -> NDArray[np.int64]:
    """Return shape (m, 2): begin and end (exclusive) of each word in characters."""
    spans = [match.span() for match in WORD.finditer(text)]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model gives a text the score that it gives one class, as one method sees it."""

    method: str  # name of the method, such as ``occlusion``
    text: str
    target: int  # index of the class that is explained
    # Shape (m,), one for each word of :func:`word_spans`; positive speaks for the class. Methods without direction
    # (attention) give non-negative weights that say how much, not whether for or against.
    weights: FloatArray
    # The weight that falls on no word: special tokens, white space, features that are no n-grams.
    elsewhere: float = 0.0
    # For additive methods the score of an empty text, so that base + weights + elsewhere is the score; None for the
    # others.
    base: float | None = None
    signed: bool = True  # false for methods without direction

    @property
    def spans(self) -> NDArray[np.int64]:
        """Shape (m, 2), the words' places in the text."""
        return word_spans(self.text)

    @property
    def words(self) -> list[str]:
        """The m words."""
        return [self.text[begin:end] for begin, end in self.spans]

    @property
    def order(self) -> NDArray[np.int64]:
        """Shape (m,), word positions from the strongest support of the class to the strongest opposition."""
        return np.argsort(-self.weights, kind="stable")

    @property
    def total(self) -> float:
        """Base, words and the rest together; the explained score where the method is additive."""
        return float((self.base or 0.0) + self.weights.sum() + self.elsewhere)


def from_characters(
    method: str,
    text: str,
    target: int,
    character_weights: ArrayLike,
    *,
    elsewhere: float = 0.0,
    base: float | None = None,
    signed: bool = True,
) -> Explanation:
    """Sum the weights of n characters, shape (n,), over words; what lies on white space is counted as elsewhere."""
    values = np.asarray(character_weights, dtype=np.float64)
    running = np.concatenate([[0.0], np.cumsum(values)])
    spans = word_spans(text)
    weights = running[spans[:, 1]] - running[spans[:, 0]]
    rest = float(values.sum() - weights.sum())
    return Explanation(method, text, target, weights, elsewhere + rest, base, signed)


def keep_words(text: str, kept: NDArray[np.bool_]) -> str:
    """Return a text without those of its m words that a mask (m,) leaves out, one gap between those that are left.

    A space parts neighbours that only a removed word kept apart: without its hyphen ``Sixers-Wizards`` is two words.
    """
    parts: list[str] = []
    gap, removed, end_before = "", False, 0
    for (begin, end), keep in zip(word_spans(text), kept, strict=True):
        gap = gap or text[end_before:begin]
        if keep:
            parts += [gap or (" " if removed else ""), text[begin:end]]
            gap, removed = "", False
        else:
            removed = True
        end_before = int(end)
    return "".join(parts).strip()
