"""Early answers of a classical model, so that a search can stop a hopeless trial before its full fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import classification_metrics
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.runners.stages import Stages

RUNGS = (0.1, 0.3)
"""Shares of the training rows that are tried before the full fit; those of the first are among the second's."""

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
    """Fit copies of ``model`` on growing parts of the training rows and report each one's validation score.

    The model itself is not touched, so a trial that is not pruned gives exactly what it gives outside of a search.

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
    from sklearn.base import clone

    order = np.random.default_rng(_SEED).permutation(len(labels))
    with stages.stage("rungs", f"features of {len(validation):,} validation texts"):
        held_out = transform(list(validation.texts))
    for step, share in enumerate(RUNGS):
        rows = np.sort(order[: max(len(class_names), round(share * len(labels)))])
        if len(np.unique(labels[rows])) < len(class_names):
            continue  # a class is missing: the score would say nothing about the model
        with stages.stage("rungs", f"trying {share:.0%} of the rows"):
            answer = predict(clone(model).fit(matrix[rows], labels[rows]), held_out)
            score = classification_metrics(validation.labels, answer, class_names)[metric]
        stages.report_intermediate(step, score)
