"""The figure of the external analysis: how scores of test rows and of external rows lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agnews_exp.evaluation.robustness.shift import Detection, FloatArray
from agnews_exp.reporting.figures import new_figure, open_frame, save_png

BLUE, ORANGE = "#0072B2", "#D55E00"

_UNITS = {
    "max_softmax": "largest probability",
    "margin": "highest score minus second",
    "energy": "log-sum-exp of the scores",
    "known_words": "share of words seen in training",
}


def draw_scores(
    path: Path, own: Mapping[str, FloatArray], foreign: Mapping[str, FloatArray], found: Sequence[Detection]
) -> None:
    """Draw one histogram a score: shares of test rows and of external rows."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(3.6 * columns, 2.6 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, item in zip(grid, found, strict=False):
        pair = own[item.score], foreign[item.score]
        edges = np.histogram_bin_edges(np.concatenate(pair), bins=30)
        for values, colour, style, label in zip(pair, (BLUE, ORANGE), ("-", "--"), ("test", "external"), strict=True):
            axes.hist(
                values, bins=edges, weights=np.full(len(values), 100 / len(values)), histtype="stepfilled", alpha=0.25,
                color=colour,
            )  # fmt: skip
            axes.hist(
                values, bins=edges, weights=np.full(len(values), 100 / len(values)), histtype="step", color=colour,
                linestyle=style, linewidth=1.2, label=label,
            )  # fmt: skip
        axes.set_title(f"{item.score}: AUROC {item.auroc:.3f}", fontsize=9)
        axes.set_xlabel(_UNITS.get(item.score, item.score), fontsize=8)
        axes.set_ylabel("rows [%]", fontsize=8)
        open_frame(axes)
    for axes in grid[len(found) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    save_png(figure, path)
