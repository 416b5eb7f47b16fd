"""Classical models: a scikit-learn pipeline of features and estimator, fitted on training rows only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import AgnewsError, ConfigError, DataError
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.data.corpus import Splits
from agnews_exp.data.soft_targets import SoftTargets, takes_soft_targets, weighted_copies
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.features.build import build_features, check_fitted
from agnews_exp.models.answers import predict_matrix
from agnews_exp.models.persistence import save_pipeline
from agnews_exp.runners.protocol import FitSummary
from agnews_exp.runners.rungs import report_rungs
from agnews_exp.runners.stages import Stages


class SklearnRunner:
    """Runs one classical model.

    Args:
        checked: The checked configuration; ``features`` and ``model`` are built from it.
        soft: A teacher's answers for the training rows, or None.
    """

    def __init__(self, checked: CheckedConfig, *, soft: SoftTargets | None = None) -> None:
        self._checked = checked
        self._soft = soft
        self._features: Any = None
        self._model: Any = None
        self._n_classes = 0
        self._class_names: tuple[str, ...] = ()
        self._train_texts: Sequence[str] | None = None
        self._train_matrix: Any = None

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Fit features and model on ``splits.train``.

        Raises:
            DataError: Nothing is left to learn from, such as an empty vocabulary.
        """
        from sklearn.pipeline import Pipeline

        features = build_features(self._checked.plain["features"], safe_instantiate)
        model = safe_instantiate(self._checked.component("model"), "model")
        train = splits.train
        self._class_names = splits.class_names
        self._n_classes = len(splits.class_names)
        notes: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with stages.stage("features", f"features ({self._checked.run.features.name}) of {len(train):,} texts"):
                    matrix = train.texts if features is None else features.fit_transform(train.texts, train.labels)
                    if features is not None:
                        check_fitted(features)
                self._report_early(model, matrix, features, splits, stages)
                with stages.stage("fit", f"fitting {self._checked.run.model.name}"):
                    _fit(model, matrix, train.labels, self._soft)
            except AgnewsError:
                raise
            except ValueError as error:
                raise self._explain(error, len(train)) from error
        for warning in caught:
            if issubclass(warning.category, UserWarning) and str(warning.message) not in notes:
                notes.append(str(warning.message))
        self._features, self._model = features, model
        self._train_texts, self._train_matrix = train.texts, matrix
        self.pipeline = Pipeline(
            [("features", features), ("model", model)] if features is not None else [("model", model)]
        )
        metrics: dict[str, float] = {}
        if hasattr(matrix, "shape"):
            metrics["n_features"] = float(matrix.shape[1])
            if hasattr(matrix, "nnz"):
                metrics["sparsity"] = 1.0 - matrix.nnz / float(np.prod(matrix.shape, dtype=np.float64))
        iterations = getattr(model, "n_iter_", None)
        if iterations is not None:
            metrics["n_iterations"] = float(np.max(iterations))
        return FitSummary(metrics, notes)

    def _report_early(self, model: Any, matrix: Any, features: Any, splits: Splits, stages: Stages) -> None:
        """Tell a search that prunes how the model does on parts of the rows, before the full fit."""
        primary = self._checked.run.evaluation.primary
        if not stages.reports or features is None or self._soft is not None or not primary.startswith("val/"):
            return
        report_rungs(
            model, matrix, splits.train.labels, splits.validation, features.transform,
            lambda fitted, rows: predict_matrix(fitted, rows, self._n_classes),
            splits.class_names, primary.removeprefix("val/"), stages,
        )  # fmt: skip

    def _explain(self, error: ValueError, n_rows: int) -> AgnewsError:
        text = str(error)
        if "vocabulary" in text or "no terms remain" in text.lower():
            return DataError(
                f"The features find no terms in the {n_rows:,} training texts: {text.splitlines()[0]}",
                fix="lower features.blocks.<name>.min_df, or use more rows (data_fraction)",
            )
        return ConfigError(f"model={self._checked.run.model.name} cannot be fitted: {text.splitlines()[0]}")

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; the training texts' matrix is not computed twice."""
        return predict_matrix(self._model, self._matrix_of(texts), self._n_classes)

    def predict_labels(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Answer texts with class indices alone, shape (n,): cheaper where scores cost extra."""
        return np.asarray(self._model.predict(self._matrix_of(texts)), dtype=np.int64)

    def _matrix_of(self, texts: Sequence[str]) -> Any:
        if texts is self._train_texts:
            return self._train_matrix
        return list(texts) if self._features is None else self._features.transform(texts)

    def save(self, folder: Path) -> None:
        """Write the pipeline as skops."""
        save_pipeline(self.pipeline, folder, self._class_names)


def _fit(model: Any, matrix: Any, labels: NDArray[np.int64], soft: SoftTargets | None) -> None:
    """Fit a classifier on labels, or on soft targets: as such where it takes them, else as weighted copies of rows.

    Raises:
        ConfigError: It takes neither soft targets nor weights.
    """
    from sklearn.utils.validation import has_fit_parameter

    if soft is None:
        model.fit(matrix, labels)
    elif takes_soft_targets(model.fit):
        model.fit(matrix, labels, soft=soft)
    elif has_fit_parameter(model, "sample_weight"):
        rows, classes, weights = weighted_copies(labels, soft)
        model.fit(matrix[rows], classes, sample_weight=weights)
    else:
        raise ConfigError(
            f"model.student._target_: {type(model).__name__} takes neither soft targets nor sample weights.",
            fix="model@model.student=ngram_softmax",
        )


@contextmanager
def shared_features(checked: CheckedConfig, splits: Splits) -> Iterator[None]:
    """Let all fits inside count n-grams once, and leave the counts in the cache for the next run.

    Texts are recognised as the vectorisers get them. Cleaned ones are prepared here only where folds make it pay.
    """
    from agnews_exp.features.fast import shared_counts
    from agnews_exp.features.preprocessing import TextPreprocessor

    features = checked.run.features
    texts = [*splits.train.texts, *splits.validation.texts, *splits.test.texts]
    clean = TextPreprocessor(clean=features.clean, tokenizer=features.tokenizer, stemmer=features.stemmer)
    if clean.clean != "none" or clean.tokenises:
        if not checked.run.evaluation.folds:
            yield
            return
        texts = list(clean.fit_transform(texts))
    with shared_counts(texts, cache_dir=Path(checked.run.paths.cache_dir) / "features"):
        yield
