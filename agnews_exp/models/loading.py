"""A saved model of any family, ready to answer texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agnews_exp.core.errors import StorageError
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import MULTICLASS, MULTILABEL, Task
from agnews_exp.models.answers import FittedModel, predict_matrix
from agnews_exp.models.persistence import read_manifest

_OURS = ("ngram_linear", "nbsvm", "one_vs_rest")
_MANY_THREADS = ("sklearn.", "agnews_exp.ngrams.", *(f"agnews_exp.models.{name}" for name in _OURS))
"""Modules of estimators that several threads may ask; of a tokenizer with a library of its own, nobody knows."""


@dataclass(frozen=True, eq=False)
class ClassicalModel:
    """A fitted scikit-learn pipeline."""

    pipeline: Any  # steps ``features`` (absent where the model reads raw text) and ``model``
    class_names: tuple[str, ...]  # K names

    family: ClassVar[str] = "classical"

    def __post_init__(self) -> None:
        """Lay coefficients out so that a product with a sparse matrix copies nothing."""
        estimator = self.pipeline.named_steps["model"]
        coefficients = getattr(estimator, "coef_", None)
        if isinstance(coefficients, np.ndarray) and coefficients.ndim == 2:
            estimator.coef_ = np.asfortranarray(coefficients)

    @property
    def task(self) -> Task:
        """The task that it was trained for."""
        return MULTILABEL if hasattr(self.pipeline.named_steps["model"], "thresholds_") else MULTICLASS

    @property
    def many_threads(self) -> bool:
        """Whether several threads may ask at once: nothing changes in answering, and compiled code does most of it."""
        parts = [part for part in self.pipeline.get_params().values() if hasattr(part, "get_params")]
        return all(type(part).__module__.startswith(_MANY_THREADS) for part in parts)

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer n texts with labels and whatever of scores and probabilities the estimator gives."""
        features = self.pipeline.named_steps.get("features")
        matrix = list(texts) if features is None else features.transform(list(texts))
        return predict_matrix(self.pipeline.named_steps["model"], matrix, len(self.class_names))


def load_model(folder: Path, device: str = "auto") -> FittedModel:
    """Load a model folder of any family; its manifest is checked and nothing in it is executed.

    A ``device`` is for transformers: a torch device, or ``auto`` for the first GPU if there is one.
    """
    manifest = read_manifest(folder)
    if manifest["family"] == "transformer":
        from agnews_exp.models.inference import load_predictor

        return load_predictor(folder, device)
    if manifest["family"] == "cascade":
        from agnews_exp.models.cascade import load_cascade

        return load_cascade(folder, lambda part: load_model(part, device))
    if manifest["family"] == "llm":
        from agnews_exp.models.llm import load_llm

        return load_llm(folder)
    if manifest["family"] == "onnx":
        from agnews_exp.models.onnx_model import load_onnx

        return load_onnx(folder)
    from agnews_exp.models.persistence import load_pipeline

    pipeline = load_pipeline(folder)
    known = np.asarray(getattr(pipeline.named_steps.get("model"), "classes_", []))
    k = len(manifest["class_names"])
    if known.dtype.kind != "i" or not known.size or known.min() < 0 or known.max() >= k:
        raise StorageError(
            f"{folder}: the model's classes are not those of its manifest ({k}).", fix="train it again (force=true)"
        )
    return ClassicalModel(pipeline, tuple(manifest["class_names"]))
