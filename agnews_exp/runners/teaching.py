"""A teacher's probabilities for texts: computed once, in parts, and cached by the model's and the texts' content."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import ConfigError, DataError
from agnews_exp.data.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.drift import REFERENCE
from agnews_exp.models.manifest import read_manifest
from agnews_exp.models.sources import SourceRun

log = logging.getLogger(__name__)

KIND = "teacher"
"""Kind of the cache's entries."""

_VERSION = 1
_PART = 2048
"""Texts of one entry: what is lost of a labelling that is cut off, and what a larger one finds done."""


def teacher_probabilities(teacher: SourceRun, texts: Sequence[str], cache_dir: Path) -> NDArray[np.float32]:
    """Return the teacher's class probabilities for texts, shape (n, K).

    Args:
        teacher: A finished run.
        texts: n texts.
        cache_dir: Folder of the cache; the answers of an earlier run with the same teacher and texts are read from it.

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
        entry = cache.get_or_build(KIND, key, partial(asked.answer, part))
        parts.append(np.asarray(entry.arrays["probabilities"], dtype=np.float32))
    if not parts:
        return np.zeros((0, len(teacher.class_names)), dtype=np.float32)
    return np.concatenate(parts)


class _Teacher:
    """A teacher's model, loaded when the cache does not know an answer.

    Args:
        run: The finished run.
    """

    def __init__(self, run: SourceRun) -> None:
        self._run = run
        self._model: Any = None
        files = read_manifest(run.model)["sha256"]
        # A drift reference may be added to an older folder; it changes no answer.
        relevant = sorted((name, digest) for name, digest in files.items() if not name.endswith(REFERENCE))
        self.identity = f"{run.fingerprint} {relevant}"

    def answer(self, texts: list[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
        if self._model is None:
            from agnews_exp.models.loading import load_model

            self._model = load_model(self._run.model)
        found = self._model.predict(texts).probabilities
        if found is None:
            raise without_probabilities(self._run.name)
        return {"probabilities": np.asarray(found, dtype=np.float32)}, {"texts": len(texts)}


def out_of_fold_probabilities(teacher: SourceRun, rows: TextRows) -> NDArray[np.float32]:
    """Return the teacher's cross-validated probabilities for its own training rows, shape (n, K).

    Args:
        teacher: A finished run with ``evaluation=cv``.
        rows: n rows, all of them among the teacher's training rows.

    Raises:
        ConfigError: The run has no such answers, or none with probabilities.
        DataError: It was not trained on all these rows.
    """
    from agnews_exp.evaluation.stored_answers import stored_probabilities

    row_ids, found = stored_probabilities(teacher.predictions, "cv", teacher.class_names)
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
            fix="give teacher and student the same data_fraction",
        )
    return np.asarray(found[positions], dtype=np.float32)


def without_probabilities(name: str) -> ConfigError:
    """Return the error about a teacher that gives labels or scores only."""
    return ConfigError(
        f"model.teacher={name} gives no probabilities to learn from.",
        fix="choose a transformer, logreg, calibrated_svc or a cascade as teacher",
    )
