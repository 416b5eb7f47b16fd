"""Cross-validation with the whole pipeline inside the fold: nothing is fitted on rows that it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.validation import CheckedConfig
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.splits import cut_by_key, make_folds
from agnews_exp.evaluation.metrics import find_objective, judge, keyed, macro_f1, margins_of, own_metrics
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.runners.choose import make_runner
from agnews_exp.runners.protocol import Runner, Stages


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The result of a cross-validation of n held-out rows."""

    # The rows that were held out, in the order of the training rows: all of these, but under ``split=time``.
    rows: TextRows
    predictions: Predictions  # the n out-of-fold answers, in the same order
    folds: NDArray[np.int64]  # shape (n,), int64, the fold that held each row out
    # For each metric, one value a fold; those of classes under ``f1/<class>`` and the like.
    metrics: dict[str, list[float]]
    train_macro_f1: list[float]  # macro-F1 on each fold's own training rows: the gap to the held-out one is overfitting

    def summary(self) -> dict[str, float]:
        """Return mean and sample standard deviation over folds, named ``cv/<metric>`` and ``cv/<metric>_std``.

        Metrics of classes have a mean alone.
        """
        values: dict[str, float] = {}
        for name, per_fold in (self.metrics | {"train_macro_f1": self.train_macro_f1}).items():
            values[f"cv/{name}"] = float(np.mean(per_fold))
            if "/" not in name:
                values[f"cv/{name}_std"] = float(np.std(per_fold, ddof=1))
        return values


def cross_validate(checked: CheckedConfig, splits: Splits, stages: Stages) -> CrossValidation:
    """Cross-validate the configured model on the training rows, timed as the stage ``cv``.

    Folds follow the split, and are drawn with ``split_seed``, so that all models that are compared have the same ones.

    Raises:
        DataError: See :func:`agnews_exp.data.splits.make_folds`.
    """
    train, n_folds = splits.train, checked.run.evaluation.folds
    held_out = np.full(len(train), -1, dtype=np.int64)
    answers: list[tuple[NDArray[np.int64], Predictions]] = []
    metrics: dict[str, list[float]] = {}
    own = own_metrics(checked.run.evaluation.metrics)
    primary = find_objective(checked.run.evaluation.primary, splits.class_names, own, task_of(train.labels))
    reported = primary.stored_as("cv", splits.class_names).removeprefix("cv/")
    train_f1: list[float] = []
    dealt = make_folds(splits, n_folds, checked.run.split_seed)
    for fold, (inside, outside) in enumerate(dealt):
        with stages.stage("cv", f"fold {fold + 1} of {n_folds}"):
            # The held-out rows are nobody's validation rows here: early stopping may not look at them either.
            part = replace(splits, train=train.take(inside))
            if splits.split == "time" and checked.run.model.family == "transformer":
                # The run's validation rows are newer than the rows held out: a fold chooses by the newest of its own.
                size, seed = checked.run.data.validation_size, checked.run.split_seed
                rest, newest = cut_by_key(part.train, size, "validation", seed, "time")
                part = replace(part, train=rest, validation=newest)
            runner = make_runner(checked)
            runner.fit(part, Stages(quiet=True))
            answer = runner.predict([train.texts[i] for i in outside])
            inside_labels = _labels(runner, part.train.texts)
        held_out[outside] = fold
        answers.append((outside, answer))
        values = judge(train.labels[outside], answer, splits.class_names, own)
        for key, value in keyed(values, "cv", splits.class_names).items():
            metrics.setdefault(key.removeprefix("cv/"), []).append(value)
        if stages.reports and reported in metrics:
            stages.report_intermediate(fold, float(np.mean(metrics[reported])))
        train_f1.append(float(macro_f1(margins_of(part.train.labels, inside_labels, len(splits.class_names)))))
    kept = np.flatnonzero(held_out >= 0)
    return CrossValidation(train.take(kept), _assemble(answers, len(kept)), held_out[kept], metrics, train_f1)


@runtime_checkable
class _AnswersLabels(Protocol):
    """A runner that can leave scores out."""

    def predict_labels(self, texts: Sequence[str]) -> NDArray[np.int64]: ...


def _labels(runner: Runner, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return class indices, shape (n,), or sets of classes, without the scores that nobody asks for."""
    return runner.predict_labels(texts) if isinstance(runner, _AnswersLabels) else runner.predict(texts).labels


def _assemble(answers: list[tuple[NDArray[np.int64], Predictions]], n_rows: int) -> Predictions:
    """Put the folds' answers back into the order of the rows."""
    order = np.argsort(np.concatenate([rows for rows, _ in answers]), kind="stable")
    assert len(order) == n_rows

    def joined(parts: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
        present = [part for part in parts if part is not None]
        return np.concatenate(present)[order] if len(present) == len(parts) else None

    return Predictions(
        np.concatenate([answer.labels for _, answer in answers])[order],
        joined([answer.scores for _, answer in answers]),
        joined([answer.probabilities for _, answer in answers]),
    )
