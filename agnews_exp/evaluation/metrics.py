"""Classification metrics: the one judge of all models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import DataError, unknown_name
from agnews_exp.evaluation.inputs import FloatArray, class_indices, same_length
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


def labels_macro_f1(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], n_classes: int) -> float:
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


@dataclass(frozen=True, eq=False)
class Margins:
    """Class counts of one table or of a stack of tables.

    Attributes:
        hits: Shape (..., K), items of class k that were predicted as k.
        support: Shape (..., K), items whose true class is k.
        predicted: Shape (..., K), items predicted as k.
    """

    hits: FloatArray
    support: FloatArray
    predicted: FloatArray

    @property
    def total(self) -> FloatArray:
        """Shape (...,), number of items."""
        total: FloatArray = self.support.sum(axis=-1)
        return total


CountMetric = Callable[[Margins], FloatArray]


def _ratio_margins(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with 0/0 = 0 (scikit-learn's ``zero_division=0``)."""
    result: FloatArray = np.divide(
        numerator, denominator, out=np.zeros(np.broadcast(numerator, denominator).shape), where=denominator != 0
    )
    return result


def class_precision(margins: Margins) -> FloatArray:
    """Return precision by class, shape (..., K); 0 for a class that is never predicted."""
    return _ratio_margins(margins.hits, margins.predicted)


def class_recall(margins: Margins) -> FloatArray:
    """Return recall by class, shape (..., K); 0 for a class without items."""
    return _ratio_margins(margins.hits, margins.support)


def class_f1(margins: Margins) -> FloatArray:
    """Return F1 by class, shape (..., K); 0 for a class that neither occurs nor is predicted."""
    return _ratio_margins(2 * margins.hits, margins.support + margins.predicted)


def accuracy(margins: Margins) -> FloatArray:
    """Return the share of items predicted right, shape (...,)."""
    return _ratio_margins(margins.hits.sum(axis=-1), margins.total)


def macro_f1(margins: Margins) -> FloatArray:
    """Return the mean of the K classes' F1, shape (...,)."""
    value: FloatArray = class_f1(margins).mean(axis=-1)
    return value


def weighted_f1(margins: Margins) -> FloatArray:
    """Return the mean of the classes' F1 weighted by support, shape (...,)."""
    return _ratio_margins((class_f1(margins) * margins.support).sum(axis=-1), margins.total)


def macro_precision(margins: Margins) -> FloatArray:
    """Return the mean of the K classes' precision, shape (...,)."""
    value: FloatArray = class_precision(margins).mean(axis=-1)
    return value


def macro_recall(margins: Margins) -> FloatArray:
    """Return the mean of the K classes' recall (balanced accuracy), shape (...,)."""
    value: FloatArray = class_recall(margins).mean(axis=-1)
    return value


def cohen_kappa(margins: Margins) -> FloatArray:
    """Return Cohen's kappa of prediction and truth (Cohen 1960), shape (...,); 0 where it is undefined."""
    total = margins.total
    by_chance = (margins.support * margins.predicted).sum(axis=-1)
    return _ratio_margins(margins.hits.sum(axis=-1) * total - by_chance, total**2 - by_chance)


def mcc(margins: Margins) -> FloatArray:
    """Return the multi-class Matthews correlation (Gorodkin 2004), shape (...,); 0 where it is undefined."""
    total = margins.total
    covariance = margins.hits.sum(axis=-1) * total - (margins.support * margins.predicted).sum(axis=-1)
    truth_variance = total**2 - (margins.support**2).sum(axis=-1)
    predicted_variance = total**2 - (margins.predicted**2).sum(axis=-1)
    return _ratio_margins(covariance, np.sqrt(truth_variance * predicted_variance))


COUNT_METRICS: Mapping[str, CountMetric] = MappingProxyType(
    {
        "macro_f1": macro_f1,
        "accuracy": accuracy,
        "weighted_f1": weighted_f1,
        "micro_f1": accuracy,  # the same thing when each item has exactly one label
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "cohen_kappa": cohen_kappa,
        "mcc": mcc,
    }
)
"""Metrics over all classes; names as in :mod:`agnews_exp.evaluation.metrics`."""

_BY_CLASS: Mapping[str, CountMetric] = MappingProxyType(
    {"precision": class_precision, "recall": class_recall, "f1": class_f1}
)


def count_metric(name: str, class_names: Sequence[str]) -> CountMetric:
    """Return the metric of this name.

    Args:
        name: A key of ``COUNT_METRICS``, or ``precision/``, ``recall/`` or ``f1/`` followed by a class name.
        class_names: The K class names.

    Raises:
        ConfigError: The name is unknown; the message lists the known ones and the nearest.
    """
    if name in COUNT_METRICS:
        return COUNT_METRICS[name]
    for kind, by_class in _BY_CLASS.items():
        for index, class_name in enumerate(class_names):
            if name in (f"{kind}/{class_name}", f"{kind}/{metric_class_name(class_name)}"):
                return _one_class(by_class, index)
    known = [f"{kind}/{metric_class_name(class_name)}" for kind in _BY_CLASS for class_name in class_names]
    raise unknown_name("metric", name, [*COUNT_METRICS, *known])


def _one_class(by_class: CountMetric, index: int) -> CountMetric:
    def metric(margins: Margins) -> FloatArray:
        value: FloatArray = by_class(margins)[..., index]
        return value

    return metric


def names_of_classes(*indices: NDArray[np.int64], class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the K class names; without names given, "0", "1" ... up to the largest index in the arrays.

    Raises:
        DataError: An index has no class name, or two classes have the same one.
    """
    needed = max(2, int(max(array.max() for array in indices)) + 1)
    if class_names is None:
        return tuple(str(index) for index in range(needed))
    if needed > len(class_names):
        raise DataError(f"class index {needed - 1} has no name: only {len(class_names)} class names were given")
    if len(set(class_names)) != len(class_names):
        raise DataError(f"class names must differ from each other, got {', '.join(class_names)}")
    return tuple(class_names)


def margins_of(y_true: ArrayLike, y_pred: ArrayLike, n_classes: int) -> Margins:
    """Return the class counts of one model's predictions, both shape (n,) with values below ``n_classes``."""
    truth, predicted = class_indices(y_true, "y_true"), class_indices(y_pred, "y_pred")
    same_length(y_true=truth, y_pred=predicted)
    if max(truth.max(), predicted.max()) >= n_classes:
        raise DataError(f"class index {max(truth.max(), predicted.max())} does not fit in {n_classes} classes")
    return margins_of_confusion(confusion_matrix(truth, predicted, n_classes))


def margins_of_confusion(confusion: ArrayLike) -> Margins:
    """Return the class counts of confusion matrices, shape (..., K, K), rows true classes."""
    table = np.asarray(confusion, dtype=np.float64)
    return Margins(np.diagonal(table, axis1=-2, axis2=-1).copy(), table.sum(axis=-1), table.sum(axis=-2))


def undirected_confusions(confusion: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Return how often two classes are taken for each other, in either direction, most frequent first.

    Args:
        confusion: Shape (K, K), rows true classes.

    Returns:
        ``{(i, j): confusion[i, j] + confusion[j, i]}`` for all i < j.
    """
    k = len(confusion)
    pairs = {(i, j): int(confusion[i, j] + confusion[j, i]) for i in range(k) for j in range(i + 1, k)}
    return dict(sorted(pairs.items(), key=lambda pair: -pair[1]))
