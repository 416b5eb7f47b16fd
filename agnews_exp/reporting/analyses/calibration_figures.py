"""Reliability diagrams and confidence histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.reliability import ReliabilityCurve, consistency_bars, reliability_curve
from agnews_exp.reporting.figures import new_figure, save_png

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
