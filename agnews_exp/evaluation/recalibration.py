"""Calibration before and after: fit calibrators on rows kept for it, choose on others, report on still others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import DataError, unknown_name
from agnews_exp.data.splits import cut_off
from agnews_exp.evaluation.calibration import CalibrationReport, calibration_report, expected_calibration_error
from agnews_exp.evaluation.calibrators import CALIBRATORS, Calibrator
from agnews_exp.evaluation.inputs import FloatArray, Result, class_indices, open_interval
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.proper_scores import brier_score, item_brier, item_nll, negative_log_likelihood
from agnews_exp.evaluation.score_calibration import (
    NONE,
    ScoreCalibration,
    ScoreSource,
    score_source,
    scores_for_calibration,
    uncalibrated,
)
from agnews_exp.evaluation.statistics.bootstrap import PairedBootstrap, bootstrap_mean_difference


@dataclass(frozen=True, eq=False)
class CalibrationChange(Result):
    """The effect of a calibrator on rows that fitted neither it nor the model."""

    after: CalibrationReport  # report on the calibrated probabilities
    nll: PairedBootstrap  # paired bootstrap of the negative log-likelihood, after minus before (below 0: better)
    brier: PairedBootstrap  # the same for the Brier score
    changed_predictions: float  # share of items whose most likely class changed


@dataclass(frozen=True)
class ChoiceScores(Result):
    """One candidate's scores on the rows that choose among the calibrators; lower is better."""

    nll: float  # negative log-likelihood, nats per item: what chooses
    brier: float  # Brier score
    ece: float  # expected calibration error, equally wide bins

    def worse_than(self, before: ChoiceScores) -> bool:
        """Return whether a calibrator with these scores does harm: raises log-loss or ECE."""
        return self.nll > before.nll or self.ece > before.ece


@dataclass(frozen=True, eq=False)
class CalibrationStudy(Result):
    """Several calibrators of one model: fitted, chosen and reported on three disjoint sets of rows."""

    source: ScoreSource  # the part of the model's answers that calibrators take
    before_is: str  # what the probabilities before are: the model's own, or the softmax of its scores
    n_fit: int  # validation rows that the calibrators were fitted on
    n_choose: int  # the other validation rows, which chose among them
    # Names of the classes without a row to fit on, whose probabilities calibrators leave alone.
    left_alone: tuple[str, ...]
    # Name of the calibrator with the lowest negative log-likelihood there, of those that make neither it nor the
    # expected calibration error worse; ``none`` keeps the before.
    chosen: str
    choice: dict[str, ChoiceScores]  # scores on these rows by candidate, ``none`` among them
    before: CalibrationReport  # report on the test rows without a calibrator
    changes: dict[str, CalibrationChange]  # the change on the test rows, by calibrator

    @property
    def refused(self) -> tuple[str, ...]:
        """Calibrators that were not applied, though their log-likelihood is better, for a worse calibration error."""
        before = self.choice[NONE]
        return tuple(name for name, after in self.choice.items() if after.nll < before.nll and after.ece > before.ece)

    @property
    def after(self) -> CalibrationReport:
        """Report on the test rows with the chosen calibrator."""
        return self.before if self.chosen == NONE else self.changes[self.chosen].after


def _fitted(name: str, scores: ArrayLike, labels: ArrayLike) -> Calibrator:
    if name not in CALIBRATORS:
        raise unknown_name("calibrator", name, list(CALIBRATORS))
    return CALIBRATORS[name]().fit(scores, labels)


