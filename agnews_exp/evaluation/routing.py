"""Routing between a fast and an accurate model: every threshold's accuracy and cost, and choosing one.

A router answers with the fast model where its confidence reaches a threshold and asks the accurate one elsewhere. All
thresholds of a data set are judged at once: sort by confidence, and hand over one more group of equals at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.evaluation.inputs import FloatArray

Target = Literal["accuracy_floor", "escalation_rate", "cost_ceiling", "confidence", "best_accuracy"]


@dataclass(frozen=True, eq=False)
class RoutingCurve:
    """Accuracy and share handed over by threshold; entry i hands over what has a confidence below ``thresholds[i]``."""

    thresholds: FloatArray  # shape (m,), rising: the lowest confidence there is, which hands over nothing, to infinity
    escalation_rate: FloatArray  # shape (m,), share of the items that are handed over
    accuracy: FloatArray  # shape (m,), of the answers that come out

    def cost(self, fast: float, accurate: float) -> FloatArray:
        """Return shape (m,): the cost of an item, in the units of the two costs. The fast model is always paid."""
        return fast + self.escalation_rate * accurate

    def at(self, threshold: float) -> int:
        """Return the entry that a threshold has the same effect as."""
        return int(np.searchsorted(self.thresholds, threshold, side="left").clip(0, len(self.thresholds) - 1))


@dataclass(frozen=True)
class Choice:
    """A chosen threshold of a router and its results."""

    threshold: float  # confidence below which an item is handed over; ``inf`` hands over everything
    escalation_rate: float  # on the items that it was chosen on
    accuracy: float  # on the same
    reached: bool  # whether the target could be reached at all


def routing_curve(confidence: ArrayLike, fast_right: ArrayLike, accurate_right: ArrayLike) -> RoutingCurve:
    """Return accuracy and escalation of every threshold from the fast model's confidence, shape (n,), and who is right.

    Raises:
        ValueError: The shapes differ or there is nothing.
    """
    sure, fast, accurate = _checked(confidence, fast_right, accurate_right)
    order = np.argsort(sure, kind="stable")
    sure, gain = sure[order], (accurate - fast)[order]
    n = len(sure)
    right = fast.sum() + np.concatenate([[0.0], np.cumsum(gain)])
    # Items of equal confidence go together: only where the confidence changes there is a threshold.
    ends = np.concatenate([[0], np.flatnonzero(np.diff(sure)) + 1, [n]])
    thresholds = np.concatenate([sure[ends[:-1]], [np.inf]])
    return RoutingCurve(thresholds, ends / n, right[ends] / n)


def oracle_curve(fast_right: ArrayLike, accurate_right: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return escalation rates and accuracies, shape (n + 1,), of a router that knows who is right.

    It hands over first where only the accurate model is right, last where only the fast one is: no router does better.
    """
    _, fast, accurate = _checked(fast_right, fast_right, accurate_right)
    gain = np.sort(accurate - fast)[::-1]
    n = len(gain)
    return np.arange(n + 1) / n, (fast.sum() + np.concatenate([[0.0], np.cumsum(gain)])) / n


def random_accuracy(rate: ArrayLike, fast_right: ArrayLike, accurate_right: ArrayLike) -> FloatArray:
    """Return the expected accuracy of a router that hands over these shares of the items at random, in their shape."""
    _, fast, accurate = _checked(fast_right, fast_right, accurate_right)
    share = np.asarray(rate, dtype=np.float64)
    return np.asarray((1 - share) * fast.mean() + share * accurate.mean(), dtype=np.float64)


def choose_threshold(
    curve: RoutingCurve, target: Target, value: float, *, fast_cost: float = 0.0, accurate_cost: float = 1.0
) -> Choice:
    """Choose the threshold that meets a target best.

    Targets on the rows that choose (validation): ``accuracy_floor``, the fewest escalations with at least this
    accuracy; ``escalation_rate``, the best accuracy with at most this share handed over; ``cost_ceiling``, the same
    with at most this cost of an item; ``confidence``, this threshold; ``best_accuracy``, which uses no ``value``.

    Returns:
        The choice. Where the target cannot be reached: the most accurate point, or for a ceiling the cheapest.
    """
    if target == "confidence":
        return _choice(curve, curve.at(value), threshold=float(value))
    if target == "accuracy_floor":
        good = np.flatnonzero(curve.accuracy >= value)
        return _choice(curve, int(good[0])) if len(good) else _choice(curve, _best(curve), reached=False)
    if target == "best_accuracy":
        return _choice(curve, _best(curve))
    spent = curve.escalation_rate if target == "escalation_rate" else curve.cost(fast_cost, accurate_cost)
    allowed = np.flatnonzero(spent <= value)
    if not len(allowed):
        return _choice(curve, 0, reached=False)
    return _choice(curve, int(allowed[np.argmax(curve.accuracy[allowed])]))


def _best(curve: RoutingCurve) -> int:
    return int(np.argmax(curve.accuracy))


def _choice(curve: RoutingCurve, i: int, *, threshold: float | None = None, reached: bool = True) -> Choice:
    at = float(curve.thresholds[i]) if threshold is None else threshold
    return Choice(at, float(curve.escalation_rate[i]), float(curve.accuracy[i]), reached)


def pareto_front(cost: ArrayLike, accuracy: ArrayLike) -> NDArray[np.int64]:
    """Return the positions, shape (k,), of the points that no other beats in both cost and accuracy, by rising cost."""
    costs, accuracies = np.asarray(cost, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    order = np.lexsort((-accuracies, costs))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], accuracies[order][:-1]]))
    return np.asarray(order[accuracies[order] > best], dtype=np.int64)


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[FloatArray, FloatArray, float]:
    """Return coverages, error rates among the covered, and their mean (AURC) when only the surest items are answered.

    Geifman and El-Yaniv 2017, Selective classification for deep neural networks. Confidence and correctness have shape
    (n,); items of equal confidence are answered together. Coverages rise.
    """
    sure, correct, _ = _checked(confidence, right, right)
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], 1.0 - correct[order]
    n = len(sure)
    ends = np.concatenate([np.flatnonzero(np.diff(sure)) + 1, [n]])
    risk = np.cumsum(wrong)[ends - 1] / ends
    return ends / n, risk, float(np.sum(risk * np.diff(ends, prepend=0)) / n)


def _checked(confidence: ArrayLike, one: ArrayLike, other: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    arrays: list[Any] = [np.asarray(a, dtype=np.float64) for a in (confidence, one, other)]
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1 or not len(arrays[0]):
        raise ValueError(f"confidence and correctness need one shape (n,), got {[a.shape for a in arrays]}")
    return arrays[0], arrays[1], arrays[2]
