"""The runner of classical models: a scikit-learn pipeline of features and estimator, fitted on training rows only."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import AgnewsError, ConfigError, DataError
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.soft_targets import SoftTargets, takes_soft_targets, weighted_copies
from agnews_exp.data.stratification import class_counts
from agnews_exp.evaluation.metrics import Choice, find_objective, judge, own_metrics
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.evaluation.thresholds import choose_thresholds
from agnews_exp.features.build import build_features, check_fitted
from agnews_exp.models.answers import for_task, predict_matrix
from agnews_exp.models.persistence import save_pipeline
from agnews_exp.runners.protocol import FitSummary, Stages
from agnews_exp.runners.rows import class_weights

RUNGS = (0.1, 0.3)
"""Shares of the training rows that are tried before the full fit; those of the first are among the second's."""

EPOCHS = 3
"""Passes over all rows that a model of stochastic gradient descent is tried with instead."""

_SEED = 0  # the same rows for every trial, whatever its seed: only then are the values comparable


def report_rungs(
    model: Any,
    matrix: Any,
    labels: NDArray[np.int64],
    validation: TextRows,
    transform: Callable[[list[str]], Any],
    predict: Callable[[Any, Any], Predictions],
    class_names: tuple[str, ...],
    metric: Choice,
    stages: Stages,
    weights: NDArray[np.float64] | None = None,
) -> None:
    """Report the validation score of copies of ``model`` that have seen little: a few epochs, or a part of the rows.

    A model of stochastic gradient descent (it has ``partial_fit`` and ``max_iter``) makes its first :data:`EPOCHS`
    passes over all rows; any other is fitted on growing shares of them, :data:`RUNGS`. The model itself is not
    touched, so a trial that is not pruned gives exactly what it gives outside of a search.

    The matrix has shape (n, V), ``weights`` (n,); ``metric`` tells parts of the rows apart; each is timed as ``rungs``.

    Raises:
        Pruned: The search gives up on this trial.
    """
    with stages.stage("rungs", f"features of {len(validation):,} validation texts"):
        held_out = transform(list(validation.texts))
    descends = hasattr(model, "partial_fit") and hasattr(model, "max_iter")
    if descends:
        early = _after_epochs(model, matrix, labels, weights)
    else:
        early = _on_shares(model, matrix, labels, weights, len(class_names))
    for step, what, fit in early:
        with stages.stage("rungs", f"trying {what}"):
            with _unnoticed():
                answer = predict(fit(), held_out)
            own = () if metric.metric.target is None else (metric.metric,)
            score = judge(validation.labels, answer, class_names, own).get(metric.key)
        if score is None:
            return  # the model cannot give this metric, as the end of the run will say
        stages.report_intermediate(step, score)


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Keep the global random state and the list of warnings as the real fit would find them."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _on_shares(
    model: Any, matrix: Any, labels: NDArray[np.int64], weights: NDArray[np.float64] | None, n_classes: int
) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Yield the step, what is tried, and how to fit it: a copy of the model for each share of the rows."""
    from sklearn.base import clone

    order = np.random.default_rng(_SEED).permutation(len(labels))
    for step, share in enumerate(RUNGS):
        rows = np.sort(order[: max(n_classes, round(share * len(labels)))])
        if class_counts(labels[rows], n_classes).min() == 0:
            continue  # a class is missing: the score would say nothing about the model
        more = {} if weights is None else {"sample_weight": weights[rows]}
        yield step, f"{share:.0%} of the rows", partial(clone(model).fit, matrix[rows], labels[rows], **more)


def _after_epochs(
    model: Any, matrix: Any, labels: NDArray[np.int64], weights: NDArray[np.float64] | None
) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Yield the step, what is tried, and how to fit it: one copy of the model after one more pass over the rows."""
    from sklearn.base import clone
    from sklearn.utils import compute_class_weight

    classes = np.unique(labels)
    copy = clone(model)
    if getattr(copy, "early_stopping", False):
        copy.set_params(early_stopping=False)  # partial_fit has no end that could come early
    if getattr(copy, "class_weight", None) == "balanced":
        balanced = compute_class_weight("balanced", classes=classes, y=labels)
        copy.set_params(class_weight=dict(zip(classes.tolist(), balanced.tolist(), strict=True)))
    more = {} if weights is None else {"sample_weight": weights}
    for epoch in range(EPOCHS):
        learn = partial(copy.partial_fit, matrix, labels, classes=classes, **more)
        yield epoch, f"epoch {epoch + 1} of {EPOCHS}", learn


