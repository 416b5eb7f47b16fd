"""`agnews drift`: new texts against the rows that a model was judged on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.drift import REFERENCE, Shift, describe, model_reference, shifts
from agnews_exp.models.loading import FittedModel
from agnews_exp.models.manifest import add_json
from agnews_exp.reporting.analyses.finished import FinishedRun
from agnews_exp.serving.inputs import Source, read_items

_BATCH = 2048


def write_reference(run: FinishedRun, folder: Path) -> None:
    """Write the reference of an older run, which has none, into its model folder, and take it into the manifest.

    Args:
        run: The run that the model is of.
        folder: The model folder.
    """
    splits = run.splits
    answers = run.context("drift").answers["val"]
    reference = model_reference(splits.train.texts, splits.validation.texts, answers, len(splits.class_names))
    add_json(folder, REFERENCE, reference)


def find_drift(model: FittedModel, folder: Path, source: Source) -> tuple[list[Shift], int, int]:
    """Compare the texts of a source with a model's reference.

    Args:
        model: The loaded model.
        folder: Its folder, with a reference.
        source: The new texts.

    Returns:
        The shifts, and how many rows were looked at and rejected.

    Raises:
        DataError: No row of the source can be answered.
    """
    reference: dict[str, Any] = json.loads((folder / REFERENCE).read_text(encoding="utf-8"))
    known = frozenset(reference["words"])
    parts: list[dict[str, NDArray[np.float64]]] = []
    labels: list[NDArray[np.int64]] = []
    rejected = 0
    for batch in _batches(read_items(source)):
        texts = [item.text for item in batch if item.text is not None]
        rejected += len(batch) - len(texts)
        if texts:
            answers = model.predict(texts)
            parts.append(describe(texts, answers, known))
            labels.append(answers.labels)
    if not parts:
        raise DataError(f"{source.path or 'standard input'} holds no text that can be answered.")
    quantities = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = shifts(reference, quantities, np.concatenate(labels))
    return found, sum(map(len, labels)), rejected


def _batches(items: Iterable[Any]) -> Iterable[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
