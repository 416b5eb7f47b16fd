"""What near-duplicates of training texts among the rows that judge do to the judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.errors.near_duplicates import Matches
from agnews_exp.evaluation.errors.rates import Contrast, Rate, contrasts, rate
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.inputs import Result
from agnews_exp.evaluation.statistics.intervals import BootstrapInterval


@dataclass(frozen=True)
class DuplicateEffect(Result):
    """The metrics of a split with and without the rows that have a near-duplicate among the training rows.

    Attributes:
        n_rows: Rows of the split.
        n_near: Those with a near-duplicate in train.
        all_rows: Metrics of all rows, by name.
        without: Metrics of the rows that have none; None where there are no such rows.
        errors: Error rates of both kinds of rows; None where there is only one kind.
        conflicts: Of the rows with a near-duplicate, those that bear another label than it does; None without any.
        follows_train: Of the conflicting rows, those to which the model gives the training row's label.
    """

    n_rows: int
    n_near: int
    all_rows: dict[str, BootstrapInterval]
    without: dict[str, BootstrapInterval] | None
    errors: Contrast | None
    conflicts: Rate | None
    follows_train: Rate | None


def duplicate_effect(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    train_labels: NDArray[np.int64],
    matches: Matches,
    class_names: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> DuplicateEffect:
    """Return the effect on one split.

    Args:
        labels: Shape (n,), true class indices.
        predicted: Shape (n,), classes given.
        train_labels: Shape (t,), labels of the training rows.
        matches: Each row's most similar training row.
        class_names: K names.
        resamples: Bootstrap resamples of each metric's interval.
        seed: Of the resampling.
    """

    def metrics(rows: NDArray[np.bool_]) -> dict[str, BootstrapInterval]:
        return {
            metric: bootstrap_metric(
                labels[rows], predicted[rows], metric, resamples=resamples, seed=seed, class_names=class_names
            )
            for metric in ("accuracy", "macro_f1")
        }

    near = matches.found
    contrast = contrasts(predicted != labels, {"near-duplicate in train": near})
    theirs = train_labels[matches.position[near]]
    differ = theirs != labels[near]
    follow = (predicted[near] == theirs) & differ
    n_near, n_differ = int(near.sum()), int(differ.sum())
    return DuplicateEffect(
        n_rows=len(labels),
        n_near=n_near,
        all_rows=metrics(np.ones(len(labels), dtype=bool)),
        without=metrics(~near) if (~near).any() else None,
        errors=contrast[0] if contrast else None,
        conflicts=rate("other label than in train", n_differ, n_near) if n_near else None,
        follows_train=rate("model gives train's label", int(follow.sum()), n_differ) if n_differ else None,
    )
