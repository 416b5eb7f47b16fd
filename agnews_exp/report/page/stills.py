"""Charts as PNG and SVG, for print and for pages without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from agnews_exp.analyses.figures import new_figure, open_frame, take_text_literally
from agnews_exp.core.files import atomic_path
from agnews_exp.report.content import Chart, Series
from agnews_exp.report.page.plotly_specs import GREY, categories, colour_of

_MARKS = "osD^vp*h"
_WIDTH = 7.2


def draw_still(chart: Chart, png: Path, svg: Path) -> None:
    """Draw a chart, the same bytes each time for the same data.

    Args:
        chart: What to draw.
        png: File for screens and documents, 150 dots an inch.
        svg: File for print.
    """
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": chart.name, "font.size": 9}):
        figure = new_figure(_WIDTH, _height(chart))
        axes = figure.add_subplot()
        _DRAWERS[chart.kind](axes, chart)
        _finish(axes, chart)
        take_text_literally(figure)
        with atomic_path(png) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
        with atomic_path(svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def _height(chart: Chart) -> float:
    if chart.kind == "dots":
        return (
            1.2
            + 0.1 * len(chart.series)
            + max(2, len(categories(chart))) * (0.2 + 0.06 * max(0, len(chart.series) - 2))
        )
    if chart.kind == "box":
        return 1.1 + 0.32 * len(chart.series)
    if chart.kind == "heatmap":
        return 1.3 + 0.45 * max(3, len(chart.z))
    return 3.8 + 0.1 * len(chart.series)  # the legend's lines


def _cut(words: str, most: int = 46) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def _finish(axes: Any, chart: Chart) -> None:
    axes.set_xlabel(chart.x_title)
    axes.set_ylabel(chart.y_title)
    open_frame(axes)
    if chart.kind != "heatmap":
        axes.grid(alpha=0.3, axis="x" if chart.kind in ("dots", "box") else "both")
        axes.set_axisbelow(True)
    for axis, at, what in chart.references:
        (axes.axvline if axis == "x" else axes.axhline)(at, color=GREY, linestyle="--", linewidth=1, label=what)
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    if len(chart.series) + len(chart.references) > 1 and chart.kind not in ("heatmap", "box"):
        longest = max(len(series.name) for series in chart.series) if chart.series else 0
        columns = 3 if longest <= 22 else 2 if longest <= 40 else 1
        axes.legend(
            fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2
        )


def _errors(values: Sequence[Any], series: Series) -> Any:
    if series.low is None or series.high is None:
        return None
    low = [0.0 if low is None else max(0.0, float(v) - low) for v, low in zip(values, series.low, strict=True)]
    high = [0.0 if h is None else max(0.0, h - float(v)) for v, h in zip(values, series.high, strict=True)]
    return [low, high]


def _dots(axes: Any, chart: Chart) -> None:
    rows = {name: place for place, name in enumerate(categories(chart))}
    n = len(chart.series)
    for number, series in enumerate(chart.series):
        kept = [i for i, v in enumerate(series.x) if v is not None]
        shift = 0.0 if n == 1 else (number / (n - 1) - 0.5) * 0.5
        places = [rows[str(series.y[i])] + shift for i in kept]
        values = [series.x[i] for i in kept]
        errors = _errors(values, _only(series, kept))
        colour = colour_of(number, series)
        axes.errorbar(
            values,
            places,
            xerr=errors,
            fmt=_MARKS[number % len(_MARKS)],
            color=colour,
            label=_cut(series.name, 60),
            markersize=5,
            capsize=2,
            elinewidth=1.1,
            markerfacecolor="white" if series.published else colour,
        )
    axes.set_yticks(range(len(rows)), [_cut(name) for name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _only(series: Series, kept: Sequence[int]) -> Series:
    def part(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if values is None else tuple(values[i] for i in kept)

    return Series(series.name, part(series.x) or (), part(series.y) or (), part(series.low), part(series.high))


def _xy(axes: Any, chart: Chart) -> None:
    n = len(chart.series)
    for number, series in enumerate(chart.series):
        kept = [i for i, v in enumerate(series.y) if v is not None and series.x[i] is not None]
        x, y = [series.x[i] for i in kept], [series.y[i] for i in kept]
        errors = _errors(y, _only(series, kept))
        colour = colour_of(number, series)
        if chart.kind == "columns":
            _bars(axes, x, y, errors, colour, _cut(series.name, 60), number, n)
            continue
        line = "none" if chart.kind == "points" else "--" if series.dashed or series.published else "-"
        mark = "" if chart.kind == "lines" and len(x) > 40 else _MARKS[number % len(_MARKS)]
        face = "white" if series.published else colour
        axes.errorbar(
            x,
            y,
            yerr=errors,
            linestyle=line,
            marker=mark,
            color=colour,
            label=_cut(series.name, 60),
            markersize=4.5,
            capsize=2,
            linewidth=1.5,
            elinewidth=1,
            markerfacecolor=face,
        )


def _bars(axes: Any, x: list[Any], y: list[Any], errors: Any, colour: str, name: str, number: int, n: int) -> None:
    names = [isinstance(v, str) for v in x]
    places = list(range(len(x))) if all(names) else x
    step = 1.0 if all(names) or len(x) < 2 else min(b - a for a, b in pairwise(x))
    width = 0.84 * step / n
    shifted = [place + (number - (n - 1) / 2) * width for place in places]
    axes.bar(
        shifted,
        y,
        width,
        yerr=errors,
        color=colour,
        label=name,
        capsize=2,
        edgecolor="white",
        linewidth=0.3,
        hatch=("", "//", "xx", "--")[number % 4],
        ecolor="#404040",
        error_kw={"elinewidth": 1},
    )
    if all(names):
        long = max(len(v) for v in x) > 12
        axes.set_xticks(range(len(x)), x, rotation=30 if long else 0, ha="right" if long else "center")


def _boxes(axes: Any, chart: Chart) -> None:
    places = range(len(chart.series))
    axes.boxplot(
        [list(series.x) for series in chart.series],
        positions=list(places),
        orientation="horizontal",
        widths=0.55,
        showfliers=False,
        medianprops={"color": colour_of(1, chart.series[0])},
    )
    for place, series in zip(places, chart.series, strict=True):
        axes.plot(list(series.x), [place] * len(series.x), "o", markersize=3, alpha=0.6, color=colour_of(0, series))
    axes.set_yticks(list(places), [_cut(series.name) for series in chart.series])
    axes.set_ylim(len(chart.series) - 0.4, -0.6)


def _heatmap(axes: Any, chart: Chart) -> None:
    columns, rows = chart.labels
    axes.imshow(chart.z, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30 if len(columns) > 6 else 0)
    axes.set_yticks(range(len(rows)), rows)
    if len(columns) <= 12:
        for i, row in enumerate(chart.texts):
            for j, cell in enumerate(row):
                colour = "white" if chart.z[i][j] > 0.5 else "black"
                axes.text(j, i, cell, ha="center", va="center", color=colour, fontsize=8)


_DRAWERS = {"dots": _dots, "columns": _xy, "lines": _xy, "points": _xy, "box": _boxes, "heatmap": _heatmap}
