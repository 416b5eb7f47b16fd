"""Calibration: how far confidences can be trusted, from the stored probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.calibration import confidences, expected_calibration_error
from agnews_exp.evaluation.proper_scores import labelled_probabilities
from agnews_exp.evaluation.reliability import reliability_curve
from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.answers import Answers
from agnews_exp.report.content import (
    Block,
    Cell,
    Chart,
    Missing,
    Section,
    Series,
    Stored,
    Table,
    number,
    text,
)
from agnews_exp.report.inputs import Inputs, System
from agnews_exp.report.origin import WILSON, origin

_BINS, _MOST = 10, 20


def calibration(inputs: Inputs) -> Section:
    """Return reliability of the best classical model and transformer with probabilities, ECE of all."""
    found: list[tuple[System, Answers]] = []
    for system in inputs.systems:
        answers = system.first.answers("test")
        if answers is not None and answers.given.probabilities is not None:
            found.append((system, answers))
    blocks: list[Block] = []
    if not found:
        blocks.append(Missing("None of these runs stores probabilities.", "python run.py model=logreg"))
    else:
        blocks += _charts(found)
        blocks.append(_table(found[:_MOST]))
    blocks.append(_study())
    analysed = inputs.with_analysis("calibration")
    if not analysed:
        blocks.append(Missing("No calibrator has been fitted to a run's validation rows.", "agnews calibrate RUN"))
    else:
        blocks.append(_calibrated(inputs))
    blocks += [Stored(f"Calibration: {run.name}", run.summary("calibration"), origin([run])) for run in analysed[:4]]
    return Section("calibration", "Calibration", tuple(blocks))


def _charts(found: list[tuple[System, Answers]]) -> list[Chart]:
    shown: dict[str, tuple[System, Answers]] = {}
    for system, answers in found:
        shown.setdefault(system.first.family, (system, answers))
    curves, histograms, means = [], [], []
    for system, answers in shown.values():
        confidence, right = confidences(answers.labels, _probabilities(answers))
        curve = reliability_curve(confidence, right, _BINS)
        used = curve.count > 0
        curves.append(
            Series(
                system.label,
                tuple(curve.mean_forecast[used].tolist()),
                tuple(curve.frequency[used].tolist()),
                tuple(curve.frequency_low[used].tolist()),
                tuple(curve.frequency_high[used].tolist()),
                tuple(
                    f"{n:,} rows: confidence {c:.3f}, accuracy {f:.3f}"
                    for n, c, f in zip(
                        curve.count[used].tolist(), curve.mean_forecast[used], curve.frequency[used], strict=True
                    )
                ),
            )
        )
        centres = tuple(float(v) for v in (curve.lower + curve.upper) / 2)
        histograms.append(Series(system.label, centres, tuple((curve.count / curve.count.sum()).tolist())))
        parts = [("all", np.ones_like(right)), ("right", right), ("wrong", ~right)]
        rows = [_quartiles(confidence[at]) for _, at in parts if at.any()]
        names = tuple(name for name, at in parts if at.any())
        middle, low, high = zip(*rows, strict=True)
        means.append(Series(system.label, middle, names, low, high))
    made = origin([system.first for system, _ in shown.values()])
    return [
        Chart(
            "reliability",
            f"Reliability on test, {_BINS} bins",
            "points",
            "mean confidence of the bin",
            "accuracy of the bin",
            tuple(curves),
            made,
            intervals=WILSON,
            diagonal=True,
            covers=("F25",),
        ),
        Chart(
            "confidence",
            "Confidence on test",
            "columns",
            "confidence",
            "share of rows",
            tuple(histograms),
            made,
            intervals="Shares of all rows: no interval.",
            covers=("F25",),
        ),
        Chart(
            "confidence_by_answer",
            "Confidence of right and wrong answers",
            "dots",
            "confidence",
            "",
            tuple(means),
            made,
            intervals="Mark: median; bars: quartiles of the rows, no interval of an estimate.",
            covers=("F25",),
        ),
    ]


def _probabilities(answers: Answers) -> NDArray[np.float64]:
    assert answers.given.probabilities is not None  # only such answers are collected
    return np.asarray(answers.given.probabilities, dtype=np.float64)


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def _table(found: list[tuple[System, Answers]]) -> Table:
    header = ("system", "ECE, 15 bins", "ECE, equal mass", "Brier", "log-loss", "mean confidence", "accuracy")
    rows = []
    for system, answers in found:
        truth, matrix = labelled_probabilities(answers.labels, _probabilities(answers))
        sure, right = confidences(truth, matrix)
        brier = float(np.mean(np.sum((matrix - np.eye(matrix.shape[1])[truth]) ** 2, axis=1)))
        rows.append(
            (
                text(system.label),
                number(expected_calibration_error(truth, matrix)),
                number(expected_calibration_error(truth, matrix, binning="equal_mass")),
                number(brier),
                number(system.first.metrics.get("test/log_loss")),
                number(float(sure.mean())),
                number(float(right.mean())),
            )
        )
    made = origin([system.first for system, _ in found])
    note = (
        "Stored probabilities as the models give them. Margins of linear SVMs are no probabilities and are not listed."
    )
    return Table("calibration_table", "Calibration on test", header, tuple(rows), made, note, ("T24",))


def _calibrated(inputs: Inputs) -> Table:
    rows: list[tuple[Cell, ...]] = []
    runs = inputs.with_analysis("calibration")
    for run in runs:
        details = (run.analysis("calibration") or {}).get("details", {})
        chosen = details.get("chosen")
        for name, change in (details.get("changes") or {}).items():
            before, after = change["before"], change["after"]
            nll = change["nll"]["difference"]
            low, high = nll["percentile"]
            rows.append(
                (
                    text(run.name),
                    text(f"{name} (chosen)" if name == chosen else name),
                    number(before["ece"]),
                    number(after["ece"]),
                    Cell(f"{nll['estimate']:+.4f} [{low:+.4f}, {high:+.4f}]", nll["estimate"]),
                    number(before["accuracy"]),
                    number(after["accuracy"]),
                )
            )
    header = (
        "run",
        "calibrator",
        "ECE before",
        "ECE after",
        "change of log-loss [95 %]",
        "accuracy before",
        "accuracy after",
    )
    note = "Fitted and chosen on validation rows; test rows only judge. A smaller ECE needs no better accuracy."
    return Table("calibrators", "Calibrators, on test", header, tuple(rows), origin(runs), note, ("T24",))


def _study() -> Table:
    rows = tuple(
        (
            text(line["system"]),
            text(line["quantity"]),
            number(float(line["notebook"]) if line["notebook"] else None),
            number(float(line["report"]) if line["report"] else None),
        )
        for line in published("calibration")
    )
    header = ("system", "quantity", "study, notebook: validation", "study, report")
    note = (
        "Numbers of the report without one in the notebook were computed nowhere; the notebook's are"
        " of validation rows."
    )
    return Table("calibration_study", "The study's calibration numbers", header, rows, origin([]), note, ("T24",))
