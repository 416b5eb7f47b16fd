"""The answers on test rows: where the chosen system errs, and how far confidences can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.findings import Block, Cell, Column, Missing, Number, Table
from agnews_exp.data.stratification import class_counts
from agnews_exp.drawing import Chart, Series, matrix_chart
from agnews_exp.evaluation.calibration import confidences, error_interval, expected_calibration_error
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.evaluation.proper_scores import labelled_probabilities
from agnews_exp.evaluation.reliability import reliability_curve
from agnews_exp.evaluation.statistics.effect_size import accuracy_interval
from agnews_exp.evaluation.stored_answers import StoredAnswers
from agnews_exp.report.blocks import BOOTSTRAP, WILSON, Section, filled, origin, run_score, slug
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.systems import System

_MOST_CLASSES, _MOST_PAIRS, _DRAWN_PAIRS = 20, 30, 15


def errors(inputs: Inputs) -> Section:
    """Return F1 by class and confusions of the chosen system, beside the best of the other family."""
    others = [inputs.best_of(family) for family in ("classical", "transformer") if family != inputs.chosen.first.family]
    named = [
        (system, answers)
        for system in (inputs.chosen, *others)
        if system is not None and (answers := system.first.answers("test")) is not None
    ]
    if not named:
        missing = Missing("The stored test answers are gone.", f"{inputs.chosen.first.command} force=true")
        return Section("errors", "Errors", (missing,))
    matrices = [chart for system, answers in named if (chart := _matrix(system, answers)) is not None]
    shown: list[Block] = [_by_class([system for system, _ in named]), *matrices[:1]]
    systems = [system for system, _ in named]
    shown += [
        table
        for table in (_thresholds(systems), _costs(systems), _clusters(systems), _slices(systems))
        if table is not None
    ]
    more: list[Block] = [*matrices[1:], _class_table([system for system, _ in named]), *_pairs(named)]
    if (crossed := _out_of_fold(inputs)) is not None:
        more.append(crossed)
    return Section("errors", "Errors", tuple(shown), tuple(more))


def _counts(answers: StoredAnswers, n_classes: int) -> NDArray[np.int64]:
    return answers.given.task.matrix(answers.labels, answers.given.labels, n_classes)


def _matrix(system: System, answers: StoredAnswers) -> Chart | None:
    run = system.first
    if len(run.class_names) > _MOST_CLASSES:
        return None
    counts = _counts(answers, len(run.class_names))
    title = f"{run.task.matrix_title} on test: {system.label}"
    return matrix_chart(f"confusion_{slug(run.family)}", title, counts, run.class_names, provenance=origin([run]))


def _thresholds(systems: Sequence[System]) -> Table | None:
    """Return what chosen thresholds of sets change on test; None without evaluation.thresholds."""
    rows: list[tuple[Cell, ...]] = []
    for system in systems:
        chosen = system.first.result.get("thresholds") or {}
        if found := chosen.get("splits", {}).get("test"):
            change = Number(found["difference"], "change", found["low"], found["high"])
            rows.append((system.label, chosen["rule"], found["half"], found["chosen"], change))
    columns = ("system", "rule", Column("macro-F1 at .5", "metric"), Column("as chosen", "metric"), "difference")
    note = "Thresholds are chosen on validation rows; 95 % paired bootstrap interval over test rows."
    return Table("thresholds", "Thresholds of sets, on test", columns, tuple(rows), note=note) if rows else None


def _costs(systems: Sequence[System]) -> Table | None:
    """Return what errors cost on test by the usual answers and by the chosen rule; None without evaluation.costs."""
    rows: list[tuple[Cell, ...]] = []
    for system in systems:
        decision = system.first.result.get("decision") or {}
        if found := decision.get("splits", {}).get("test"):
            parts = (found[name] for name in ("default", "chosen", "difference"))
            numbers = (Number(part["estimate"], "metric", part["low"], part["high"]) for part in parts)
            rows.append((system.label, decision["rule"], decision["threshold"], *numbers))
    columns = ("system", "rule", "threshold", "test cost of its own answers", "test cost by the rule", "difference")
    note = "Cost a row (evaluation.costs), 95 % bootstrap intervals over rows; validation rows chose the rule."
    return Table("costs_of_errors", "Costs of errors", columns, tuple(rows), note=note) if rows else None


def _clusters(systems: Sequence[System]) -> Table | None:
    """Return test scores with intervals over the groups of evaluation.cluster_column; None without any."""
    rows: list[tuple[Cell, ...]] = []
    for system in systems:
        if (found := system.first.result.get("clusters", {}).get("test")) and "macro_f1" in found:
            parts = (found[name] for name in ("accuracy", "macro_f1"))
            scores = (Number(part["estimate"], "metric", part["low"], part["high"]) for part in parts)
            rows.append((system.label, found["clusters"], Number(found["shared"], "share"), *scores))
    columns = ("system", "groups", "rows whose group stands in training", "test accuracy", "test macro-F1")
    note = "95 % bootstrap intervals over whole groups (evaluation.cluster_column), whose rows need not be independent."
    return Table("clusters", "Scores over groups of rows", columns, tuple(rows), note=note) if rows else None


def _slices(systems: Sequence[System]) -> Table | None:
    """Return the scores of the slices that evaluation.slices names, on test rows; None without any."""
    rows: list[tuple[Cell, ...]] = []
    for system in systems:
        for one in system.first.result.get("slices", {}).get("test", ()):
            scores = (
                Number(one[name], "metric", one[f"{name}_low"], one[f"{name}_high"])
                for name in ("accuracy", "macro_f1")
            )
            difference, p_value = Number(one["difference"], "change"), Number(one["p_value"], "p")
            rows.append((system.label, f"{one['column']}={one['value']}", one["rows"], *scores, difference, p_value))
    columns = ("system", "slice", "test rows", "accuracy", "macro-F1", "accuracy less the others'", "p (max-T)")
    note = (
        "Lowest accuracy first. Wilson's and bootstrap intervals of 95 %; macro-F1 over the classes of the slice; p: "
        "permutation test against all other rows, adjusted over all slices of a system."
    )
    return Table("slices", "Slices", columns, tuple(rows), note=note) if rows else None


def _out_of_fold(inputs: Inputs) -> Chart | None:
    """Return the out-of-fold matrix of the best run in cross-validation, or None."""
    found = [s.first for s in inputs.systems if s.first.folds]
    best = max(found, key=lambda run: run.metrics.get("cv/macro_f1", 0.0), default=None)
    answers = best.answers("cv") if best else None
    if best is None or answers is None or len(best.class_names) > _MOST_CLASSES:
        return None
    title = f"{best.task.matrix_title} out of fold: {best.name}, the best in cross-validation"
    counts = _counts(answers, len(best.class_names))
    return matrix_chart("confusion_out_of_fold", title, counts, best.class_names, provenance=origin([best], ("cv",)))


def _by_class(systems: Sequence[System]) -> Chart:
    series = []
    for system in systems:
        scores = [
            run_score(system.first, f"test/f1/{column_key(name, system.first.class_names)}")
            for name in system.first.class_names
        ]
        values, lows, highs = zip(*((s.value, s.low, s.high) for s in scores), strict=True)
        series.append(Series(system.label, values, system.first.class_names, lows, highs))
    return Chart(
        "f1_by_class", "F1 by class on test", "dots", "F1 on test", "", tuple(series),
        origin([system.first for system in systems]), BOOTSTRAP,
        "The class with the mark furthest left is the hardest.",
    )  # fmt: skip


def _class_table(systems: Sequence[System]) -> Table:
    rows = []
    for system in systems:
        run = system.first
        answers = run.answers("test")
        support = [] if answers is None else class_counts(answers.labels, len(run.class_names)).tolist()
        for place, name in enumerate(run.class_names):
            key = column_key(name, run.class_names)
            recall = run.metrics.get(f"test/recall/{key}")
            n = support[place] if place < len(support) else None
            wrong = None if n is None or recall is None else round(n * (1 - recall))
            precision = run.metrics.get(f"test/precision/{key}")
            rows.append((system.label, name, precision, recall, run_score(run, f"test/f1/{key}"), n, wrong))
    columns: tuple[Column | str, ...] = (
        "system", "class", Column("precision", "metric"), Column("recall", "metric"),
        Column("F1 [95 %]", "metric"), Column("rows", "count"), Column("errors", "count"),
    )  # fmt: skip
    made = origin([system.first for system in systems])
    return filled(Table("classes", "Classes on test", columns, tuple(rows), provenance=made))


def _pairs(named: Sequence[tuple[System, StoredAnswers]]) -> list[Block]:
    """Return the pairs of classes that are taken for each other, most often first; none of sets of classes."""
    if not named[0][0].first.task.one_answer:
        return []
    names = named[0][0].first.class_names
    found = {system.label: _counts(answers, len(names)) for system, answers in named}
    both = {label: counts + counts.T for label, counts in found.items()}
    first = next(iter(both.values()))
    pairs = sorted(zip(*np.triu_indices(len(names), 1), strict=True), key=lambda pair: -int(first[pair]))
    made, total = origin([system.first for system, _ in named]), len(named[0][1].labels)
    labels = tuple(f"{names[i]} – {names[j]}" for i, j in pairs[:_MOST_PAIRS])
    rows: list[tuple[Cell, ...]] = [
        (label, *(int(counts[pair]) for counts in both.values())) for label, pair in zip(labels, pairs, strict=False)
    ]
    columns: tuple[Column | str, ...] = (
        "classes taken for each other",
        *(Column(f"{label}: errors", "count") for label in both),
    )
    series = []
    for label, counts in both.items():
        shares = [accuracy_interval(int(counts[pair]), total) for pair in pairs[:_DRAWN_PAIRS]]
        values, lows, highs = zip(*((s.estimate, s.low, s.high) for s in shares), strict=True)
        series.append(Series(label, values, labels[:_DRAWN_PAIRS], lows, highs))
    chart = Chart(
        "confused_pairs_chart", "Confused pairs, share of all test rows", "dots", "share of test rows", "",
        tuple(series),
        made, WILSON, "Pairs at the top hold most of the errors.",
    )  # fmt: skip
    return [chart, Table("confused_pairs", "Confused pairs on test", columns, tuple(rows), provenance=made)]


_BINS, _MOST_LISTED = 10, 20


def calibration(inputs: Inputs) -> Section | None:
    """Return reliability on test of the best system of each family that stores probabilities, and ECE of all.

    Sets of classes have none: it is about the likeliest class.
    """
    if not inputs.runs[0].task.one_answer:
        return None
    found = [
        (system, answers)
        for system in (inputs.chosen, *(s for s in inputs.systems if s is not inputs.chosen))
        if (answers := system.first.answers("test")) is not None and answers.given.probabilities is not None
    ]
    if not found:
        missing = Missing("None of these runs stores probabilities.", "python run.py model=logreg")
        return Section("calibration", "Calibration", (missing,))
    shown: dict[str, tuple[System, StoredAnswers]] = {}
    for system, answers in found:
        shown.setdefault(system.first.family, (system, answers))
    reliability, *charts = _calibration_charts(list(shown.values()))
    return Section("calibration", "Calibration", (reliability, _calibration_table(found[:_MOST_LISTED])), tuple(charts))


def _calibration_charts(found: list[tuple[System, StoredAnswers]]) -> list[Block]:
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


def _probabilities(answers: StoredAnswers) -> NDArray[np.float64]:
    assert answers.given.probabilities is not None  # only such answers are collected
    return np.asarray(answers.given.probabilities, dtype=np.float64)


def _calibration_table(found: list[tuple[System, StoredAnswers]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for system, answers in found:
        truth, matrix = labelled_probabilities(answers.labels, _probabilities(answers))
        sure, right = confidences(truth, matrix)
        brier = float(np.mean(np.sum((matrix - np.eye(matrix.shape[1])[truth]) ** 2, axis=1)))
        ece = expected_calibration_error(truth, matrix)
        errors: list[Cell] = [
            Number(ece, "metric", *error_interval(truth, matrix)),
            expected_calibration_error(truth, matrix, binning="equal_mass"),
        ]
        log_loss = system.first.metrics.get("test/log_loss")
        rows.append((system.label, *errors, brier, log_loss, float(sure.mean()), float(right.mean())))
    names = ("ECE, 15 bins", "ECE, equal mass", "Brier", "log-loss", "mean confidence", "accuracy")
    columns: tuple[Column | str, ...] = ("system", *(Column(name, "metric") for name in names))
    note = (
        "Probabilities as the models give them; 95 % interval of the ECE. Margins of linear SVMs are no probabilities "
        "and are not listed."
    )
    made = origin([system.first for system, _ in found])
    return Table("calibration_table", "Calibration on test", columns, tuple(rows), provenance=made, note=note)
