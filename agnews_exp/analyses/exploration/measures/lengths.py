"""How long texts are, overall and by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import Result


@dataclass(frozen=True)
class LengthStatistics(Result):
    """The distribution of a length.

    Attributes:
        group: Whose lengths: a class, or ``all``.
        unit: ``characters``, ``words`` (between blanks) or ``characters per word``.
        rows: Number of texts.
        mean: Mean.
        std: Standard deviation (n - 1).
        minimum: Shortest.
        q25: Lower quartile.
        median: Median.
        q75: Upper quartile.
        p95: 95th percentile.
        p99: 99th percentile.
        maximum: Longest.
    """

    group: str
    unit: str
    rows: int
    mean: float
    std: float
    minimum: float
    q25: float
    median: float
    q75: float
    p95: float
    p99: float
    maximum: float


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of n texts, shape (n,) each.

    Attributes:
        characters: Characters, blanks included.
        words: Words between blanks.
        word_length: characters / (words + 1), as the study defined its average word length.
    """

    characters: NDArray[np.int64]
    words: NDArray[np.int64]

    @property
    def word_length(self) -> NDArray[np.float64]:
        """Shape (n,)."""
        return self.characters / (self.words + 1)


def measure_lengths(texts: Sequence[str]) -> Lengths:
    """Return the lengths of texts."""
    characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return Lengths(characters, np.fromiter((len(t.split()) for t in texts), dtype=np.int64, count=len(texts)))


def describe_lengths(group: str, unit: str, values: NDArray[Any]) -> LengthStatistics:
    """Describe a sample of lengths.

    Args:
        group: A name.
        unit: A name.
        values: Shape (n,), n >= 1.
    """
    q25, median, q75, p95, p99 = np.percentile(values, [25, 50, 75, 95, 99]).tolist()
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    low, high = float(values.min()), float(values.max())
    return LengthStatistics(group, unit, len(values), float(values.mean()), std, low, q25, median, q75, p95, p99, high)
