"""Classification metrics: the one judge of all models."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.predictions import Predictions

HEADLINE = ("macro_f1", "accuracy", "weighted_f1", "cohen_kappa", "mcc", "log_loss")
"""The metrics of the summary table, in its order."""

LOWER_IS_BETTER = frozenset({"log_loss"})


def metric_class_name(class_name: str) -> str:
    """Return a class name as MLflow accepts it inside a metric name."""
    return re.sub(r"[^A-Za-z0-9_. -]", "_", class_name)


def classification_metrics(
    y_true: NDArray[np.int64], predictions: Predictions, class_names: tuple[str, ...]
) -> dict[str, float]:
    """Return all metrics of one split, without the split's name.

    Args:
        y_true: Shape (n,), true class indices, n >= 1.
        predictions: The model's answers for the same n rows.
        class_names: K names.

    Returns:
        accuracy, macro_f1, weighted_f1, micro_f1, cohen_kappa, mcc, log_loss (natural logarithm, only where there
        are probabilities), and precision/, recall/, f1/ followed by each class name. A precision or recall with an
        empty denominator counts as 0.
    """
    counts = confusion_matrix(y_true, predictions.labels, len(class_names))
    hits, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall, f1 = _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, support + predicted)
    accuracy = float(np.mean(y_true == predictions.labels))
    result = {
        "accuracy": accuracy,
        "macro_f1": float(np.mean(f1)),
        "weighted_f1": float(np.average(f1, weights=support)),
        "micro_f1": accuracy,  # the same thing when each row has exactly one label
        "cohen_kappa": _cohen_kappa(counts),
        "mcc": _matthews(counts),
    }
    if predictions.probabilities is not None:
        from sklearn.metrics import log_loss

        result["log_loss"] = float(log_loss(y_true, predictions.probabilities, labels=np.arange(len(class_names))))
    for i, name in enumerate(class_names):
        key = metric_class_name(name)
        result |= {
            f"precision/{key}": float(precision[i]),
            f"recall/{key}": float(recall[i]),
            f"f1/{key}": float(f1[i]),
        }
    return result


def macro_f1(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], n_classes: int) -> float:
    """Return the unweighted mean of the K classes' F1, the one that :func:`classification_metrics` has."""
    counts = confusion_matrix(y_true, y_pred, n_classes)
    return float(np.mean(_ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))))


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the quotients, 0 where the denominator is 0."""
    zero = np.zeros(len(numerator))
    return np.divide(numerator, denominator, out=zero, where=denominator > 0)


def _cohen_kappa(counts: NDArray[np.int64]) -> float:
    """Return Cohen's kappa (1960): the agreement beyond chance, as a share of what is possible beyond chance."""
    true, predicted = counts.sum(axis=1, dtype=np.float64), counts.sum(axis=0, dtype=np.float64)
    expected = np.outer(predicted, true) / predicted.sum()
    apart = 1.0 - np.eye(len(counts))
    disagreement = float(np.sum(apart * expected))
    # One class only, on both sides: chance agreement is 1 and kappa is 0/0; there is no agreement beyond chance.
    return 1.0 - float(np.sum(apart * counts)) / disagreement if disagreement > 0 else 0.0


def _matthews(counts: NDArray[np.int64]) -> float:
    """Return Matthews' correlation for K classes (Gorodkin 2004); 0 where one side has a single class."""
    true, predicted = counts.sum(axis=1, dtype=np.float64), counts.sum(axis=0, dtype=np.float64)
    n = true.sum()
    both = float(np.trace(counts)) * n - true @ predicted
    spread = (n**2 - predicted @ predicted) * (n**2 - true @ true)
    return float(both / np.sqrt(spread)) if spread > 0 else 0.0


def confusion_matrix(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Return shape (K, K) counts; rows are true classes, columns predicted ones."""
    flat = np.bincount(y_true * n_classes + y_pred, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def classification_report_table(
    y_true: NDArray[np.int64], predictions: Predictions, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return one row a class (class, precision, recall, f1, support), then the macro average."""
    values = classification_metrics(y_true, predictions, class_names)
    support = np.bincount(y_true, minlength=len(class_names))
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(class_names):
        key = metric_class_name(name)
        row = {metric: values[f"{metric}/{key}"] for metric in ("precision", "recall", "f1")}
        rows.append({"class": name, **row, "support": int(support[i])})
    averages = {m: float(np.mean([row[m] for row in rows])) for m in ("precision", "recall", "f1")}
    rows.append({"class": "macro average", **averages, "support": len(y_true)})
    return rows
