"""Figures of the error analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agnews_exp.evaluation.errors.rates import Rate
from agnews_exp.evaluation.errors.slices import SliceSearch
from agnews_exp.reporting.figures import new_figure, open_frame, save_png

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
"""Of Okabe and Ito's palette, told apart with any colour vision and in grey print."""

_MAX_SLICES = 20


def draw_rates(path: Path, panels: Mapping[str, Sequence[Rate]], overall: Rate) -> None:
    """Draw error rates with Wilson intervals, one panel a kind of group, all on one axis.

    Args:
        path: PNG.
        panels: Groups by kind; empty ones are left out.
        overall: The rate of all rows, drawn as a line.
    """
    used = {title: rates for title, rates in panels.items() if rates}
    heights = [len(rates) + 1 for rates in used.values()]
    figure = new_figure(7.0, 0.24 * sum(heights) + 1.2)
    grid = figure.subplots(len(used), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, (title, rates) in zip(grid[:, 0], used.items(), strict=True):
        y = np.arange(len(rates))
        middle = np.array([100 * r.rate for r in rates])
        reach = np.abs(np.array([[100 * r.low, 100 * r.high] for r in rates]).T - middle)
        axes.axvline(100 * overall.rate, color=GREY, linewidth=1, linestyle="--", label="all rows")
        axes.errorbar(middle, y, xerr=reach, fmt="o", color=BLUE, markersize=4, capsize=2, linewidth=1, clip_on=False)
        axes.set_yticks(y, [f"{r.name}  (n = {r.total:,})" for r in rates], fontsize=8)
        axes.set_ylim(len(rates) - 0.4, -0.6)
        axes.set_title(title, fontsize=9, loc="left")
        open_frame(axes)
    grid[-1, 0].set_xlabel("error rate on test [%], 95 % Wilson interval; dashed: all test rows")
    grid[-1, 0].set_xlim(left=0)
    save_png(figure, path)


def draw_slices(path: Path, found: SliceSearch) -> None:
    """Draw each slice's error rate where it was found and where it was to be confirmed."""
    shown = found.slices[:_MAX_SLICES]
    figure = new_figure(7.0, 0.3 * len(shown) + 1.6)
    axes = figure.add_subplot()
    y = np.arange(len(shown))
    found_rates: list[Rate | None] = [s.found for s in shown]
    for label, colour, marker, offset, rates in (
        ("found: validation", ORANGE, "s", -0.14, found_rates),
        ("confirming: test", BLUE, "o", 0.14, [s.confirmed for s in shown]),
    ):
        drawn = [(i, r) for i, r in enumerate(rates) if r is not None]
        middle = np.array([100 * r.rate for _, r in drawn])
        ends = np.array([[100 * r.low, 100 * r.high] for _, r in drawn]).reshape(-1, 2).T
        where = np.array([i for i, _ in drawn]) + offset
        axes.errorbar(
            middle, where, xerr=np.abs(ends - middle), fmt=marker, color=colour, markersize=4, capsize=2,
            linewidth=1, label=label,
        )  # fmt: skip
    axes.axvline(100 * found.overall_confirming.rate, color=GREY, linewidth=1, linestyle="--", label="all test rows")
    axes.set_yticks(y, [s.found.name for s in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("error rate [%], 95 % Wilson interval")
    open_frame(axes)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    save_png(figure, path)
