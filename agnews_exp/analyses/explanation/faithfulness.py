"""How faithful an explanation is to the model: what happens to the answer without the words that it names.

DeYoung et al. 2020, ERASER: A Benchmark to Evaluate Rationalized NLP Models, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.words import Answer, Explanation, keep_words, word_spans


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


Score = Callable[[Any], float]
"""Scores a feature matrix (n, V), higher is better."""


@dataclass(frozen=True)
class FamilyImportance:
    """What a family of columns is worth to a fitted model.

    Attributes:
        family: Its name.
        n_columns: Its columns.
        permuted: Mean loss of score when the family's part of each row comes from another row.
        permuted_sd: Standard deviation of that loss over the repetitions.
        dropped: Loss of score when the family's columns are all zero; the model is not fitted again.
    """

    family: str
    n_columns: int
    permuted: float
    permuted_sd: float
    dropped: float


def family_importance(
    matrix: Any, families: Mapping[str, NDArray[np.int64]], score: Score, *, repeats: int = 5, seed: int = 0
) -> tuple[float, list[FamilyImportance]]:
    """Permute (Breiman 2001) or blank all columns of a family together.

    Columns of a family move together, so that what they say of each other stays and only what they say of the rest
    and of the class is lost. Families that say the same stand in for one another: each can then look unimportant.

    Args:
        matrix: Shape (n, V), sparse or dense.
        families: Name to column indices.
        score: Scores a matrix of the same shape.
        repeats: Permutations.
        seed: Of the permutations.

    Returns:
        The score of the untouched matrix, and one entry a family.
    """
    generator = np.random.default_rng(seed)
    untouched = score(matrix)
    found = []
    for name, columns in families.items():
        without = _blanked(matrix, columns)
        own = matrix - without
        losses = [untouched - score(without + own[generator.permutation(own.shape[0])]) for _ in range(repeats)]
        spread = float(np.std(losses, ddof=1)) if repeats > 1 else 0.0
        dropped = untouched - score(without)
        found.append(FamilyImportance(name, len(columns), float(np.mean(losses)), spread, dropped))
    return untouched, found


def _blanked(matrix: Any, columns: NDArray[np.int64]) -> Any:
    keep = np.ones(matrix.shape[1])
    keep[columns] = 0.0
    if not hasattr(matrix, "tocsr"):
        return matrix * keep
    blanked = matrix.tocsr(copy=True)
    blanked.data = blanked.data * keep[blanked.indices]
    blanked.eliminate_zeros()
    return blanked


SHARES = (0.1, 0.2, 0.5)
"""Shares of the words that count as the explanation."""


@dataclass(frozen=True, eq=False)
class Erasure:
    """What removing words did to the probability of the explained class, article by article.

    Attributes:
        comprehensiveness: Shape (n, len(shares)), p(whole) - p(without the top words): high is faithful.
        sufficiency: Shape (n, len(shares)), p(whole) - p(only the top words): low is faithful.
        shares: Shares of the words.
    """

    comprehensiveness: NDArray[np.float64]
    sufficiency: NDArray[np.float64]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Interval:
    """A mean over articles with its percentile bootstrap interval."""

    estimate: float
    low: float
    high: float


def erase(answer: Answer, explanations: Sequence[Explanation], shares: Sequence[float] = SHARES) -> Erasure:
    """Measure what the explained words do to the answer.

    The top share q of a text's m words are the ceil(q m) with the highest weights, at least one.

    Args:
        answer: Gives probabilities, shape (n, K).
        explanations: n explanations, of one method.
        shares: Shares of the words.
    """
    variants: list[str] = []
    for explanation in explanations:
        variants.append(explanation.text)
        order = explanation.order
        for share in shares:
            top = np.zeros(len(order), dtype=bool)
            top[order[: max(1, int(np.ceil(share * len(order) - 1e-9)))]] = True
            variants += [keep_words(explanation.text, ~top), keep_words(explanation.text, top)]
    step = 1 + 2 * len(shares)
    probabilities = answer(variants).reshape(len(explanations), step, -1)
    targets = np.array([explanation.target for explanation in explanations])
    own = np.take_along_axis(probabilities, targets[:, None, None], axis=2)[:, :, 0]
    return Erasure(own[:, :1] - own[:, 1::2], own[:, :1] - own[:, 2::2], tuple(shares))


def mean_erasure(parts: Sequence[Erasure]) -> Erasure:
    """Return the mean of several erasures of the same articles (repeated random orders)."""
    return Erasure(
        np.mean([part.comprehensiveness for part in parts], axis=0),
        np.mean([part.sufficiency for part in parts], axis=0),
        parts[0].shares,
    )


def interval_of_mean(
    values: NDArray[np.float64], *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of n articles' values with a percentile bootstrap interval over articles.

    Args:
        values: Shape (n,).
        resamples: Bootstrap samples.
        level: Of the interval.
        seed: Of the resampling.
    """
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(values), (resamples, len(values)))
    means = values[rows].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Faithfulness:
    """A method's scores over n articles.

    Attributes:
        method: Its name.
        n_articles: n.
        comprehensiveness: Mean over articles and shares (AOPC).
        sufficiency: The same.
        comprehensiveness_gain: Paired difference to random orders; above 0 is better than chance.
        sufficiency_gain: Paired difference, random less method; above 0 is better than chance.
        by_share: For each share: comprehensiveness and sufficiency.
    """

    method: str
    n_articles: int
    comprehensiveness: Interval
    sufficiency: Interval
    comprehensiveness_gain: Interval
    sufficiency_gain: Interval
    by_share: dict[float, tuple[float, float]]


def score(method: str, erasure: Erasure, baseline: Erasure, *, seed: int = 0) -> Faithfulness:
    """Return a method's scores beside a baseline on the same articles.

    Args:
        method: Its name.
        erasure: Of the method.
        baseline: Of random orders, for the same articles in the same order.
        seed: Of the bootstrap.
    """
    own = erasure.comprehensiveness.mean(axis=1), erasure.sufficiency.mean(axis=1)
    other = baseline.comprehensiveness.mean(axis=1), baseline.sufficiency.mean(axis=1)
    means = erasure.comprehensiveness.mean(axis=0), erasure.sufficiency.mean(axis=0)
    return Faithfulness(
        method,
        len(own[0]),
        interval_of_mean(own[0], seed=seed),
        interval_of_mean(own[1], seed=seed),
        interval_of_mean(own[0] - other[0], seed=seed),
        interval_of_mean(other[1] - own[1], seed=seed),
        {share: (float(c), float(s)) for share, c, s in zip(erasure.shares, *means, strict=True)},
    )
