"""The runner of students, which learn from a teacher's answers and are used like any model of their family."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import RESERVED, CheckedConfig
from agnews_exp.core.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.soft_targets import SoftTargets, tempered
from agnews_exp.data.unlabelled import unlabelled_texts
from agnews_exp.evaluation.costs import DECISION
from agnews_exp.evaluation.drift import REFERENCE
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.stored_answers import read_predictions, stored_answers
from agnews_exp.models.answers import SourceRun
from agnews_exp.models.persistence import READING, read_manifest
from agnews_exp.models.recipes import Distillation
from agnews_exp.runners.protocol import FitSummary, Runner, Stages

log = logging.getLogger(__name__)

KIND = "teacher"
"""Kind of the cache's entries."""

_VERSION = 1
_PART = 2048
"""Texts of one entry of the cache; a labelling that is cut off loses one of them."""


def teacher_probabilities(teacher: SourceRun, texts: Sequence[str], cache_dir: Path) -> NDArray[np.float32]:
    """Return the teacher's class probabilities for n texts, shape (n, K), float32, from the cache where they are known.

    Raises:
        ConfigError: The teacher gives no probabilities.
        StorageError: Its model folder is damaged.
    """
    from rich.console import Console
    from rich.progress import track

    cache, asked = ArrayCache(cache_dir), _Teacher(teacher)
    starts = range(0, len(texts), _PART)
    hidden = not sys.stderr.isatty()
    shown = track(starts, f"{teacher.name} answers", console=Console(stderr=True), transient=True, disable=hidden)
    parts = []
    for start in shown:
        part = list(texts[start : start + _PART])
        key = cache_key(_VERSION, asked.identity, digest_texts(part))
        arrays = cache.get_or_build(KIND, key, partial(asked.answer, part))
        parts.append(np.asarray(arrays["probabilities"], dtype=np.float32))
    if not parts:
        return np.zeros((0, len(teacher.class_names)), dtype=np.float32)
    return np.concatenate(parts)


class _Teacher:
    """A teacher's model, loaded when the cache does not know an answer."""

    def __init__(self, run: SourceRun) -> None:
        self._run = run
        self._model: Any = None
        files = read_manifest(run.model)["sha256"]
        # A drift reference may be added to an older folder; it changes no answer, and neither does how files were read.
        relevant = sorted(
            (name, digest) for name, digest in files.items() if not name.endswith((REFERENCE, READING, DECISION))
        )
        self.identity = f"{run.fingerprint} {relevant}"

    def answer(self, texts: list[str]) -> dict[str, NDArray[Any]]:
        """Return the probabilities of n texts, shape (n, K), float32, under their name in the cache."""
        if self._model is None:
            from agnews_exp.models.loading import load_model

            self._model = load_model(self._run.model)
        found = self._model.predict(texts).probabilities
        if found is None:
            raise without_probabilities(self._run.name)
        return {"probabilities": np.asarray(found, dtype=np.float32)}


def out_of_fold_probabilities(teacher: SourceRun, rows: TextRows) -> NDArray[np.float32]:
    """Return the cross-validated probabilities of a run (``evaluation=cv``) for n of its training rows (n, K)."""
    stored = stored_answers(teacher.predictions, "cv", teacher.class_names, ordered=False)
    row_ids, found = stored.row_ids, stored.given.probabilities
    if not len(row_ids):
        raise ConfigError(
            f"model.out_of_fold=true: {teacher.name} was not cross-validated.",
            fix="train the teacher with evaluation=cv, or model.out_of_fold=false",
        )
    if found is None:
        raise without_probabilities(teacher.name)
    order = np.argsort(row_ids, kind="stable")
    places = np.minimum(np.searchsorted(row_ids, rows.row_ids, sorter=order), len(order) - 1)
    positions = order[places]
    if missing := int((row_ids[positions] != rows.row_ids).sum()):
        raise DataError(
            f"model.out_of_fold=true: {missing:,} of the {len(rows):,} training rows were not among {teacher.name}'s.",
            fix="give teacher and student the same data_fraction (and not split=time: nobody answers its oldest rows)",
        )
    return np.asarray(found[positions], dtype=np.float32)


def without_probabilities(name: str) -> ConfigError:
    """Return the error about a teacher that gives labels or scores only."""
    return ConfigError(
        f"model.teacher={name} gives no probabilities to learn from.",
        fix="choose a transformer, logreg, calibrated_svc or a cascade as teacher",
    )


_NO_ROW = -1
"""Row id of a text that is in no file of the corpus."""


class DistilRunner:
    """Runs ``model=distilled_*``: asks the teacher, then hands its answers to the runner of the student's family.

    Without a teacher among ``sources`` the student learns from labels alone.
    """

    def __init__(
        self,
        checked: CheckedConfig,
        sources: Mapping[str, SourceRun],
        *,
        folder: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        self._checked = checked
        self._recipe: Distillation = safe_instantiate(checked.component("model"), "model")
        self._teacher = sources.get("teacher")
        self._folder, self._fingerprint = folder, fingerprint
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
            own, other = self._checked.run.data_fraction, teacher.data_fraction
            if recipe.unlabelled == "rest" and (other > own or (own >= 2 > other)):  # rows beside a share: who knows
                notes.append(
                    f"The teacher learned from data_fraction={other:g} of the training rows: it may "
                    "have seen labels of rows that are unlabelled here."
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

            return LightningRunner(student, folder=self._folder, fingerprint=self._fingerprint, soft=soft)
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
