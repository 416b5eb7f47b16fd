"""How far confidences can be trusted, from the stored probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.findings import Block, Column, Missing, Table
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.calibration import confidences, expected_calibration_error
from agnews_exp.evaluation.proper_scores import labelled_probabilities
from agnews_exp.evaluation.reliability import reliability_curve
from agnews_exp.report.blocks import WILSON, Section, origin
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.systems import Answers, System

_BINS, _MOST = 10, 20


def calibration(inputs: Inputs) -> Section:
    """Return reliability on test of the best system of each family that stores probabilities, and ECE of all."""
    found = [
        (system, answers)
        for system in (inputs.chosen, *(s for s in inputs.systems if s is not inputs.chosen))
        if (answers := system.first.answers("test")) is not None and answers.given.probabilities is not None
    ]
    if not found:
        missing = Missing("None of these runs stores probabilities.", "python run.py model=logreg")
        return Section("calibration", "Calibration", (missing,))
    shown: dict[str, tuple[System, Answers]] = {}
    for system, answers in found:
        shown.setdefault(system.first.family, (system, answers))
    reliability, *charts = _charts(list(shown.values()))
    return Section("calibration", "Calibration", (reliability, _table(found[:_MOST])), tuple(charts))


def _charts(found: list[tuple[System, Answers]]) -> list[Block]:
    curves, histograms, means = [], [], []
    for system, answers in found:
        confidence, right = confidences(answers.labels, _probabilities(answers))
        curve = reliability_curve(confidence, right, _BINS)
        used = curve.count > 0
        x, y, low, high, n = (
            tuple(values[used].tolist())
            for values in (curve.mean_forecast, curve.frequency, curve.frequency_low, curve.frequency_high, curve.count)
        )
        said = tuple(f"{rows:,} rows: confidence {a:.3f}, accuracy {b:.3f}" for rows, a, b in zip(n, x, y, strict=True))
        curves.append(Series(system.label, x, y, low, high, said))
        centres = tuple(((curve.lower + curve.upper) / 2).tolist())
        histograms.append(Series(system.label, centres, tuple((curve.count / curve.count.sum()).tolist())))
        parts = {name: at for name, at in (("all", right | ~right), ("right", right), ("wrong", ~right)) if at.any()}
        quartiles = np.array([np.quantile(confidence[at], [0.5, 0.25, 0.75]) for at in parts.values()])
        middle, first, third = (tuple(values) for values in quartiles.T.tolist())
        means.append(Series(system.label, middle, tuple(parts), first, third))
    made = origin([system.first for system, _ in found])
    return [
        Chart(
            "reliability", f"Reliability on test, {_BINS} bins", "points", "mean confidence of the bin",
            "accuracy of the bin", tuple(curves), made, WILSON,
            "Marks below the diagonal: the model is surer than it is right.", diagonal=True,
            x_range=(0.0, 1.0), y_range=(0.0, 1.0),
        ),
        Chart(
            "confidence", "Confidence on test", "columns", "confidence", "share of rows", tuple(histograms), made,
            "Shares of all rows: no interval.", "How often the model is how sure.",
        ),
        Chart(
            "confidence_by_answer", "Confidence of right and wrong answers", "dots", "confidence", "", tuple(means),
            made,
            "Mark: median; bars: quartiles of the rows.", "The further apart, the better confidence sorts out errors.",
        ),
    ]  # fmt: skip


def _probabilities(answers: Answers) -> NDArray[np.float64]:
    assert answers.given.probabilities is not None  # only such answers are collected
    return np.asarray(answers.given.probabilities, dtype=np.float64)


def _table(found: list[tuple[System, Answers]]) -> Table:
    rows = []
    for system, answers in found:
        truth, matrix = labelled_probabilities(answers.labels, _probabilities(answers))
        sure, right = confidences(truth, matrix)
        brier = float(np.mean(np.sum((matrix - np.eye(matrix.shape[1])[truth]) ** 2, axis=1)))
        errors = [
            expected_calibration_error(truth, matrix),
            expected_calibration_error(truth, matrix, binning="equal_mass"),
        ]
        log_loss = system.first.metrics.get("test/log_loss")
        rows.append((system.label, *errors, brier, log_loss, float(sure.mean()), float(right.mean())))
    names = ("ECE, 15 bins", "ECE, equal mass", "Brier", "log-loss", "mean confidence", "accuracy")
    columns: tuple[Column | str, ...] = ("system", *(Column(name, "metric") for name in names))
    note = "Probabilities as the models give them. Margins of linear SVMs are no probabilities and are not listed."
    made = origin([system.first for system, _ in found])
    return Table("calibration_table", "Calibration on test", columns, tuple(rows), provenance=made, note=note)
