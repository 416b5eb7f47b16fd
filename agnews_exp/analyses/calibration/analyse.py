"""Calibration of a run's probabilities, before and after the calibrator that its validation rows choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.figures import new_figure, save_png
from agnews_exp.evaluation.calibration import confidences
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.recalibration import CalibrationStudy, study_calibration
from agnews_exp.evaluation.reliability import ReliabilityCurve, consistency_bars, reliability_curve
from agnews_exp.evaluation.score_calibration import NONE, save_calibrator, uncalibrated
from agnews_exp.evaluation.statistics import BootstrapInterval

FloatArray = NDArray[np.float64]
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
"""Of Okabe and Ito's palette, told apart with any colour vision and in grey print."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One reliability diagram.

    Attributes:
        title: What the confidences are.
        confidence: Shape (n,).
        right: Shape (n,), whether each item was predicted right.
        curve: Both by bin.
        low: Shape (B,), lower ends of the consistency bars.
        high: Shape (B,), upper ends.
    """

    title: str
    confidence: FloatArray
    right: NDArray[np.bool_]
    curve: ReliabilityCurve
    low: FloatArray
    high: FloatArray

    @classmethod
    def make(
        cls,
        title: str,
        confidence: FloatArray,
        right: NDArray[np.bool_],
        *,
        n_bins: int,
        simulations: int,
        seed: int,
    ) -> Panel:
        """Put confidences into equally wide bins, with consistency bars."""
        curve = reliability_curve(confidence, right, n_bins)
        low, high = consistency_bars(confidence, curve, simulations=simulations, seed=seed)
        return cls(title, confidence, right, curve, low, high)


def draw_reliability(path: Path, panels: Sequence[Panel], n_items: int) -> None:
    """Draw one column a panel: accuracy against confidence by bin above, the histogram of confidences below.

    Args:
        path: PNG.
        panels: Before and after.
        n_items: For the axis label.
    """
    figure = new_figure(4.6 * len(panels), 6.6)
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(2, 1))
    for column, panel in enumerate(panels):
        _diagram(axes[0, column], panel)
        _histogram(axes[1, column], panel)
    axes[0, 0].set_ylabel("accuracy in the bin")
    axes[1, 0].set_ylabel(f"items of {n_items:,} (log scale)")
    axes[0, 0].legend(loc="lower right", frameon=False, fontsize=8)
    axes[1, 0].legend(loc="upper left", frameon=False, fontsize=8)
    save_png(figure, path)


def _diagram(axes: Any, panel: Panel) -> None:
    curve, used = panel.curve, panel.curve.count > 0
    x, y = curve.mean_forecast[used], curve.frequency[used]
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", label="calibrated")
    middle = (panel.low[used] + panel.high[used]) / 2
    reach = (panel.high[used] - panel.low[used]) / 2
    axes.errorbar(x, middle, yerr=reach, fmt="none", ecolor="#BBBBBB", elinewidth=6, label="95 % of calibrated models")
    error = np.clip([y - curve.frequency_low[used], curve.frequency_high[used] - y], 0, None)
    axes.errorbar(
        x, y, yerr=error, fmt="o", markersize=4, color=BLUE, capsize=2, linewidth=1, label="observed, 95 % Wilson"
    )
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), title=f"{panel.title}\nECE {curve.expected_error:.4f}")
    axes.title.set_fontsize(10)


def _histogram(axes: Any, panel: Panel) -> None:
    edges = np.append(panel.curve.lower, panel.curve.upper[-1])
    axes.hist(
        [panel.confidence[panel.right], panel.confidence[~panel.right]],
        bins=edges, color=[BLUE, ORANGE], label=["right", "wrong"], log=True,
    )  # fmt: skip
    axes.set_xlabel("confidence (largest probability)")


def draw_class_reliability(
    path: Path,
    labels: NDArray[np.int64],
    matrices: Mapping[str, FloatArray],
    class_names: Sequence[str],
    n_bins: int,
) -> None:
    """Draw each class's probability against its frequency, one against rest: one panel a class, at most twelve.

    Args:
        path: PNG.
        labels: Shape (n,), true class indices.
        matrices: Probabilities (n, K) by title: before and after.
        class_names: K names.
        n_bins: Bins of equally many items.
    """
    shown = list(class_names[:12])
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.7 * columns + 0.6, 2.8 * rows + 0.7)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    styles = ((ORANGE, "s", "--"), (BLUE, "o", "-"))
    for k, name in enumerate(shown):
        axes = grid[k // columns, k % columns]
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        for (title, matrix), (colour, marker, line) in zip(matrices.items(), styles, strict=False):
            curve = reliability_curve(matrix[:, k], labels == k, n_bins, "equal_mass")
            used = curve.count > 0
            axes.plot(
                curve.mean_forecast[used], curve.frequency[used], color=colour, marker=marker, linestyle=line,
                markersize=3.5, linewidth=1, label=f"{title}",
            )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.set_aspect("equal")
    for axes in grid.ravel()[len(shown) :]:
        axes.set_visible(False)
    handles, titles = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    figure.supxlabel("mean probability of the class in the bin (bins of equally many items)", fontsize=9)
    figure.supylabel("frequency of the class", fontsize=9)
    save_png(figure, path)


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
