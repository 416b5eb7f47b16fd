"""Calibration of a run's probabilities, before and after the calibrator that its validation rows choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.findings import Block, Cell, Column, Findings, Number, Table, Text
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.calibration import CalibrationReport, confidences
from agnews_exp.evaluation.conformal import METHODS, prediction_sets, set_thresholds
from agnews_exp.evaluation.inputs import FloatArray, plain
from agnews_exp.evaluation.recalibration import CalibrationStudy, study_calibration
from agnews_exp.evaluation.reliability import ReliabilityCurve, consistency_bars, reliability_curve
from agnews_exp.evaluation.score_calibration import NONE, save_calibrator, uncalibrated
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval

CALIBRATOR = "calibrator.json"
"""The chosen calibrator's parameters, for :func:`agnews_exp.evaluation.score_calibration.load_calibrator`."""

_MOST_CLASSES = 12

Name = Literal["platt", "isotonic", "temperature", "vector"]


@analysis("calibration", title="How far its probabilities can be trusted")
def analyse(
    context: AnalysisContext,
    *,
    calibrators: Annotated[tuple[Name, ...], Field(min_length=1)] = ("platt", "isotonic", "temperature", "vector"),
    fit_share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    n_bins: Annotated[int, Field(ge=2, le=100)] = 15,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    simulations: Annotated[int, Field(ge=100)] = 1000,
    sets: Annotated[float, Field(gt=0, lt=1)] | None = 0.95,
) -> Findings:
    """Fit calibrators on a part of validation, choose on the rest, report on test before and after.

    The division of the validation rows follows the run's ``split_seed``, so that all models of one comparison calibrate
    on the same rows. Options: conf/evaluation/analyses/calibration.yaml.

    Returns:
        ``test/<figure>_before``, ``_after`` (the chosen calibrator) and ``_<calibrator>``; ``test/set_coverage_<kind>``
        and ``test/set_size_<kind>`` of the prediction sets.

    Raises:
        DataError: The model gives labels only, or validation is too small to divide.
    """
    validation, test = context.answers["val"], context.answers["test"]
    seed = context.checked.run.split_seed
    labels, names = context.splits.test.labels, context.splits.class_names
    chosen, study = study_calibration(
        validation, context.splits.validation.labels, test, labels, names,
        calibrators=calibrators, fit_share=fit_share, n_bins=n_bins, resamples=resamples, simulations=simulations,
        seed=seed, keys=context.splits.validation.keys, split=context.splits.split,
    )  # fmt: skip
    save_calibrator(context.folder / CALIBRATOR, chosen)
    after_is = "no calibrator is better" if study.chosen == NONE else f"after {study.chosen}"
    matrices = {f"before: {study.before_is}": uncalibrated(test)[0], after_is: chosen.probabilities(test)}
    curves, bars = {}, {}
    for title, matrix in matrices.items():
        confidence, right = confidences(labels, matrix)
        curves[title] = reliability_curve(confidence, right, n_bins)
        low, high = consistency_bars(confidence, curves[title], simulations=simulations, seed=seed)
        bars[title] = {"low": low, "high": high}
    blocks: list[Block] = [
        *_tables(study),
        *(_reliability(i, title, curve, **bars[title]) for i, (title, curve) in enumerate(curves.items())),
        _confidences(labels, matrices, n_bins),
        _by_class(labels, matrices, names, n_bins),
        *map(Text, _notes(study, n_bins)),
    ]
    details: dict[str, Any] = study.to_dict() | {
        "consistency_bars": plain(bars),
        "calibrator": CALIBRATOR,
        "seed": seed,
    }
    metrics = _metrics(study)
    if sets is not None:
        table, numbers, details["sets"] = _sets(context, sets)
        blocks.append(table)
        metrics |= numbers
    return Findings(_headline(study), tuple(blocks), metrics, details)


