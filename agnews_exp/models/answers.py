"""Answers of fitted models in one form: of scikit-learn classifiers, of networks' logits, and of finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import MULTICLASS, Task


def predict_matrix(model: Any, matrix: Any, n_classes: int) -> Predictions:
    """Answer rows of a feature matrix with the labels, scores and probabilities that the estimator offers.

    The matrix has shape (n, V), or is n texts where the model reads text. Classes of the corpus that the model never
    saw get probability 0 and the lowest score.
    """
    if hasattr(model, "answer"):  # one for each class
        given: Predictions = model.answer(matrix)
        return given
    from sklearn.linear_model._base import LinearClassifierMixin

    if offers(model, "class_scores"):  # one product with the matrix gives all three
        each = model.class_scores(matrix)
        raw = each if each.shape[1] != 2 else (each[:, [1]] - each[:, [0]]) * (-1.0, 1.0)
        return Predictions(
            np.asarray(model.classes_[each.argmax(axis=1)], dtype=np.int64),
            _columns(raw, model.classes_, n_classes, float(raw.min()) - 1.0 if raw.size else 0.0),
            _columns(model.probabilities_of(each), model.classes_, n_classes, 0.0),
        )
    probabilities = (
        _columns(model.predict_proba(matrix), model.classes_, n_classes, 0.0)
        if offers(model, "predict_proba")
        else None
    )
    scores = labels = None
    if offers(model, "decision_function"):
        raw = np.asarray(model.decision_function(matrix), dtype=np.float64)
        if raw.ndim == 1:
            raw = np.column_stack([-raw, raw])
        if raw.shape[1] == len(model.classes_):
            scores = _columns(raw, model.classes_, n_classes, float(raw.min()) - 1.0 if raw.size else 0.0)
            if type(model).predict is LinearClassifierMixin.predict:  # it would compute the same scores once more
                labels = model.classes_[raw.argmax(axis=1)]
    return Predictions(
        np.asarray(model.predict(matrix) if labels is None else labels, dtype=np.int64), scores, probabilities
    )


def task_of_model(model: FittedModel) -> Task:
    """Return the task that a loaded model was trained for."""
    task: Task = getattr(model, "task", MULTICLASS)
    return task


def for_task(model: Any, labels: NDArray[np.int64]) -> Any:
    """Return an unfitted classifier as it learns these labels: itself, or one for each class of sets of classes."""
    if labels.ndim == 1:
        return model
    from agnews_exp.models.one_vs_rest import OneVsRest

    return OneVsRest(model)


def predictions_of(logits: NDArray[np.floating[Any]], thresholds: NDArray[np.float64] | None = None) -> Predictions:
    """Return labels, scores (the logits) and probabilities of logits (n, K).

    Probabilities are the softmax; with the K thresholds of sets of classes each class has its own, by the logistic
    function, and those that reach their threshold are the set.
    """
    from scipy.special import expit, softmax

    scores = np.asarray(logits, dtype=np.float64)
    if thresholds is not None:
        probabilities = expit(scores)
        return Predictions((probabilities >= thresholds).astype(np.int64), scores, probabilities)
    return Predictions(scores.argmax(axis=1).astype(np.int64), scores, softmax(scores, axis=1))


def offers(model: Any, method: str) -> bool:
    """Return whether an estimator, fitted or not, has a method with its present parameters."""
    try:
        return callable(getattr(model, method, None))
    except AttributeError:
        return False


def _columns(
    values: NDArray[np.float64], classes: NDArray[np.int64], n_classes: int, fill: float
) -> NDArray[np.float64]:
    if len(classes) == n_classes:
        return np.asarray(values, dtype=np.float64)
    full = np.full((len(values), n_classes), fill)
    full[:, classes] = values
    return full


@dataclass(frozen=True)
class Elsewhere:
    """A model that is not trained here, and of which only the answers are known (``agnews evaluate``)."""


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """A loaded model with scikit-learn's methods and the names of the classes."""

    model: FittedModel  # the model

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Shape (K,), the class names in the order of the columns of :meth:`predict_proba`."""
        return np.array(self.model.class_names)

    def predict(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return a class name for each of n texts, shape (n,); empty where a language model's answer was none.

        Of sets of classes return 0 and 1 for each class, shape (n, K).
        """
        given = self.model.predict(list(texts))
        if given.labels.ndim > 1:
            return given.labels
        found: NDArray[np.str_] = self.classes_[given.labels]
        return found if given.unparsed is None else np.where(given.unparsed, "", found)

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of the classes, shape (n, K)."""
        found = self.model.predict(list(texts)).probabilities
        if found is None:
            raise ConfigError(
                "This model gives no probabilities.", fix="predict(texts), or a model=logreg, which gives them"
            )
        return found


@dataclass(frozen=True)
class SourceRun:
    """A finished run that a cascade or a student builds on."""

    name: str  # its unique name
    fingerprint: str  # its fingerprint
    model: Path  # its model folder
    predictions: Path  # the file of its stored answers
    evaluation_checksum: str  # hash of the rows that it was judged on
    class_names: tuple[str, ...]  # K names
    data_fraction: float = 1.0  # share of the training rows that it learned from
    metrics: Mapping[str, float] = field(default_factory=dict)  # its numbers


class FittedModel(Protocol):
    """A loaded model of any family."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the class indices."""

    @property
    def family(self) -> str:
        """``classical``, ``transformer``, ``cascade``, ``llm`` or ``onnx``."""

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Return the answers for n texts."""
