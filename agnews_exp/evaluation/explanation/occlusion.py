"""Occlusion: how far a score falls when a word is left out. Works with every model and needs nothing but answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.explanation.words import Answer, Explanation, keep_words, word_spans


def occlusion(answer: Answer, texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
    """Explain texts by leaving out one word at a time (Zeiler and Fergus 2014; for text Li et al. 2016).

    A word's weight is the score of the class for the whole text less that for the text without the word. All variants
    of all texts are answered in one call, so that the model can batch them.

    Args:
        answer: The model.
        texts: n texts.
        targets: Shape (n,), class indices.
    """
    variants: list[str] = []
    counts = []
    for text in texts:
        m = len(word_spans(text))
        kept = ~np.eye(m, dtype=bool)
        variants += [text, *(keep_words(text, row) for row in kept)]
        counts.append(m)
    scores = answer(variants)
    explanations = []
    start = 0
    for text, target, m in zip(texts, targets, counts, strict=True):
        own = scores[start : start + m + 1, target]
        explanations.append(Explanation("occlusion", text, int(target), own[0] - own[1:]))
        start += m + 1
    return explanations


def random_order(texts: Sequence[str], targets: NDArray[np.int64], seed: int) -> list[Explanation]:
    """Return explanations that know nothing: uniform random weights, the baseline of every faithfulness score."""
    generator = np.random.default_rng(seed)
    return [
        Explanation("random", text, int(target), generator.random(len(word_spans(text))))
        for text, target in zip(texts, targets, strict=True)
    ]
