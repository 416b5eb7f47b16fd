"""The runner of cascades and blends of two finished runs, fitted on validation rows only."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.evaluation.calibrators import CALIBRATORS
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.recalibration import choice_scores, halves
from agnews_exp.evaluation.routing import choose_threshold, routing_curve
from agnews_exp.evaluation.score_calibration import (
    NONE,
    ScoreCalibration,
    score_source,
    scores_for_calibration,
    uncalibrated,
)
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.answers import FittedModel, SourceRun
from agnews_exp.models.cascade import (
    PARTS,
    Blend,
    BlendModel,
    Cascade,
    CascadeModel,
    blend_inputs,
    confidence,
    routed,
    save_cascade,
)
from agnews_exp.models.loading import load_model
from agnews_exp.runners.protocol import FitSummary, Stages

TIMING = "cascade_timing.json"
"""The file of a run folder with both models' seconds a text, measured when the cascade was fitted."""


class CascadeRunner:
    """Runs ``model=cascade`` and ``model=blend`` on two finished runs, ``fast`` and ``accurate``."""

    def __init__(self, checked: CheckedConfig, sources: Mapping[str, SourceRun], folder: Path | None = None) -> None:
        self._checked = checked
        self._sources = sources
        self._folder = folder
        self._model: CascadeModel | BlendModel | None = None
        self._splits: Splits | None = None
        self._stored: list[tuple[Sequence[str], tuple[Predictions, Predictions]]] = []

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Fit calibrators and threshold (or the blend's weights) on validation rows.

        Raises:
            ConfigError: The two runs were judged on other rows than these.
        """
        for part in PARTS:
            self._check(part, splits)
        self._splits = splits
        recipe: Cascade | Blend = safe_instantiate(self._checked.component("model"), "model")
        with stages.stage("load_models", "loading the two models"):
            fast, accurate = (load_model(self._sources[part].model) for part in PARTS)
        answers = self._answers("val", splits.validation, splits.class_names)
        labels = splits.validation.labels
        seconds = self._time((fast, accurate), splits.validation.texts[: recipe.timing_rows], stages)
        fit_rows, choose_rows = halves(
            labels, recipe.fit_share, self._checked.run.split_seed, keys=splits.validation.keys, split=splits.split
        )
        with stages.stage("fit", f"fitting the {self._checked.run.model.name}"):
            metrics: dict[str, float] = {}
            notes: list[str] = []
            if isinstance(recipe, Blend):
                self._model = _fit_blend(recipe, (fast, accurate), answers, labels, fit_rows)
                unseen = [n for k, n in enumerate(splits.class_names) if not np.any(labels[fit_rows] == k)]
                notes = [f"No validation row of {', '.join(unseen)}: the blend never answers it."] if unseen else []
            else:
                self._model, metrics, notes = _fit_cascade(
                    recipe, (fast, accurate), answers, labels, fit_rows, choose_rows, seconds
                )
        metrics |= {f"cascade/{part}_ms": 1e3 * s for part, s in zip(PARTS, seconds, strict=True)}
        metrics["cascade/price_per_hour"] = recipe.price_per_hour
        return FitSummary(metrics, notes)

    def _check(self, part: str, splits: Splits) -> None:
        source = self._sources[part]
        if source.evaluation_checksum != splits.evaluation_checksum() or source.class_names != splits.class_names:
            raise ConfigError(
                f"model.{part}={source.name} was judged on other validation or test rows than this run's.",
                fix="give both runs and this one the same data, split_seed and data.validation_size",
            )

    def _answers(self, split: str, rows: TextRows, names: tuple[str, ...]) -> tuple[Predictions, Predictions]:
        """Return both models' stored answers: they were computed when the runs were judged."""
        one, other = (read_predictions(self._sources[part].predictions, split, rows, names) for part in PARTS)
        self._stored.append((rows.texts, (one, other)))
        return one, other

    def _time(self, models: tuple[FittedModel, FittedModel], texts: list[str], stages: Stages) -> tuple[float, float]:
        """Return the seconds a text of both models, in one batch of ``texts``."""
        with stages.stage("time_models", f"timing both models on {len(texts)} validation texts"):
            seconds = []
            for part, model in zip(PARTS, models, strict=True):
                if model.family == "llm":  # its answers to these texts are on the disk
                    seconds.append(1 / self._sources[part].metrics["throughput_batch"])
                    continue
                model.predict(texts[:8])
                start = time.perf_counter()
                model.predict(texts)
                seconds.append((time.perf_counter() - start) / len(texts))
        if self._folder is not None:
            note = dict(zip(PARTS, seconds, strict=True)) | {"texts": len(texts)}
            (self._folder / TIMING).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        return seconds[0], seconds[1]

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; rows that both runs have answered before are not computed again."""
        model = self._model
        assert model is not None, "fit() first"
        assert self._splits is not None
        if texts is self._splits.test.texts and not any(texts is known for known, _ in self._stored):
            self._answers("test", self._splits.test, self._splits.class_names)
        for known, (one, other) in self._stored:
            if texts is known:
                return combine(model, one, other)
        return model.predict(texts)

    def save(self, folder: Path) -> None:
        """Write both models and how they are combined."""
        assert self._model is not None, "fit() first"
        save_cascade(self._model, folder, (self._sources["fast"].model, self._sources["accurate"].model))


def combine(model: CascadeModel | BlendModel, one: Predictions, other: Predictions) -> Predictions:
    """Return the answers of a cascade or blend from both models' answers for the same rows."""
    if isinstance(model, BlendModel):
        return model.combined(one, other)
    first, second = (c.apply(answer) for c, answer in zip(model.calibrations, (one, other), strict=True))
    return routed(first, second, model.asked(first))


def _calibration(
    name: str, answer: Predictions, labels: NDArray[np.int64], rows: NDArray[np.int64], names: tuple[str, ...]
) -> ScoreCalibration:
    source = score_source(answer)
    if name == NONE:
        return ScoreCalibration(NONE, source, None, names)
    scores = scores_for_calibration(answer, source)
    return ScoreCalibration(name, source, CALIBRATORS[name]().fit(scores[rows], labels[rows]), names)


def _unless_harmful(
    calibration: ScoreCalibration, answer: Predictions, labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> ScoreCalibration:
    """Return the calibration, or none where it makes probabilities worse on rows that it was not fitted on."""
    before, after = (
        choice_scores(labels[rows], matrix[rows])
        for matrix in (uncalibrated(answer)[0], calibration.probabilities(answer))
    )
    return (
        ScoreCalibration(NONE, calibration.source, None, calibration.class_names)
        if after.worse_than(before)
        else calibration
    )


def _fit_cascade(
    recipe: Cascade,
    models: tuple[FittedModel, FittedModel],
    answers: tuple[Predictions, Predictions],
    labels: NDArray[np.int64],
    fit_rows: NDArray[np.int64],
    choose_rows: NDArray[np.int64],
    seconds: tuple[float, float],
) -> tuple[CascadeModel, dict[str, float], list[str]]:
    names = models[0].class_names
    one, other = (_calibration(recipe.calibrator, a, labels, fit_rows, names) for a in answers)
    one, other = (_unless_harmful(c, a, labels, choose_rows) for c, a in zip((one, other), answers, strict=True))
    first, second = one.apply(answers[0]), other.apply(answers[1])
    truth = labels[choose_rows]
    curve = routing_curve(
        confidence(first)[choose_rows], first.labels[choose_rows] == truth, second.labels[choose_rows] == truth
    )
    costs = [s * 1e6 / 3600 * recipe.price_per_hour for s in seconds]
    choice = choose_threshold(curve, recipe.target, recipe.value, fast_cost=costs[0], accurate_cost=costs[1])
    metrics = {
        "cascade/threshold": min(choice.threshold, 1.0),
        "cascade/val_escalation_rate": choice.escalation_rate,
        "cascade/val_accuracy": choice.accuracy,
    }
    unseen = [name for k, name in enumerate(names) if not np.any(labels[fit_rows] == k)]
    notes = [f"No validation row to calibrate on: {', '.join(unseen)}; left alone."] if unseen else []
    notes += [
        f"model.calibrator={recipe.calibrator} raises log-loss or ECE of model.{part} on validation rows that it was "
        "not fitted on: not applied."
        for part, calibration in zip(PARTS, (one, other), strict=True)
        if calibration.name != recipe.calibrator
    ]
    if not choice.reached:
        notes.append(
            f"No threshold reaches {recipe.target} {recipe.value:g} on the validation rows; "
            f"taken: accuracy {choice.accuracy:.4f} with {choice.escalation_rate:.1%} handed over."
        )
    return CascadeModel(*models, (one, other), choice.threshold), metrics, notes


def _fit_blend(
    recipe: Blend,
    models: tuple[FittedModel, FittedModel],
    answers: tuple[Predictions, Predictions],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> BlendModel:
    from sklearn.linear_model import LogisticRegression

    names = models[0].class_names
    one, other = (_calibration("temperature", a, labels, rows, names) for a in answers)
    inputs = blend_inputs((one, other), *answers)
    fitted: Any = LogisticRegression(C=recipe.C, max_iter=1000).fit(inputs[rows], labels[rows])
    k = len(names)
    coefficients, intercepts = np.zeros((inputs.shape[1], k)), np.full(k, -50.0)
    present = fitted.classes_
    weights, offsets = fitted.coef_, fitted.intercept_
    if len(present) == 2:  # scikit-learn then keeps one row: the difference of the two classes
        weights, offsets = np.vstack([-weights, weights]) / 2, np.hstack([-offsets, offsets]) / 2
    coefficients[:, present], intercepts[present] = weights.T, offsets
    return BlendModel(*models, (one, other), coefficients, intercepts)
