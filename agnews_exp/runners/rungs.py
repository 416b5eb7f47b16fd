"""Early answers of a classical model, so that a search can stop a hopeless trial before its full fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import classification_metrics
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.runners.stages import Stages

RUNGS = (0.1, 0.3)
"""Shares of the training rows that are tried before the full fit; those of the first are among the second's."""

EPOCHS = 3
"""Passes over all rows that a model of stochastic gradient descent is tried with instead."""

_SEED = 0  # the same rows for every trial, whatever its seed: only then are the values comparable


def report_rungs(
    model: Any,
    matrix: Any,
    labels: NDArray[np.int64],
    validation: TextRows,
    transform: Callable[[list[str]], Any],
    predict: Callable[[Any, Any], Predictions],
    class_names: tuple[str, ...],
    metric: str,
    stages: Stages,
) -> None:
    """Report the validation score of copies of ``model`` that have seen little: a few epochs, or a part of the rows.

    A model of stochastic gradient descent (it has ``partial_fit`` and ``max_iter``) makes its first :data:`EPOCHS`
    passes over all rows; any other is fitted on growing shares of them, :data:`RUNGS`. The model itself is not
    touched, so a trial that is not pruned gives exactly what it gives outside of a search.

    Args:
        model: An unfitted scikit-learn classifier.
        matrix: Shape (n, V), the training features.
        labels: Shape (n,), class indices.
        validation: The validation rows.
        transform: Turns texts into features.
        predict: Answers the rows of a matrix with a fitted model.
        class_names: The K classes.
        metric: Name of a metric without its split, such as ``macro_f1``.
        stages: Takes the reports; each part is timed as the stage ``rungs``.

    Raises:
        Pruned: The search gives up on this trial.
    """
    with stages.stage("rungs", f"features of {len(validation):,} validation texts"):
        held_out = transform(list(validation.texts))
    descends = hasattr(model, "partial_fit") and hasattr(model, "max_iter")
    early = _after_epochs(model, matrix, labels) if descends else _on_shares(model, matrix, labels, len(class_names))
    for step, what, fit in early:
        with stages.stage("rungs", f"trying {what}"):
            with _unnoticed():
                answer = predict(fit(), held_out)
            score = classification_metrics(validation.labels, answer, class_names).get(metric)
        if score is None:
            return  # the model cannot give this metric, as the end of the run will say
        stages.report_intermediate(step, score)


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Keep the global random state and the list of warnings as the real fit would find them."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _on_shares(
    model: Any, matrix: Any, labels: NDArray[np.int64], n_classes: int
) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Yield the step, what is tried, and how to fit it: a copy of the model for each share of the rows."""
    from sklearn.base import clone

    order = np.random.default_rng(_SEED).permutation(len(labels))
    for step, share in enumerate(RUNGS):
        rows = np.sort(order[: max(n_classes, round(share * len(labels)))])
        if len(np.unique(labels[rows])) < n_classes:
            continue  # a class is missing: the score would say nothing about the model
        yield step, f"{share:.0%} of the rows", partial(clone(model).fit, matrix[rows], labels[rows])


def _after_epochs(model: Any, matrix: Any, labels: NDArray[np.int64]) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Yield the step, what is tried, and how to fit it: one copy of the model after one more pass over the rows."""
    from sklearn.base import clone
    from sklearn.utils import compute_class_weight

    classes = np.unique(labels)
    copy = clone(model)
    if getattr(copy, "early_stopping", False):
        copy.set_params(early_stopping=False)  # partial_fit has no end that could come early
    if getattr(copy, "class_weight", None) == "balanced":
        weights = compute_class_weight("balanced", classes=classes, y=labels)
        copy.set_params(class_weight=dict(zip(classes.tolist(), weights.tolist(), strict=True)))
    for epoch in range(EPOCHS):
        yield epoch, f"epoch {epoch + 1} of {EPOCHS}", partial(copy.partial_fit, matrix, labels, classes=classes)
