"""Fitting a student on a teacher's answers; it is judged, saved and used like any model of its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agnews_exp.config.errors import ConfigError
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import RESERVED, CheckedConfig
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.soft_targets import SoftTargets, tempered
from agnews_exp.data.unlabelled import unlabelled_texts
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.distil import Distillation
from agnews_exp.models.sources import SourceRun
from agnews_exp.runners.curves import CurveSink
from agnews_exp.runners.protocol import FitSummary, Runner
from agnews_exp.runners.stages import Stages
from agnews_exp.runners.teaching import out_of_fold_probabilities, teacher_probabilities

_NO_ROW = -1
"""Row id of a text that is in no file of the corpus."""


class DistilRunner:
    """Runs ``model=distilled_*``: asks the teacher, then hands its answers to the runner of the student's family.

    Args:
        checked: The checked configuration.
        sources: The teacher, by ``teacher``; empty where the student learns from labels alone.
        folder: The run's folder, for a network's checkpoints.
        fingerprint: The run's fingerprint.
        curves: Takes a network's training curves, or None.
    """

    def __init__(
        self,
        checked: CheckedConfig,
        sources: Mapping[str, SourceRun],
        *,
        folder: Path | None = None,
        fingerprint: str = "",
        curves: CurveSink | None = None,
    ) -> None:
        self._checked = checked
        self._recipe: Distillation = safe_instantiate(checked.component("model"), "model")
        self._teacher = sources.get("teacher")
        self._folder, self._fingerprint, self._curves = folder, fingerprint, curves
        self._student: Runner | None = None

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Fit the student on ``splits.train`` and, where asked for, on texts that the teacher alone answers.

        Raises:
            ConfigError: The teacher was judged on other rows than these, or gives no probabilities.
            DataError: The unlabelled texts cannot be read.
        """
        teacher, recipe = self._teacher, self._recipe
        notes: list[str] = []
        rows, soft = splits.train, None
        if teacher is not None:
            _check_rows(teacher, splits)
            if recipe.alpha > 0:
                rows, soft, notes = self._taught(teacher, splits, stages)
        self._student = self._runner(soft)
        summary = self._student.fit(splits if rows is splits.train else replace(splits, train=rows), stages)
        metrics = summary.metrics | {"distil/unlabelled_rows": float(len(rows) - len(splits.train))}
        if teacher is not None:
            metrics |= self._comparison(teacher, splits)
        return FitSummary(metrics, [*notes, *summary.notes])

    def _taught(self, teacher: SourceRun, splits: Splits, stages: Stages) -> tuple[TextRows, SoftTargets, list[str]]:
        """Return the rows to train on, the teacher's answers for them, and what is worth a note."""
        recipe, train = self._recipe, splits.train
        cache_dir = Path(self._checked.plain["paths"]["cache_dir"])
        more: list[str] = []
        notes: list[str] = []
        if recipe.unlabelled:
            seed = self._checked.run.split_seed
            more, dropped = unlabelled_texts(splits, recipe.unlabelled, recipe.columns, recipe.unlabelled_rows, seed)
            if dropped:
                notes.append(f"{dropped:,} unlabelled texts stand in the validation or test rows and were left out.")
            if recipe.unlabelled == "rest" and teacher.data_fraction > self._checked.run.data_fraction:
                notes.append(
                    f"The teacher learned from data_fraction={teacher.data_fraction:g} of the training rows: it has "
                    "seen labels of rows that are unlabelled here."
                )
        with stages.stage("teacher", f"{teacher.name} answers {len(train) + len(more):,} texts"):
            known = (
                out_of_fold_probabilities(teacher, train)
                if recipe.out_of_fold
                else teacher_probabilities(teacher, train.texts, cache_dir)
            )
            answers = np.concatenate([known, teacher_probabilities(teacher, more, cache_dir)])
        share = np.full(len(answers), recipe.alpha, dtype=np.float32)
        share[len(train) :] = 1.0
        soft = SoftTargets(tempered(answers, recipe.temperature), share, recipe.temperature)
        if not more:
            return train, soft, notes
        # Selectors and tree students want a class of every row: of an unlabelled one it is the teacher's.
        guessed = answers[len(train) :].argmax(axis=1).astype(np.int64)
        rows = TextRows(
            [*train.texts, *more],
            np.concatenate([train.labels, guessed]),
            np.concatenate([train.row_ids, np.full(len(more), _NO_ROW, dtype=np.int64)]),
        )
        return rows, soft, notes

    def _runner(self, soft: SoftTargets | None) -> Runner:
        """Return the runner of the student's family, as for a run of the student alone."""
        plain = self._checked.plain
        own = {key: plain["model"][key] for key in RESERVED["model"]}
        student = CheckedConfig(self._checked.run, {**plain, "model": {**plain["model"]["student"], **own}})
        if self._checked.run.model.family == "transformer":
            from agnews_exp.runners.lightning_runner import LightningRunner

            return LightningRunner(
                student, folder=self._folder, fingerprint=self._fingerprint, curves=self._curves, soft=soft
            )
        from agnews_exp.runners.sklearn_runner import SklearnRunner

        return SklearnRunner(student, soft=soft)

    def _comparison(self, teacher: SourceRun, splits: Splits) -> dict[str, float]:
        """Return the teacher's own numbers, and on how many validation rows student and teacher agree."""
        shown = ("val", "test") if self._checked.run.evaluation.score_test else ("val",)
        names = [f"{split}/{metric}" for split in shown for metric in ("macro_f1", "accuracy")]
        metrics = {f"distil/teacher_{n.replace('/', '_')}": teacher.metrics[n] for n in names if n in teacher.metrics}
        if (speed := teacher.metrics.get("throughput_batch")) is not None:
            metrics["distil/teacher_throughput_batch"] = speed
        theirs = read_predictions(teacher.predictions, "val", splits.validation, splits.class_names).labels
        metrics["distil/val_agreement"] = float(np.mean(self.predict(splits.validation.texts).labels == theirs))
        return metrics

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts with the student."""
        assert self._student is not None, "fit() first"
        return self._student.predict(texts)

    def save(self, folder: Path) -> None:
        """Write the student's model folder; the teacher is not part of it."""
        assert self._student is not None, "fit() first"
        self._student.save(folder)


def _check_rows(teacher: SourceRun, splits: Splits) -> None:
    if teacher.evaluation_checksum != splits.evaluation_checksum() or teacher.class_names != splits.class_names:
        raise ConfigError(
            f"model.teacher={teacher.name} was judged on other validation or test rows than this run's: it may have "
            "learned from them.",
            fix="give teacher and student the same data, split_seed and data.validation_size",
        )
