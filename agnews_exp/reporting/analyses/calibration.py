"""Calibration of a run's probabilities, before and after the calibrator that its validation rows choose."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agnews_exp.evaluation.calibration import confidences
from agnews_exp.evaluation.recalibration import CalibrationStudy, study_calibration
from agnews_exp.evaluation.score_calibration import NONE, save_calibrator, uncalibrated
from agnews_exp.evaluation.statistics import BootstrapInterval
from agnews_exp.evaluation.statistics.inputs import plain
from agnews_exp.reporting.analyses.calibration_figures import Panel, draw_class_reliability, draw_reliability
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings

CALIBRATOR = "calibrator.json"
"""The chosen calibrator's parameters, for :func:`agnews_exp.evaluation.score_calibration.load_calibrator`."""

Name = Literal["platt", "isotonic", "temperature", "vector"]


def analyse(
    context: AnalysisContext,
    *,
    calibrators: Annotated[tuple[Name, ...], Field(min_length=1)] = ("platt", "isotonic", "temperature", "vector"),
    fit_share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    n_bins: Annotated[int, Field(ge=2, le=100)] = 15,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    simulations: Annotated[int, Field(ge=100)] = 1000,
) -> Findings:
    """Fit calibrators on a part of validation, choose on the rest, report on test before and after.

    Args:
        context: The run. The division of the validation rows follows its ``split_seed``, so that all models of a
            study calibrate on the same rows.
        calibrators: Which to fit.
        fit_share: Share of each class's validation rows to fit on; the others choose.
        n_bins: Bins of all binned figures.
        resamples: Bootstrap resamples of the differences.
        simulations: Draws of the test of calibration and of the consistency bars.

    Returns:
        ``test/<figure>_before``, ``_after`` (the chosen calibrator) and ``_<calibrator>``.

    Raises:
        DataError: The model gives labels only, or validation is too small to divide.
    """
    validation, test = context.answers["val"], context.answers["test"]
    seed = context.checked.run.split_seed
    labels, names = context.splits.test.labels, context.splits.class_names
    chosen, study = study_calibration(
        validation, context.splits.validation.labels, test, labels, names,
        calibrators=calibrators, fit_share=fit_share, n_bins=n_bins, resamples=resamples, simulations=simulations,
        seed=seed,
    )  # fmt: skip
    save_calibrator(context.folder / CALIBRATOR, chosen)
    after_is = "no calibrator is better" if study.chosen == NONE else f"after {study.chosen}"
    matrices = {f"before: {study.before_is}": uncalibrated(test)[0], after_is: chosen.probabilities(test)}
    panels = [
        Panel.make(title, *confidences(labels, matrix), n_bins=n_bins, simulations=simulations, seed=seed)
        for title, matrix in matrices.items()
    ]
    draw_reliability(context.folder / "reliability.png", panels, len(labels))
    draw_class_reliability(context.folder / "reliability_by_class.png", labels, matrices, names, n_bins)
    bars = {panel.title: {"low": panel.low, "high": panel.high} for panel in panels}
    details: dict[str, Any] = study.to_dict() | {
        "consistency_bars": plain(bars),
        "calibrator": CALIBRATOR,
        "seed": seed,
    }
    return Findings(metrics=_metrics(study), summary=_summary(study, n_bins), details=details)


def _metrics(study: CalibrationStudy) -> dict[str, float]:
    reports = {"before": study.before, "after": study.after}
    reports |= {name: change.after for name, change in study.changes.items()}
    values: dict[str, float] = {}
    for name, report in reports.items():
        figures = {"ece": report.ece, "nll": report.nll, "brier": report.brier.brier}
        if name in ("before", "after"):
            figures |= {"ece_equal_mass": report.ece_equal_mass, "ace": report.ace, "mce": report.mce}
            figures |= {"classwise_ece": report.classwise_ece}
            figures |= {"brier_reliability": report.brier.reliability, "brier_resolution": report.brier.resolution}
        values |= {f"test/{figure}_{name}": value for figure, value in figures.items()}
    return values


def _summary(study: CalibrationStudy, n_bins: int) -> str:
    b = study.before
    reports = {f"before: {study.before_is}": b} | {name: change.after for name, change in study.changes.items()}
    chosen = f"before: {study.before_is}" if study.chosen == NONE else study.chosen
    labels = {name: f"**{name}** (chosen)" if name == chosen else name for name in reports}
    lines = [f"## Calibration on {b.n_items:,} test rows", ""]
    lines += ["| probabilities | NLL, choosing rows | NLL | change of NLL [95 %] | Brier | accuracy |"]
    lines += ["| --- |" + " ---: |" * 5]
    for name, r in reports.items():
        change = study.changes.get(name)
        moved = _interval(change.nll.difference) if change else ""
        choice = study.choice[name if change else NONE].nll
        row = f"{choice:.4f} | {r.nll:.4f} | {moved} | {r.brier.brier:.4f} | {r.accuracy:.4f} |"
        lines.append(f"| {labels[name]} | {row}")
    header = "| probabilities | ECE | ECE, equal mass | ACE | class-wise ECE | MCE | confidence − accuracy |"
    lines += ["", header, "| --- |" + " ---: |" * 6]
    for name, r in reports.items():
        errors = " | ".join(f"{v:.4f}" for v in (r.ece, r.ece_equal_mass, r.ace, r.classwise_ece, r.mce))
        lines.append(f"| {labels[name]} | {errors} | {r.overconfidence:+.4f} |")
    lines += ["", "| Brier score's parts | before | after | |", "| --- | ---: | ---: | --- |"]
    for part, meaning in (
        ("reliability", "distance of forecast and frequency; 0 is calibrated"),
        ("resolution", "how far forecasts tell items apart; larger is better"),
        ("uncertainty", "of the classes themselves; the same for every model"),
        ("binning", "what bins leave out"),
    ):
        before, after = (getattr(report.brier, part) for report in (b, study.after))
        lines.append(f"| {part} | {before:.4f} | {after:.4f} | {meaning} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(study, n_bins))]) + "\n"


def _interval(difference: BootstrapInterval) -> str:
    low, high = difference.percentile
    return f"{difference.estimate:+.4f} [{low:+.4f}, {high:+.4f}]"


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
    if study.chosen == NONE:
        notes.append("No calibrator had a lower NLL than the probabilities as they are.")
    elif changed := study.changes[study.chosen].changed_predictions:
        notes.append(f"The chosen calibrator changes the most likely class of {changed:.2%} of the test rows.")
    notes.append("MCE is the worst bin's gap, and a bin of few items decides it; ECE alone is best for a constant.")
    return notes