class SklearnRunner:
    """Runs one classical model, with a teacher's answers for the training rows where there are any."""

    def __init__(self, checked: CheckedConfig, *, soft: SoftTargets | None = None) -> None:
        self._checked = checked
        self._own = own_metrics(checked.run.evaluation.metrics)
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

        features = build_features(self._checked.plain["features"])
        model = safe_instantiate(self._checked.component("model"), "model")
        train = splits.train
        self._class_names = splits.class_names
        self._n_classes = len(splits.class_names)
        weights = self._weigh(model, train.labels)
        model = for_task(model, train.labels)
        notes: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with stages.stage("features", f"features ({self._checked.run.features.name}) of {len(train):,} texts"):
                    matrix = train.texts if features is None else features.fit_transform(train.texts, train.labels)
                    if features is not None:
                        check_fitted(features)
                self._report_early(model, matrix, features, splits, stages, weights)
                with stages.stage("fit", f"fitting {self._checked.run.model.name}"):
                    _fit(model, _following(model, matrix, splits), train.labels, self._soft, weights)
            except AgnewsError:
                raise
            except ValueError as error:
                raise self._explain(error, len(train)) from error
        for warning in caught:
            if issubclass(warning.category, UserWarning) and str(warning.message) not in notes:
                notes.append(str(warning.message))
        self._choose_thresholds(model, features, splits)
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

    def _weigh(self, model: Any, labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Give a model its class weights; return those of the rows, shape (n,), where it takes them in their place."""
        wanted = self._checked.run.model.class_weight
        weights = class_weights(wanted, labels, self._class_names)
        if weights is None or not hasattr(model, "class_weight"):
            return None if weights is None else weights[labels]
        model.set_params(class_weight=wanted if isinstance(wanted, str) else dict(enumerate(weights.tolist())))
        return None

    def _choose_thresholds(self, model: Any, features: Any, splits: Splits) -> None:
        """Choose how sure a model of sets must be of a class, on validation rows, where that is asked for."""
        rule, rows = self._checked.run.evaluation.thresholds, splits.validation
        if rule is not None:
            matrix = rows.texts if features is None else features.transform(rows.texts)
            metric = self._checked.run.evaluation.primary.partition("/")[2]
            model.thresholds_ = choose_thresholds(rows.labels, model.answer(matrix).confidences, rule, metric)

    def _report_early(
        self, model: Any, matrix: Any, features: Any, splits: Splits, stages: Stages, weights: Any
    ) -> None:
        """Tell a search that prunes how the model does on parts of the rows, before the full fit."""
        primary = self._checked.run.evaluation.primary
        if not stages.reports or features is None or self._soft is not None or not primary.startswith("val/"):
            return
        report_rungs(
            model, matrix, splits.train.labels, splits.validation, features.transform,
            lambda fitted, rows: predict_matrix(fitted, rows, self._n_classes),
            splits.class_names, find_objective(primary, splits.class_names, self._own, task_of(splits.train.labels)),
            stages, weights,
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
        """Answer texts with class indices alone, shape (n,), int64: cheaper where scores cost extra."""
        return np.asarray(self._model.predict(self._matrix_of(texts)), dtype=np.int64)

    def _matrix_of(self, texts: Sequence[str]) -> Any:
        if texts is self._train_texts:
            return self._train_matrix
        return list(texts) if self._features is None else self._features.transform(texts)

    def save(self, folder: Path) -> None:
        """Write the pipeline as skops."""
        save_pipeline(self.pipeline, folder, self._class_names)


def _following(model: Any, matrix: Any, splits: Splits) -> Any:
    """Return the training matrix; where a model divides its rows and the split has keys, with these."""
    if splits.split not in ("group", "time"):
        return matrix
    from agnews_exp.models.inner_folds import follow, with_keys

    if not follow(model, splits.split):
        return matrix
    if splits.train.keys is None:
        raise ConfigError(
            f"split={splits.split}: unlabelled rows have no {splits.split}, and the model divides its rows by it.",
            fix="model.unlabelled=null",
        )
    return with_keys(matrix, splits.train.keys)


def _fit(
    model: Any,
    matrix: Any,
    labels: NDArray[np.int64],
    soft: SoftTargets | None,
    weights: NDArray[np.float64] | None,
) -> None:
    """Fit a classifier on labels, or on soft targets: as such where it takes them, else as weighted copies of rows."""
    from sklearn.utils.validation import has_fit_parameter

    if soft is None:
        model.fit(matrix, labels, **({} if weights is None else {"sample_weight": weights}))
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
    """Let all fits inside count n-grams and embed texts once, and leave both in the cache for the next run.

    Texts are recognised as the vectorisers get them. Cleaned ones are prepared here only where folds make it pay.
    """
    from agnews_exp.features.preprocessing import TextPreprocessor
    from agnews_exp.features.sentence_embeddings import shared_vectors
    from agnews_exp.ngrams import shared_counts

    features = checked.run.features
    texts = [*splits.train.texts, *splits.validation.texts, *splits.test.texts]
    clean = TextPreprocessor(clean=features.clean, tokenizer=features.tokenizer, stemmer=features.stemmer)
    cache_dir = Path(checked.run.paths.cache_dir) / "features"
    with shared_vectors(cache_dir):
        if clean.clean != "none" or clean.tokenises:
            if not checked.run.evaluation.folds:
                yield
                return
            texts = list(clean.fit_transform(texts))
        with shared_counts(texts, cache_dir=cache_dir):
            yield
