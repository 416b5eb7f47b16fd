"""`agnews drift`: new texts against the rows that a model was judged on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import DataError
from agnews_exp.evaluation.drift import Shift, reference_of, shifts
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.loading import FittedModel
from agnews_exp.models.manifest import add_files
from agnews_exp.reporting.analyses.finished import FinishedRun
from agnews_exp.serving.inputs import Source, read_items
from agnews_exp.serving.predicting import confidences

REFERENCE = "drift_reference.json"
"""In a model folder: what the texts and the answers were like on validation rows."""

_WORD = re.compile(r"\w+")
_BATCH = 2048


def write_reference(run: FinishedRun, folder: Path) -> None:
    """Write a run's reference into its model folder, and take it into the manifest.

    Args:
        run: The run that the model is of.
        folder: The model folder.
    """
    splits = run.splits
    known = sorted({word for text in splits.train.texts for word in _words(text)})
    answers = run.context("drift").answers["val"]
    quantities = describe(splits.validation.texts, answers, frozenset(known))
    reference = reference_of(quantities, answers.labels, len(splits.class_names), run.checked.run.seed)
    (folder / REFERENCE).write_text(json.dumps(reference | {"words": known}) + "\n", encoding="utf-8")
    add_files(folder)


def describe(texts: Sequence[str], answers: Predictions, known: frozenset[str]) -> dict[str, NDArray[np.float64]]:
    """Return what drift is looked for in, shape (n,) each: words, share of known words, confidence.

    Args:
        texts: n texts.
        answers: The model's answers for them.
        known: The words of the training texts.
    """
    words = [_words(text) for text in texts]
    values = {
        "words": np.array([len(w) for w in words], dtype=np.float64),
        "known_words": np.array([sum(x in known for x in w) / len(w) if w else 0.0 for w in words]),
    }
    if answers.probabilities is not None or answers.scores is not None:
        matrix = confidences(answers)
        values["confidence"] = matrix[np.arange(len(answers)), answers.labels]
    return values


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


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _batches(items: Iterable[Any]) -> Iterable[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
