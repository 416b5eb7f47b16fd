"""How faithful an explanation is to the model: what happens to the answer without the words that it names.

DeYoung et al. 2020, ERASER: A Benchmark to Evaluate Rationalized NLP Models, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.words import Answer, Explanation, keep_words, word_spans
from agnews_exp.evaluation.inputs import FloatArray


def random_order(texts: Sequence[str], targets: NDArray[np.int64], seed: int) -> list[Explanation]:
    """Return explanations of uniform random weights, the baseline of every faithfulness score."""
    generator = np.random.default_rng(seed)
    return [
        Explanation("random", text, int(target), generator.random(len(word_spans(text))))
        for text, target in zip(texts, targets, strict=True)
    ]


SHARES = (0.1, 0.2, 0.5)
"""Shares of the words that count as the explanation."""

_RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Erasure:
    """The effect of removed words on the probability of the explained class, article by article."""

    comprehensiveness: FloatArray  # shape (n, len(SHARES)), p(whole) - p(without the top words): high is faithful
    sufficiency: FloatArray  # shape (n, len(SHARES)), p(whole) - p(only the top words): low is faithful


@dataclass(frozen=True)
class Interval:
    """A mean over articles with its percentile bootstrap interval."""

    estimate: float
    low: float
    high: float


def erase(answer: Answer, explanations: Sequence[Explanation]) -> Erasure:
    """Measure how the answer (probabilities) changes without the explained words, and with them alone.

    The top share q of a text's m words are the ceil(q m) with the highest weights, at least one.
    """
    variants: list[str] = []
    for explanation in explanations:
        variants.append(explanation.text)
        order = explanation.order
        for share in SHARES:
            top = np.zeros(len(order), dtype=bool)
            top[order[: max(1, int(np.ceil(share * len(order) - 1e-9)))]] = True
            variants += [keep_words(explanation.text, ~top), keep_words(explanation.text, top)]
    step = 1 + 2 * len(SHARES)
    probabilities = answer(variants).reshape(len(explanations), step, -1)
    targets = np.array([explanation.target for explanation in explanations])
    own = np.take_along_axis(probabilities, targets[:, None, None], axis=2)[:, :, 0]
    return Erasure(own[:, :1] - own[:, 1::2], own[:, :1] - own[:, 2::2])


def mean_erasure(parts: Sequence[Erasure]) -> Erasure:
    """Return the mean of several erasures of the same articles (repeated random orders)."""
    return Erasure(
        np.mean([part.comprehensiveness for part in parts], axis=0),
        np.mean([part.sufficiency for part in parts], axis=0),
    )


def interval_of_mean(values: FloatArray, *, seed: int = 0) -> Interval:
    """Return the mean of n articles' values with a 95 % percentile bootstrap interval over articles."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(values), (_RESAMPLES, len(values)))
    means = values[rows].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Faithfulness:
    """A method's scores over n articles."""

    method: str  # its name
    n_articles: int  # n
    comprehensiveness: Interval  # mean over articles and shares (AOPC)
    sufficiency: Interval  # the same
    comprehensiveness_gain: Interval  # paired difference to random orders; above 0 is better than chance
    sufficiency_gain: Interval  # paired difference, random less method; above 0 is better than chance
    by_share: dict[float, tuple[float, float]]  # for each share: comprehensiveness and sufficiency


def score(method: str, erasure: Erasure, baseline: Erasure, *, seed: int = 0) -> Faithfulness:
    """Return a method's scores beside those of random orders on the same articles in the same order."""
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
        {share: (float(c), float(s)) for share, c, s in zip(SHARES, *means, strict=True)},
    )
