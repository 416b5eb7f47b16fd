"""The register of tasks: what labels are, and with that how they are counted, judged, stored, and what applies to them.

A room asks the task of some labels, answers or configuration, and never of what kind they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import BoolArray, FloatArray, IntArray, class_indices

TaskName = Literal["multiclass", "multilabel"]


@dataclass(frozen=True)
class Limit:
    """Values of a key that a task can do nothing with."""

    key: str  # dotted, of a run's configuration
    fits: Callable[[Any], bool]  # whether a value is fine; a key that is not there is None
    why: str  # what is missing, as the end of a sentence
    fix: str  # the override to type


class Task:
    """One class a text: labels are class indices, shape (n,), probabilities sum to one."""

    name: TaskName = "multiclass"
    answers: str = "one class a text"
    key: str = "label"  # what an answer is called where it is given to people and programs
    right_share: str = "accuracy"  # the share of rows answered right, for people
    shares: frozenset[str] = frozenset({"accuracy", "micro_f1"})  # metrics that are that share
    beside: str = "accuracy"  # a metric that is compared beside the primary one and macro-F1
    limits: tuple[Limit, ...] = (
        Limit(
            "evaluation.thresholds", lambda v: v is None, "the likeliest class is the answer", "data.multilabel=true"
        ),
    )
    watched: tuple[str, ...] = ("macro_f1", "accuracy", "log_loss")  # metrics that a network's validations log
    matrix_key: str = "confusion"  # what :meth:`matrix` is called in a record
    matrix_title: str = "Confusion matrix"
    of_class_title: str = "recall"  # what :meth:`of_class` gives a share of
    one_answer: bool = True  # whether a text has one class, so that one is taken for another
    left_out: Mapping[str, str] = MappingProxyType(
        {}
    )  # commands and analyses of finished runs that do not apply, and why

    def check(self, values: ArrayLike, what: str) -> IntArray:
        """Return labels as an int64 array; ``what`` names them in messages.

        Raises:
            DataError: They are none.
        """
        return class_indices(values, what)

    def counts(self, truth: IntArray, given: IntArray, n_classes: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return hits, true and predicted rows of each class, shape (K,) each."""
        found = (truth[truth == given], truth, given)
        hits, support, predicted = (np.bincount(one, minlength=n_classes).astype(np.float64) for one in found)
        return hits, support, predicted

    def right(self, truth: IntArray, given: IntArray) -> BoolArray:
        """Return which rows are answered right, shape (n,)."""
        found: BoolArray = truth == given
        return found

    def of_class(self, truth: IntArray, given: IntArray, k: int) -> tuple[BoolArray, BoolArray]:
        """Return the rows that a class is tested on, shape (n,), and which of all rows are right about it."""
        return truth == k, given == k

    def matrix(self, truth: IntArray, given: IntArray, n_classes: int) -> IntArray:
        """Return shape (K, K) counts; rows are true classes, columns predicted ones."""
        flat: IntArray = np.bincount(truth * n_classes + given, minlength=n_classes * n_classes)
        return flat.reshape(n_classes, n_classes).astype(np.int64)

    def confidences(self, values: FloatArray) -> FloatArray:
        """Return decision scores, shape (n, K), as numbers like probabilities."""
        from agnews_exp.evaluation.calibrators import softmax

        return softmax(values)

    def columns(self, kind: str, labels: IntArray, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return labels as columns of predictions.parquet; ``kind`` is ``label`` or ``prediction``."""
        return {kind: labels}

    def names(self, labels: IntArray, class_names: Sequence[str]) -> list[Any]:
        """Return the names that n rows of labels stand for: one each."""
        return [class_names[k] for k in labels.tolist()]

    def sure(self, labels: IntArray, confidences: FloatArray) -> list[Any]:
        """Return how sure n answers are, to six decimals: one number each; ``confidences`` have shape (n, K)."""
        return [round(value, 6) for value in self.certainty(labels, confidences).tolist()]

    def certainty(self, labels: IntArray, confidences: FloatArray) -> FloatArray:
        """Return the confidence of each answer, shape (n,)."""
        found: FloatArray = confidences[np.arange(len(labels)), labels]
        return found


class MultiLabel(Task):
    """Any number of classes a text: labels have shape (n, K), 0 and 1, and every class a probability of its own."""

    name: TaskName = "multilabel"
    answers = "a set of classes a text"
    key = "labels"
    right_share = "exact sets"
    shares = frozenset({"subset_accuracy"})
    beside = "micro_f1"
    watched = ("macro_f1", "micro_f1", "binary_log_loss")
    matrix_key = "co_occurrence"
    matrix_title = "True classes (down) with predicted ones (across)"
    of_class_title = "right about it"
    one_answer = False
    limits = (
        Limit(
            "model.family", lambda v: v in ("classical", "transformer"),
            "only classical models and networks learn sets", "model=logreg",
        ),
        Limit(
            "model.loss", lambda v: v not in ("focal", "supervised_contrastive") and "." not in str(v),
            "a network learns each class by binary cross-entropy", "model.loss=cross_entropy",
        ),
        Limit("model.label_smoothing", lambda v: not v, "it spreads one class over the others",
              "model.label_smoothing=0"),
        Limit("model._target_", lambda v: not str(v).endswith(".SetFit"), "it would train its encoder once a class",
              "model=static_minilm"),
        Limit("model.student", lambda v: v is None, "a teacher's answers are one class a text", "model=logreg"),
        Limit(
            "model.class_weight", lambda v: v in (None, "balanced"),
            "each class is told from all others, so weights by class say nothing", "model.class_weight=balanced",
        ),
        Limit("split.name", lambda v: v != "group", "groups are cut by the class of their rows", "split=stratified"),
        Limit("subset.name", lambda v: v != "balanced", "no rows have each class equally often", "subset=stratified"),
        Limit("features.select", lambda v: v is None, "it scores terms by the class of a row", "features/select=null"),
        Limit("evaluation.costs", lambda v: v is None, "costs are of one class in place of another",
              "evaluation.costs=null"),
        Limit("evaluation.slices", lambda v: not v, "slices have the accuracy of one class a text",
              "evaluation.slices=[]"),
        Limit("evaluation.cluster_column", lambda v: v is None, "groups are judged by one class a text",
              "evaluation.cluster_column=null"),
        Limit(
            "evaluation.analyses", lambda v: all(one is None for one in (v or {}).values()),
            "calibration, errors, explanation, robustness, external and efficiency look at one class a text",
            "evaluation=fast",
        ),
    )  # fmt: skip
    left_out = MappingProxyType(
        {
            "analyses": "analyses of finished runs look at one class a text",
            "eda": "the exploration looks at texts by their one class",
            "checks": "checks look at one class a text",
            "export": "exported models answer one class a text",
            "sets": "its answers are sets already",
            "explain": "words are explained for one class a text",
        }
    )

    def check(self, values: ArrayLike, what: str) -> IntArray:
        """Return labels as an int64 array of 0 and 1, shape (n, K).

        Raises:
            DataError: They are none.
        """
        array = np.asarray(values)
        if array.ndim != 2 or not array.size or array.dtype.kind not in "iub" or not np.isin(array, (0, 1)).all():
            raise DataError(f"{what} must be sets of classes: 0 and 1, shape (items, classes), got {array.shape}")
        return array.astype(np.int64)

    def counts(self, truth: IntArray, given: IntArray, n_classes: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return hits, true and predicted rows of each class, shape (K,) each."""
        hits, support, predicted = (one.sum(axis=0).astype(np.float64) for one in (truth & given, truth, given))
        return hits, support, predicted

    def right(self, truth: IntArray, given: IntArray) -> BoolArray:
        """Return the rows of which the whole set is right, shape (n,)."""
        found: BoolArray = (truth == given).all(axis=1)
        return found

    def of_class(self, truth: IntArray, given: IntArray, k: int) -> tuple[BoolArray, BoolArray]:
        """Return all rows, and which of them are right about one class."""
        return np.ones(len(truth), dtype=bool), truth[:, k] == given[:, k]

    def matrix(self, truth: IntArray, given: IntArray, n_classes: int) -> IntArray:
        """Return in how many texts with each true class (rows) each class was predicted (columns), shape (K, K)."""
        found: IntArray = truth.T @ given
        return found

    def confidences(self, values: FloatArray) -> FloatArray:
        """Return decision scores, shape (n, K), through the logistic function: 0 becomes .5."""
        from scipy.special import expit

        found: FloatArray = expit(values)
        return found

    def columns(self, kind: str, labels: IntArray, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return a column of 0 and 1 for each class, such as ``label:sport``."""
        return {f"{kind}:{key}": labels[:, k].astype(np.int8) for k, key in enumerate(keys)}

    def names(self, labels: IntArray, class_names: Sequence[str]) -> list[Any]:
        """Return the names that n rows of labels stand for: a list each."""
        return [[class_names[k] for k in np.flatnonzero(row).tolist()] for row in labels]

    def sure(self, labels: IntArray, confidences: FloatArray) -> list[Any]:
        """Return how sure n answers are, to six decimals: a list each, a number for each class of the set."""
        return [
            [round(value, 6) for value in row[had == 1].tolist()] for row, had in zip(confidences, labels, strict=True)
        ]

    def certainty(self, labels: IntArray, confidences: FloatArray) -> FloatArray:
        """Return the mean confidence in what each set says of the K classes, shape (n,)."""
        found: FloatArray = np.where(labels == 1, confidences, 1 - confidences).mean(axis=1)
        return found


MULTICLASS, MULTILABEL = Task(), MultiLabel()
TASKS: Mapping[str, Task] = {task.name: task for task in (MULTICLASS, MULTILABEL)}


def task_of(labels: ArrayLike) -> Task:
    """Return the task that labels or answers are of, by their shape."""
    return MULTILABEL if np.ndim(labels) == 2 else MULTICLASS


def task_of_record(result: Mapping[str, Any]) -> Task:
    """Return the task of a finished run's result.json."""
    return TASKS[str(result.get("task", MULTICLASS.name))]


def task_of_config(data: Mapping[str, Any]) -> Task:
    """Return the task that a group ``data`` asks for."""
    return MULTILABEL if data.get("multilabel") else MULTICLASS


def check_applies(task: Task, plain: Mapping[str, Any]) -> None:
    """Refuse a resolved configuration that asks for what a task does not have.

    Raises:
        ConfigError: Names the key, why it does not apply, and what to type.
    """
    for limit in task.limits:
        value: Any = plain
        for part in limit.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not limit.fits(value):
            shown = ", ".join(value) if isinstance(value, Mapping) else value
            raise ConfigError(
                f"{limit.key}={shown} does not apply to {task.answers} ({task.name}): {limit.why}.", fix=limit.fix
            )


def refuse_left_out(task: Task, what: str, name: str) -> None:
    """Refuse a command about finished runs or data that a task does not have; ``name`` is theirs.

    Raises:
        ConfigError: It is left out.
    """
    if (why := task.left_out.get(what)) is not None:
        raise ConfigError(
            f"{name} answers {task.answers} ({task.name}): {why}.", fix="agnews top, agnews compare, agnews predict"
        )