def _sets(context: AnalysisContext, coverage: float) -> tuple[Table, dict[str, float], dict[str, Any]]:
    """Return what conformal sets of each kind hold on test, in a table and in numbers, and their thresholds."""
    before = [uncalibrated(context.answers[split])[0] for split in ("val", "test")]
    validation, test = context.splits.validation.labels, context.splits.test.labels
    rows: list[tuple[Cell, ...]] = []
    numbers: dict[str, float] = {}
    stored: dict[str, Any] = {}
    for method in METHODS:
        thresholds = set_thresholds(validation, before[0], coverage, method)
        chosen = prediction_sets(before[1], thresholds, method)
        held, sizes = chosen[np.arange(len(test)), test], chosen.sum(axis=1)
        by_class = [float(held[test == k].mean()) for k in np.unique(test)]
        found = accuracy_interval(int(held.sum()), len(held))
        share = Number(found.estimate, "share", found.low, found.high)
        rows.append((method, share, min(by_class), float(sizes.mean()), float((sizes == 1).mean()),
                     float((sizes == 0).mean())))  # fmt: skip
        numbers |= {f"test/set_coverage_{method}": found.estimate, f"test/set_size_{method}": float(sizes.mean())}
        stored[method] = {"coverage": coverage, "thresholds": plain(thresholds)}
    note = (
        f"A set shall hold the true class in {coverage:.0%} of all texts (class: of each class). Thresholds come from"
        f" {len(validation):,} validation rows and hold if new texts are like these and if the rows chose little."
    )
    columns = ("kind", "holds the true class [95 %]", Column("of the worst class", "share"), Column("mean size", ".2f"),
               Column("one class", "share"), Column("empty", "share"))  # fmt: skip
    return (
        Table("prediction_sets", "Conformal prediction sets on test", columns, tuple(rows), note=note),
        numbers,
        stored,
    )


def _reliability(place: int, title: str, curve: ReliabilityCurve, low: FloatArray, high: FloatArray) -> Chart:
    """Return accuracy against confidence by bin, beside what calibrated confidences would show."""
    used = curve.count > 0
    x = tuple(curve.mean_forecast[used].tolist())
    middle = tuple(((low + high) / 2)[used].tolist())
    ends = tuple(low[used].tolist()), tuple(high[used].tolist())
    observed = Series(
        "observed", x, tuple(curve.frequency[used].tolist()),
        tuple(curve.frequency_low[used].tolist()), tuple(curve.frequency_high[used].tolist()),
        tuple(f"{n:,} rows" for n in curve.count[used].tolist()),
    )  # fmt: skip
    expected = Series("were it calibrated", x, middle, *ends, published=True)
    return Chart(
        f"reliability_{('before', 'after')[place]}", f"Reliability on test, {title}", "points",
        "confidence (largest probability)", "accuracy in the bin", (observed, expected),
        intervals="Observed: 95 % Wilson interval. Grey: 95 % of models that are calibrated perfectly.",
        caption=f"ECE {Number(curve.expected_error)}; below the line the model claims too much.",
        diagonal=True, x_range=(0.0, 1.02), y_range=(-0.02, 1.02),
    )  # fmt: skip


def _confidences(labels: NDArray[np.int64], matrices: Mapping[str, FloatArray], n_bins: int) -> Chart:
    """Return the histogram of confidences of right and wrong answers."""
    edges = np.linspace(0, 1, n_bins + 1)
    centres = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    series = []
    for title, matrix in matrices.items():
        confidence, right = confidences(labels, matrix)
        for name, rows in (("right", right), ("wrong", ~right)):
            counts = np.histogram(confidence[rows], edges)[0]
            series.append(Series(name, centres, tuple(map(float, counts)), panel=title))
    return Chart(
        "confidences", "Confidence of right and wrong answers on test", "columns", "confidence", "rows (log scale)",
        tuple(series), intervals="Counts of the test rows: no interval.", log_y=True, x_range=(0.0, 1.0),
    )  # fmt: skip


def _by_class(
    labels: NDArray[np.int64], matrices: Mapping[str, FloatArray], class_names: Sequence[str], n_bins: int
) -> Chart:
    """Return each class's probability against its frequency, one against rest: a panel a class, at most twelve."""
    series = []
    for k, name in enumerate(class_names[:_MOST_CLASSES]):
        for title, matrix in matrices.items():
            curve = reliability_curve(matrix[:, k], labels == k, n_bins, "equal_mass")
            used = curve.count > 0
            points = tuple(curve.mean_forecast[used].tolist()), tuple(curve.frequency[used].tolist())
            series.append(Series(title, *points, dashed=title.startswith("before"), panel=name))
    return Chart(
        "reliability_by_class", "Reliability of each class on test, one against the rest", "lines",
        "mean probability of the class in the bin", "frequency of the class", tuple(series),
        intervals="Bins of equally many rows; no intervals, to keep the lines apart.",
        diagonal=True, x_range=(0.0, 1.0), y_range=(0.0, 1.0),
    )  # fmt: skip


def _metrics(study: CalibrationStudy) -> dict[str, float]:
    reports = {"before": study.before, "after": study.after}
    reports |= {name: change.after for name, change in study.changes.items()}
    values: dict[str, float] = {}
    for name, report in reports.items():
        figures = {"ece": report.ece, "nll": report.nll, "brier": report.brier.brier}
        if name in ("before", "after"):
            figures |= dict(zip(("ece_low", "ece_high"), report.ece_interval, strict=True))
            figures |= {"ece_equal_mass": report.ece_equal_mass, "ace": report.ace, "mce": report.mce}
            figures |= {"classwise_ece": report.classwise_ece}
            figures |= {"brier_reliability": report.brier.reliability, "brier_resolution": report.brier.resolution}
        values |= {f"test/{figure}_{name}": value for figure, value in figures.items()}
    return values


