"""Shapes that the figures of an exploration are made of: bars, curves, dots, heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.figures import new_figure, open_frame, save_png
from agnews_exp.core.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: Final = ("-", "--", "-.", ":")
"""Okabe and Ito's colours, each with a marker and a dash of its own for grey print."""

GREY: Final = "#767676"
MAX_PANELS: Final = 12


def style(k: int) -> tuple[str, str, str]:
    """Return colour, marker and dash of the class k."""
    return COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], LINES[k % len(LINES)]


def new_axes(width: float = 6.5, height: float = 3.8) -> tuple[Figure, Axes]:
    """Return a figure with one open pair of axes."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    open_frame(axes)
    return figure, axes


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write ``name.png`` and ``name.svg``; the same data gives the same bytes."""
    import matplotlib as mpl

    save_png(figure, folder / f"{name}.png")
    with mpl.rc_context({"svg.hashsalt": name}), atomic_path(folder / f"{name}.svg") as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None}, dpi=150)


def panels(n: int, *, columns: int = 2, width: float = 7.0, height: float = 2.6, **options: Any) -> tuple[Figure, Any]:
    """Return a figure with n axes, shape (n,), the rest of the grid switched off."""
    columns = min(columns, n)
    n_rows = -(-n // columns)
    figure = new_figure(width, height * n_rows + 0.3)
    grid = figure.subplots(n_rows, columns, squeeze=False, **options)
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    for axes in grid.flat[:n]:
        open_frame(axes)
    return figure, grid.flat[:n]


def horizontal_bars(axes: Axes, labels: Sequence[str], values: Sequence[float], colour: str = COLOURS[0]) -> None:
    """Draw bars from top to bottom."""
    y = np.arange(len(values))
    axes.barh(y, values, color=colour, height=0.75)
    axes.set_yticks(y, [shown(label) for label in labels], fontsize=7.5)
    axes.set_ylim(len(values) - 0.4, -0.6)


def bar_panels(by_panel: Mapping[str, Sequence[tuple[str, float]]], xlabel: str, *, columns: int = 2) -> Figure:
    """Draw ranked bars, one panel each; panels beyond the twelfth are in the data only."""
    used = dict(list(by_panel.items())[:MAX_PANELS])
    longest = max((len(v) for v in used.values()), default=1)
    figure, grid = panels(len(used), columns=columns, height=0.175 * longest + 0.75)
    for k, (axes, (title, ranked)) in enumerate(zip(grid, used.items(), strict=True)):
        horizontal_bars(axes, [n for n, _ in ranked], [v for _, v in ranked], COLOURS[k % 6])
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(xlabel, fontsize=8)
        axes.tick_params(axis="x", labelsize=7.5)
    return figure


def heat_map(
    matrix: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], label: str, *,
    form: str = ".2f", low: float | None = 0.0, high: float | None = None, axes: Axes | None = None,
    hide_diagonal: bool = False,
) -> Figure:  # fmt: skip
    """Draw a matrix as shades with its numbers in the cells.

    Args:
        matrix: Shape (R, C).
        rows: R names.
        columns: C names.
        label: What the numbers are.
        form: Format of a number.
        low: Value of the lightest shade.
        high: Value of the darkest; the greatest shown by default.
        axes: Where to draw; a figure of its own by default.
        hide_diagonal: Leave cells (i, i) white: they are what they are by definition.
    """
    values = np.array(matrix, dtype=np.float64)
    if hide_diagonal:
        np.fill_diagonal(values, np.nan)
    if axes is None:
        size = (1.8 + 0.85 * len(columns), 1.3 + 0.45 * len(rows))
        figure = new_figure(max(4.6, size[0]), max(2.8, size[1]))
        axes = figure.add_subplot()
    else:
        figure = axes.figure  # type: ignore[assignment]
    top = high if high is not None else float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    bottom = low if low is not None else float(np.nanmin(values))
    image = axes.imshow(values, cmap="Blues", vmin=bottom, vmax=max(top, bottom + 1e-9), aspect="auto")
    axes.set_xticks(range(len(columns)), [shown(c) for c in columns], rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), [shown(r) for r in rows], fontsize=8)
    if values.size <= 400:
        middle = bottom + 0.6 * (top - bottom)
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > middle else "black"
                axes.text(j, i, format(value, form), ha="center", va="center", fontsize=7.5, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.9).set_label(label, fontsize=8)
    return figure


def grouped_bars(rows: Sequence[str], series: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
    """Draw a group of bars for each thing, one bar a series."""
    figure, axes = new_axes(6.5, (0.17 * len(series) + 0.12) * len(rows) + 1.0)
    height = 0.8 / len(series)
    y = np.arange(len(rows))
    for k, (name, values) in enumerate(series.items()):
        at = y + (k - (len(series) - 1) / 2) * height
        axes.barh(at, values, height * 0.9, color=COLOURS[k % len(COLOURS)], label=shown(name))
    axes.set_yticks(y, [shown(r) for r in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(xlabel, fontsize=8)
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False, fontsize=8)
    return figure


def dot_rows(
    rows: Sequence[str], series: Mapping[str, Sequence[float]], xlabel: str, *, logarithmic: bool = False
) -> Figure:
    """Draw one line a thing with a marker for each class: shares side by side."""
    figure, axes = new_axes(6.8, 0.27 * len(rows) + 1.3)
    y = np.arange(len(rows))
    for k, (name, values) in enumerate(series.items()):
        colour, marker, _ = style(k)
        axes.plot(values, y, marker, color=colour, markersize=5, linestyle="none", label=shown(name), alpha=0.9)
    axes.set_yticks(y, [shown(r) for r in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if logarithmic:
        axes.set_xscale("symlog", linthresh=0.1)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=0)
    axes.set_xlabel(xlabel, fontsize=8)
    if len(series) <= 20:
        figure.legend(loc="outside upper center", ncols=min(5, len(series)), frameon=False, fontsize=8)
    return figure


def box_rows(
    groups: Mapping[str, NDArray[np.float64]], xlabel: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Draw a box (quartiles, median) with whiskers at the 5th and 95th percentile for each group; a dot is the mean."""
    figure, axes = new_axes(6.5, 0.42 * len(groups) + 1.0)
    axes.boxplot(
        list(groups.values()), orientation="horizontal", whis=(5, 95), showfliers=False, showmeans=True, widths=0.6,
        tick_labels=[shown(g) for g in groups], medianprops={"color": COLOURS[1], "linewidth": 1.6},
        meanprops={"marker": "o", "markerfacecolor": COLOURS[0], "markeredgecolor": COLOURS[0], "markersize": 5},
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlabel(f"{xlabel}\nbox: quartiles, line: median, whiskers: 5 to 95 %, dot: mean", fontsize=8)
    axes.tick_params(labelsize=8)
    if limits:
        axes.set_xlim(*limits)
    return figure


def shown(text: str, length: int = 34) -> str:
    """Return a label that fits: cut where too long."""
    return text if len(text) <= length else text[: length - 1] + "…"
