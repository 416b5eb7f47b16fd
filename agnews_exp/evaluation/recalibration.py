"""Calibration before and after: fit a calibrator on rows kept for it, report on others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.config.errors import unknown_name
from agnews_exp.evaluation.calibration import CalibrationReport, calibration_report
from agnews_exp.evaluation.calibrators import CALIBRATORS, Calibrator, softmax
from agnews_exp.evaluation.proper_scores import FloatArray, item_brier, item_nll
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_mean_difference
from agnews_exp.evaluation.statistics.inputs import Result, class_indices, probability_matrix
from agnews_exp.evaluation.statistics.intervals import PairedBootstrap


@dataclass(frozen=True, eq=False)
class CalibrationChange(Result):
    """Calibration before and after, on rows that fitted neither the model nor the calibrator.

    Attributes:
        calibrator: Its name.
        n_fit: Rows that the calibrator was fitted on.
        before: Report on the probabilities before.
        after: Report on the calibrated probabilities.
        nll: Paired bootstrap of the negative log-likelihood, after minus before (below 0: better).
        brier: The same for the Brier score.
        changed_predictions: Share of items whose most likely class changed.
    """

    calibrator: str
    n_fit: int
    before: CalibrationReport
    after: CalibrationReport
    nll: PairedBootstrap
    brier: PairedBootstrap
    changed_predictions: float


def calibrate(
    name: str,
    fit_scores: ArrayLike,
    fit_labels: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    class_names: tuple[str, ...] | None = None,
    n_bins: int = 15,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Calibrator, CalibrationChange]:
    """Fit a calibrator on some rows and report calibration before and after on others.

    Args:
        name: A key of ``CALIBRATORS``.
        fit_scores: Scores of the rows kept for calibration, shape (m, K).
        fit_labels: Their class indices.
        scores: Scores of the rows to report on, shape (n, K).
        labels: Their class indices.
        probabilities: The model's own probabilities of these rows; left out, the softmax of the scores.
        class_names: The K class names.
        n_bins: Number of bins.
        resamples: Bootstrap resamples.
        seed: Seed of resamples and simulations.
    """
    if name not in CALIBRATORS:
        raise unknown_name("calibrator", name, list(CALIBRATORS))
    calibrator = CALIBRATORS[name]().fit(fit_scores, fit_labels)
    before = softmax(scores) if probabilities is None else probability_matrix(probabilities)
    after = calibrator.predict_proba(scores)

    def report(matrix: FloatArray) -> CalibrationReport:
        return calibration_report(labels, matrix, class_names, n_bins=n_bins, seed=seed)

    def difference(item_score: Callable[[ArrayLike, ArrayLike], FloatArray], metric: str) -> PairedBootstrap:
        values = item_score(labels, after), item_score(labels, before)
        return bootstrap_mean_difference(*values, name=metric, resamples=resamples, seed=seed)

    return calibrator, CalibrationChange(
        calibrator=name,
        n_fit=len(class_indices(fit_labels, "fit_labels")),
        before=report(before),
        after=report(after),
        nll=difference(item_nll, "nll"),
        brier=difference(item_brier, "brier"),
        changed_predictions=float(np.mean(before.argmax(axis=1) != after.argmax(axis=1))),
    )
