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
    from sklearn import metrics

    labels = np.arange(len(class_names))
    y_pred = predictions.labels
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y_true, y_pred, labels=labels, zero_division=0.0
    )
    accuracy = float(np.mean(y_true == y_pred))
    result = {
        "accuracy": accuracy,
        "macro_f1": float(np.mean(f1)),
        "weighted_f1": float(np.average(f1, weights=support)),
        "micro_f1": accuracy,  # the same thing when each row has exactly one label
        "cohen_kappa": _cohen_kappa(y_true, y_pred, labels),
        "mcc": float(metrics.matthews_corrcoef(y_true, y_pred)),
    }
    if predictions.probabilities is not None:
        result["log_loss"] = float(metrics.log_loss(y_true, predictions.probabilities, labels=labels))
    for i, name in enumerate(class_names):
        key = metric_class_name(name)
        result |= {
            f"precision/{key}": float(precision[i]),
            f"recall/{key}": float(recall[i]),
            f"f1/{key}": float(f1[i]),
        }
    return result


def _cohen_kappa(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    # One class only, on both sides: chance agreement is 1 and kappa is 0/0; there is no agreement beyond chance.
    if len(np.unique(y_true)) == 1 and np.array_equal(y_true, y_pred):
        return 0.0
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(y_true, y_pred, labels=labels))


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
