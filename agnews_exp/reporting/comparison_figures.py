"""Figures of a comparison: differences with intervals, scores by fold or seed, critical-difference diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agnews_exp.evaluation.statistics import BlockComparison, ComparisonResult, FriedmanTest
from agnews_exp.reporting.figures import new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY = "#0072B2", "#767676"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def draw_differences(path: Path, results: Sequence[ComparisonResult], rows: str) -> None:
    """Draw each pair's difference of the first metric with its interval; zero is no difference.

    Args:
        path: PNG.
        results: The pairs.
        rows: What they were judged on, such as ``7,600 test rows``.
    """
    metric = next(iter(results[0].metrics))
    figure, axes = _canvas(8, 1.4 + 0.5 * len(results))
    for at, r in enumerate(reversed(results)):
        difference = r.metrics[metric].bootstrap.difference
        low, high = difference.bca
        colour, marker = (GREY, "s") if low <= 0 <= high else (BLUE, "o")
        error = [[difference.estimate - low], [high - difference.estimate]]
        axes.errorbar(difference.estimate, at, xerr=error, color=colour, fmt=marker, capsize=4)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(results)), [f"{r.name_a}\n− {r.name_b}" for r in reversed(results)], fontsize=9)
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"difference of {metric}, {rows}")
    several = f", not adjusted for {len(results)} pairs" if len(results) > 1 else ""
    axes.set_title(f"95 % BCa intervals{several}; circle: leaves out zero", fontsize=9, loc="left")
    save_png(figure, path)


def draw_blocks(path: Path, block: BlockComparison) -> None:
    """Draw every model's score in each fold or with each seed, and its mean; folds, being pairs, are joined."""
    names = list(block.scores)
    figure, axes = _canvas(8, 1.5 + 0.42 * len(names))
    places = range(len(names) - 1, -1, -1)
    if block.kind == "folds":
        for fold in block.scores[names[0]]:
            axes.plot([block.scores[n][fold] for n in names], places, color="#BBBBBB", linewidth=0.8, zorder=1)
    for at, name in zip(places, names, strict=True):
        values = list(block.scores[name].values())
        axes.scatter(values, [at] * len(values), s=22, facecolors="none", edgecolors=BLUE, zorder=2)
        axes.scatter(np.mean(values), at, s=90, marker="|", color="black", linewidths=2, zorder=3)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"{block.metric} (circle: one of the {block.kind}; bar: mean)")
    save_png(figure, path)


def draw_critical_difference(path: Path, test: FriedmanTest, block: BlockComparison) -> None:
    """Draw a critical-difference diagram (Demsar 2006): mean ranks, bars joining models that are not told apart."""
    order = sorted(zip(test.mean_ranks, test.names, strict=True))
    k, left = len(order), (len(order) + 1) // 2
    depth = 0.35 * len(test.groups) + 0.45
    figure, axes = _canvas(9, 1.5 + 0.3 * (depth + left))
    axes.set_axis_off()
    axes.set_xlim(1 - 0.55 * (k - 1), k + 0.55 * (k - 1))
    axes.set_ylim(-depth - left, 2.0)
    axes.plot([1, k], [0, 0], color="black", linewidth=1.2)
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.18], color="black", linewidth=1.2)
        axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize=9)
    end = min(1 + test.critical_difference, k + 0.5 * (k - 1))
    axes.plot([1, end], [1.25, 1.25], color="black", linewidth=1.2)
    for x in (1, end):
        axes.plot([x, x], [1.1, 1.4], color="black", linewidth=1.2)
    axes.text(
        (1 + end) / 2, 1.4, f"critical difference {test.critical_difference:.2f}", ha="center", va="bottom", fontsize=9
    )
    edge = 0.06 * (k - 1)
    for position, (rank, name) in enumerate(order):
        on_left = position < left
        y = -depth - 0.4 - (position if on_left else k - 1 - position)
        side = 1 - edge if on_left else k + edge
        axes.plot([rank, rank, side], [0, y, y], color=BLUE, linewidth=1)
        label, align = (f"{name}  {rank:.2f}", "right") if on_left else (f"{rank:.2f}  {name}", "left")
        gap = -0.02 * (k - 1) if on_left else 0.02 * (k - 1)
        axes.text(side + gap, y, label, ha=align, va="center", fontsize=9)
    ranks = {name: rank for rank, name in order}
    for number, group in enumerate(test.groups):
        y = -0.35 * (number + 1)
        ends = ranks[group[0]] - 0.02 * (k - 1), ranks[group[-1]] + 0.02 * (k - 1)
        axes.plot(ends, [y, y], color="black", linewidth=4, solid_capstyle="butt")
    axes.set_title(
        f"mean rank of {block.metric} over {test.n_blocks} {block.kind}, 1 is best; bars join models that Nemenyi's"
        f" test does not tell apart (α = {test.alpha:g})",
        fontsize=9,
    )
    save_png(figure, path)
