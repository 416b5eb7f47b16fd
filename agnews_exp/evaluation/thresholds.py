"""Thresholds of sets of classes: how sure a model must be of a class to answer it, chosen on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.metrics import Margins, class_f1, macro_f1, micro_f1
from agnews_exp.evaluation.predictions import Predictions

Rule = Literal["one", "per_label"]

HALF = 0.5
_TRIED = 1000
"""Thresholds that are tried at most: quantiles of all confidences."""


def choose_thresholds(
    truth: NDArray[np.int64], confidences: FloatArray, rule: Rule, metric: str = "macro_f1"
) -> FloatArray:
    """Return the thresholds of the K classes, shape (K,), with the best F1 on validation rows, shape (n, K) each.

    ``one`` for all is the best of macro-F1, or of micro-F1 where that is the ``metric``; ``per_label`` is the best of
    each class's own F1, and with that of macro-F1. Of equally good ones the nearest to .5 is taken.
    """
    middles = np.unique(confidences)
    middles = (middles[1:] + middles[:-1]) / 2
    if len(middles) > _TRIED:
        middles = np.unique(np.quantile(middles, np.linspace(0, 1, _TRIED)))
    tried = np.unique(np.append(middles, HALF))
    above = [_at_least(column, tried) for column in confidences.T]
    hits = [_at_least(column[had == 1], tried) for column, had in zip(confidences.T, truth.T, strict=True)]
    margins = Margins(
        np.column_stack(hits), np.tile(truth.sum(axis=0).astype(np.float64), (len(tried), 1)), np.column_stack(above)
    )
    if rule == "per_label":
        return np.array([_best(column, tried) for column in class_f1(margins).T])
    score = micro_f1 if metric == "micro_f1" else macro_f1
    return np.full(truth.shape[1], _best(score(margins), tried))


def _at_least(values: FloatArray, tried: FloatArray) -> FloatArray:
    """Return how many values reach each threshold, shape (T,)."""
    return (len(values) - np.searchsorted(np.sort(values), tried, side="left")).astype(np.float64)


def _best(scores: FloatArray, tried: FloatArray) -> float:
    return float(tried[np.lexsort((tried, np.abs(tried - HALF), -scores))[0]])


def gains(
    parts: dict[str, tuple[NDArray[np.int64], Predictions]], class_names: Sequence[str], metric: str
) -> dict[str, dict[str, Any]]:
    """Return, by split, an F1 at .5, as answered, and the difference with its 95 % interval (paired bootstrap)."""
    from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference

    found = {}
    for split, (truth, answers) in parts.items():
        at_half = (answers.confidences >= HALF).astype(np.int64)
        pair = bootstrap_difference(truth, answers.labels, at_half, metric, resamples=2000, class_names=class_names)
        low, high = pair.difference.percentile
        found[split] = {
            "metric": metric, "half": pair.b.estimate, "chosen": pair.a.estimate,
            "difference": pair.difference.estimate, "low": low, "high": high,
        }  # fmt: skip
    return found