def halves(
    labels: ArrayLike,
    share: float = 0.5,
    seed: int = 0,
    *,
    keys: Sequence[str] | None = None,
    split: str = "stratified",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows, of which class indices are given, in two as the run's split divides: by share of each class.

    Under ``group`` and ``time``, ``keys`` are the rows' groups or moments; the second part is the later one.

    Returns:
        Row numbers of the two parts, ascending. A class with one row has it in the first part.

    Raises:
        DataError: A part would be without rows of two classes.
    """
    classes = class_indices(labels, "labels")
    open_interval(share, "fit_share")
    rng = np.random.default_rng(seed)
    first = np.zeros(len(classes), dtype=bool)
    if keys is not None and split in ("group", "time"):
        first = ~cut_off(classes, keys, 1 - share, seed, split) if len(set(keys)) > 1 else first
    else:
        for label in np.unique(classes):
            rows = rng.permutation(np.flatnonzero(classes == label))
            taken = math.ceil(share * len(rows)) if len(rows) == 1 else round(share * len(rows))
            first[rows[:taken]] = True
    parts = np.flatnonzero(first), np.flatnonzero(~first)
    if min(len(np.unique(classes[part])) for part in parts) < 2:
        raise DataError(
            f"fit_share={share} leaves too few of the {len(classes)} validation rows on one side: both need rows of"
            " two classes or more",
            fix="fit_share=0.5, or a larger data.validation_size",
        )
    return parts


def study_calibration(
    validation: Predictions,
    validation_labels: ArrayLike,
    test: Predictions,
    test_labels: ArrayLike,
    class_names: Sequence[str],
    *,
    calibrators: Sequence[str] = tuple(CALIBRATORS),
    fit_share: float = 0.5,
    n_bins: int = 15,
    resamples: int = 2000,
    simulations: int = 1000,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    split: str = "stratified",
) -> tuple[ScoreCalibration, CalibrationStudy]:
    """Fit calibrators on one part of validation, choose on the other, report before and after on test.

    Answers and class indices are those of m validation rows, of which ``fit_share`` fits (see :func:`halves`), and of n
    test rows, which are reported on and nothing else; "none" competes with ``calibrators``, keys of ``CALIBRATORS``.
    One seed divides the rows, resamples and simulates.

    Returns:
        The chosen calibrator as fitted on the first part (so that its scores hold for it), and what was compared.

    Raises:
        DataError: Neither scores nor probabilities, or too few validation rows.
    """
    labels = class_indices(validation_labels, "validation_labels")
    source = score_source(validation)
    fit_rows, choose_rows = halves(labels, fit_share, seed, keys=keys, split=split)
    scores = scores_for_calibration(validation, source)
    fitted = {name: _fitted(name, scores[fit_rows], labels[fit_rows]) for name in calibrators}
    answers = {NONE: uncalibrated(validation)[0][choose_rows]}
    answers |= {name: calibrator.predict_proba(scores[choose_rows]) for name, calibrator in fitted.items()}
    choice = {name: choice_scores(labels[choose_rows], matrix, n_bins) for name, matrix in answers.items()}
    unharmed = {name: scores for name, scores in choice.items() if not scores.worse_than(choice[NONE])}
    chosen = min(unharmed, key=lambda name: unharmed[name].nll)
    left_alone = tuple(name for k, name in enumerate(class_names) if not np.any(labels[fit_rows] == k))

    def report(matrix: FloatArray) -> CalibrationReport:
        return calibration_report(test_labels, matrix, class_names, n_bins=n_bins, simulations=simulations, seed=seed)

    def difference(item_score: Callable[[ArrayLike, ArrayLike], FloatArray], metric: str) -> PairedBootstrap:
        values = item_score(test_labels, after), item_score(test_labels, before)
        return bootstrap_mean_difference(*values, name=metric, resamples=resamples, seed=seed)

    before, before_is = uncalibrated(test)
    test_scores = scores_for_calibration(test, source)
    changes = {}
    for name, calibrator in fitted.items():
        after = calibrator.predict_proba(test_scores)
        changed = float(np.mean(before.argmax(axis=1) != after.argmax(axis=1)))
        changes[name] = CalibrationChange(
            report(after), difference(item_nll, "nll"), difference(item_brier, "brier"), changed
        )
    study = CalibrationStudy(
        source, before_is, len(fit_rows), len(choose_rows), left_alone, chosen, choice, report(before), changes
    )
    return ScoreCalibration(chosen, source, fitted.get(chosen), tuple(class_names)), study


def choice_scores(labels: NDArray[np.int64], matrix: FloatArray, n_bins: int = 15) -> ChoiceScores:
    """Return the scores of probabilities, shape (n, K), on rows whose true classes have shape (n,)."""
    return ChoiceScores(
        negative_log_likelihood(labels, matrix),
        brier_score(labels, matrix),
        expected_calibration_error(labels, matrix, n_bins),
    )