def _headline(study: CalibrationStudy) -> str:
    before, after = study.before, study.after
    if study.chosen == NONE:
        return f"No calibrator improves on {study.before_is}: ECE {_ece(before)} on test, NLL {Number(before.nll)}."
    return (
        f"Calibration by {study.chosen} takes the test ECE from {_ece(before)} to {_ece(after)} and the "
        f"NLL from {Number(before.nll)} to {Number(after.nll)}."
    )


def _ece(report: CalibrationReport) -> Number:
    return Number(report.ece, "metric", *report.ece_interval)


def _tables(study: CalibrationStudy) -> list[Table]:
    before = study.before
    reports = {NONE: before} | {name: change.after for name, change in study.changes.items()}
    named = {name: f"before: {study.before_is}" if name == NONE else name for name in reports}
    scores: list[tuple[Cell, ...]] = []
    errors: list[tuple[Cell, ...]] = []
    for name, r in reports.items():
        change, is_chosen = study.changes.get(name), "chosen" if name == study.chosen else ""
        moved = Number(change.nll.difference.estimate, "change", *change.nll.difference.percentile) if change else None
        scores.append((named[name], is_chosen, study.choice[name].nll, r.nll, moved, r.brier.brier, r.accuracy))
        errors.append(
            (named[name], _ece(r), r.ece_equal_mass, r.ace, r.classwise_ece, r.mce, Number(r.overconfidence, "change"))
        )
    meanings = {
        "reliability": "distance of forecast and frequency; 0 is calibrated",
        "resolution": "how far forecasts tell items apart; larger is better",
        "uncertainty": "of the classes themselves; the same for every model",
        "binning": "what bins leave out",
    }
    parts = tuple((p, getattr(before.brier, p), getattr(study.after.brier, p), why) for p, why in meanings.items())

    def metrics(*titles: str) -> tuple[Column, ...]:
        return tuple(Column(title, "metric") for title in titles)

    return [
        Table(
            "calibration", f"Calibration on {before.n_items:,} test rows",
            ("probabilities", "choice", *metrics("NLL, choosing rows", "NLL"), "change of NLL",
             *metrics("Brier", "accuracy")),
            tuple(scores), note="95 % paired bootstrap intervals of the change.",
        ),
        Table(
            "calibration_errors", "Calibration errors on test",
            ("probabilities", *metrics("ECE", "ECE, equal mass", "ACE", "class-wise ECE", "MCE"),
             "confidence − accuracy"), tuple(errors),
            note="95 % interval of the ECE: its lower end allows for what chance adds, its upper end does not.",
        ),
        Table("brier", "The Brier score's parts", ("part", *metrics("before", "after"), "meaning"), parts),
    ]  # fmt: skip


def _notes(study: CalibrationStudy, n_bins: int) -> list[str]:
    notes = [
        f"Calibrators took {study.source.replace('_', ' ')}: fitted on {study.n_fit:,} validation rows, chosen by NLL"
        f" on {study.n_choose:,} others. The test rows fitted and chose nothing."
    ]
    for when, report in (("Before", study.before), ("After", study.after)):
        t = report.test
        fits = "more than chance explains" if t.p_value <= 0.05 else "no more than chance explains"
        notes.append(
            f"{when}: ECE {t.ece:.4f}; perfectly calibrated confidences would show {t.expected_when_calibrated:.4f} on"
            f" these rows with {n_bins} bins (p = {t.p_value:.2g}): {fits}."
        )
    if study.before_is == "softmax of decision scores":
        notes.append(
            "Decision scores are margins without a unit: their softmax only says what not calibrating would mean, it is"
            " no claim that the model makes."
        )
    if study.left_alone:
        notes.append(
            f"No validation row to fit on: {', '.join(study.left_alone)}. Calibrators leave the probability of such a"
            " class alone and share out the rest."
        )
    if study.refused:
        notes.append(
            f"Not applied, for it makes the ECE of the choosing rows worse: {', '.join(study.refused)}"
            f" (before {Number(study.choice[NONE].ece)})."
        )
    if study.chosen == NONE:
        notes.append("No calibrator improved NLL without harm to the ECE: the probabilities stay as they are.")
    elif changed := study.changes[study.chosen].changed_predictions:
        notes.append(f"The chosen calibrator changes the most likely class of {changed:.2%} of the test rows.")
    notes.append("MCE is the worst bin's gap, and a bin of few items decides it; ECE alone is best for a constant.")
    return notes
