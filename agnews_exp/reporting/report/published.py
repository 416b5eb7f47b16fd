"""The study's published numbers, read from the tables that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agnews_exp.reporting.study_tables import published

__all__ = ["PUBLISHED_CLASSES", "published", "published_confusion", "published_score"]

PUBLISHED_CLASSES = ("World", "Sports", "Business", "Sci/Tech")


@cache
def _confusions() -> Mapping[tuple[str, str, str], NDArray[np.int64]]:
    found: dict[tuple[str, str, str], list[list[int]]] = {}
    for row in published("confusions"):
        counts = [int(row[name]) for name in PUBLISHED_CLASSES]
        found.setdefault((row["system"], row["split"], row["source"]), []).append(counts)
    return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}


def published_confusion(system: str, split: str = "test", source: str = "notebook") -> NDArray[np.int64]:
    """Return a published confusion matrix, true classes by given ones, shape (4, 4).

    Args:
        system: ``DistilBERT``, ``LinearSVC`` or ``SGD modified_huber``.
        split: ``test`` or ``cv``.
        source: ``notebook``: what was computed; ``technical report``: what was printed there instead.
    """
    return _confusions()[system, split, source]


def published_score(model: str, split: str) -> float | None:
    """Return a published macro-F1 of a model's configuration on val, test or cv, or None."""
    if split == "cv":
        return next((float(row["cv/macro_f1"]) for row in published("models") if row["model"] == model), None)
    rows = (row for row in published("systems") if row["model"] == model and row["split"] == split)
    return next((float(row["macro_f1"]) for row in rows), None)
