"""Laws and measures of a vocabulary: Zipf, Heaps, hapax legomena, MATTR, entropy, overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import Result

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw(Result):
    """A straight line in doubly logarithmic axes: ``y = constant * x ** exponent``.

    Attributes:
        exponent: Slope, by least squares of logarithms.
        constant: Value at x = 1.
        r_squared: Share of the variance of log y that the line explains.
        low: Smallest x that was fitted.
        high: Largest x that was fitted.
    """

    exponent: float
    constant: float
    r_squared: float
    low: float
    high: float

    def at(self, x: FloatArray | IntArray) -> FloatArray:
        """Return the line's values."""
        values: FloatArray = self.constant * np.asarray(x, dtype=np.float64) ** self.exponent
        return values


def fit_power_law(x: FloatArray | IntArray, y: FloatArray | IntArray) -> PowerLaw | None:
    """Fit a power law by least squares of the logarithms; None for fewer than three points.

    Args:
        x: Shape (n,), positive.
        y: Shape (n,), positive.
    """
    if len(x) < 3:
        return None
    log_x, log_y = np.log(x), np.log(y)
    slope, intercept = np.polyfit(log_x, log_y, 1)
    left = log_y - (slope * log_x + intercept)
    total = float(((log_y - log_y.mean()) ** 2).sum())
    r_squared = 1 - float((left**2).sum()) / total if total else 1.0
    return PowerLaw(float(slope), float(np.exp(intercept)), r_squared, float(np.min(x)), float(np.max(x)))


def log_spaced(low: int, high: int, n: int) -> IntArray:
    """Return at most n different whole numbers from low to high, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(low, max(low, high), n).round().astype(np.int64))


def rank_frequencies(frequencies: IntArray) -> IntArray:
    """Return the positive frequencies, highest first: rank r at position r - 1."""
    return np.sort(frequencies[frequencies > 0])[::-1]


def growth(ids: IntArray) -> IntArray:
    """Return the number of distinct words among the first i + 1 words at position i, shape (total,)."""
    first = np.zeros(len(ids), dtype=np.int64)
    first[np.unique(ids, return_index=True)[1]] = 1
    return np.cumsum(first)


def mattr(ids: IntArray, window: int) -> float:
    """Return the moving-average type-token ratio (Covington and McFall 2010); of a shorter text, its plain ratio.

    Args:
        ids: Shape (total,), words in their order.
        window: Words of a window; all windows of consecutive words count alike.
    """
    n = len(ids)
    if n == 0:
        return 0.0
    window = min(window, n)
    order = np.argsort(ids, kind="stable")
    previous = np.full(n, -1, dtype=np.int64)
    same = ids[order[1:]] == ids[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    # Word i is the first of its kind in the windows that start behind its previous occurrence.
    position = np.arange(n)
    start = np.maximum(np.maximum(previous + 1, position - window + 1), 0)
    end = np.minimum(position, n - window)
    windows = np.maximum(end - start + 1, 0)
    return float(windows.sum() / ((n - window + 1) * window))


def entropy_bits(frequencies: IntArray) -> float:
    """Return the Shannon entropy in bits of the words' observed shares: the plug-in estimate, always too low."""
    counts = frequencies[frequencies > 0]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def corrected_entropy_bits(frequencies: IntArray) -> float:
    """Return the entropy with Miller and Madow's correction (1955): plus (V - 1) / (2 N ln 2) bits."""
    counts = frequencies[frequencies > 0]
    return entropy_bits(counts) + (len(counts) - 1) / (2 * float(counts.sum()) * math.log(2))


def jaccard_matrix(used: NDArray[np.bool_]) -> FloatArray:
    """Return the Jaccard similarity of all pairs of sets, shape (K, K).

    Args:
        used: Shape (K, V), which of V things each of K sets holds.
    """
    members = used.astype(np.int64)
    common = members @ members.T
    sizes = members.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - common
    shares: FloatArray = np.divide(common, either, out=np.zeros(common.shape), where=either > 0)
    return shares


@dataclass(frozen=True)
class OutOfVocabulary(Result):
    """Words of one split that another does not have.

    Attributes:
        split: The split.
        types: Its distinct words.
        tokens: Its words.
        unknown_types: Share of distinct words that training texts lack.
        unknown_tokens: Share of words that training texts lack.
        rows: Share of texts with at least one such word.
    """

    split: str
    types: int
    tokens: int
    unknown_types: float
    unknown_tokens: float
    rows: float
