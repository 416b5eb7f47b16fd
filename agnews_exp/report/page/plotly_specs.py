"""Charts as Plotly's JSON. Colours of text and grid are the page's script's affair: they follow its theme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnews_exp.report.content import Chart, Series

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99")
"""Okabe and Ito's colours without black and yellow, and two of Tol's; every series has a mark of its own as well."""
GREY = "#808080"
_MARKS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")


def plotly_spec(chart: Chart) -> dict[str, Any]:
    """Return a figure: ``data`` and ``layout``."""
    makers = {"heatmap": _heatmap, "box": _boxes, "dots": _dots}
    traces = makers[chart.kind](chart) if chart.kind in makers else _xy(chart)
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": _safe(chart.x_title)}, "automargin": True, "zeroline": False},
        "yaxis": {"title": {"text": _safe(chart.y_title)}, "automargin": True, "zeroline": False},
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "height": height(chart),
        "hovermode": "closest",
        "showlegend": chart.kind != "heatmap" and (len(chart.series) > 1 and chart.kind != "box"),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": PALETTE[0]},
        "shapes": [],
        "annotations": [],
    }
    if chart.kind in ("dots", "heatmap", "box"):
        layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    if chart.kind == "dots":
        if (span := _span(chart)) is not None:
            layout["xaxis"]["range"] = span
        layout |= {"scattermode": "group", "scattergap": 0.45}  # side by side, not on top of each other
        layout["yaxis"] |= {"categoryorder": "array", "categoryarray": [_safe(c) for c in categories(chart)]}
    if chart.kind == "heatmap":
        layout["xaxis"] |= {"type": "category"}
    if chart.kind == "columns" and chart.series and isinstance(chart.series[0].x[0], str):
        layout["xaxis"] |= {"type": "category"}
    if chart.log_x:
        layout["xaxis"]["type"] = "log"
    if chart.log_y:
        layout["yaxis"]["type"] = "log"
    for axis, at, what in chart.references:
        layout["shapes"].append(_line(axis, at))
        layout["annotations"].append(_label(axis, at, what, chart.log_x))
    if chart.diagonal:
        layout["shapes"].append({"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": _DASHED})
    return {"data": traces, "layout": layout}


_DASHED = {"color": GREY, "dash": "dash", "width": 1.2}


def _safe(words: object) -> str:
    """Escape what Plotly's labels read as markup: they know a few tags of HTML."""
    return str(words).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def height(chart: Chart) -> int:
    """Return a height in pixels that gives every row its room."""
    if chart.kind in ("dots", "box"):
        rows = len(categories(chart)) if chart.kind == "dots" else len(chart.series)
        each = 22 + 8 * max(0, len(chart.series) - 2) if chart.kind == "dots" else 30
        return 110 + max(3, rows) * each
    if chart.kind == "heatmap":
        return 120 + 46 * max(3, len(chart.z))
    return 400


def categories(chart: Chart) -> list[str]:
    """Return the rows of a chart of dots, in the order of their first mention."""
    return list(dict.fromkeys(str(name) for series in chart.series for name in series.y))


def _span(chart: Chart) -> list[float] | None:
    """Return a range that holds all values and intervals: grouped marks would start at zero by themselves."""
    if chart.log_x:
        return None
    found: list[float] = [at for axis, at, _ in chart.references if axis == "x"]
    for series in chart.series:
        for values in (series.x, series.low or (), series.high or ()):
            found += [float(v) for v in values if isinstance(v, int | float)]
    if not found:
        return None
    margin = 0.04 * (max(found) - min(found)) or 0.05
    return [min(found) - margin, max(found) + margin]


def _line(axis: str, at: float) -> dict[str, Any]:
    if axis == "x":
        return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": _DASHED}
    return {"type": "line", "y0": at, "y1": at, "x0": 0, "x1": 1, "xref": "paper", "line": _DASHED}


def _label(axis: str, at: float, what: str, log_x: bool) -> dict[str, Any]:
    from math import log10

    common: dict[str, Any] = {"text": _safe(what), "showarrow": False, "font": {"size": 11}}
    if axis == "x":
        return common | {
            "x": log10(at) if log_x else at,
            "y": 0,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "left",
            "xshift": 3,
        }
    return common | {"x": 1, "xref": "paper", "xanchor": "right", "y": at, "yanchor": "bottom"}


def colour_of(number: int, series: Series) -> str:
    """Return a series' colour; the study's own numbers are grey."""
    return GREY if series.published else PALETTE[number % len(PALETTE)]


def _marker(number: int, series: Series, size: int = 8) -> dict[str, Any]:
    mark = _MARKS[number % len(_MARKS)]
    return {
        "color": colour_of(number, series),
        "size": size,
        "symbol": f"{mark}-open" if series.published else mark,
        "line": {"width": 1.5, "color": colour_of(number, series)},
    }


def _errors(values: Sequence[Any], series: Series) -> dict[str, Any] | None:
    if series.low is None or series.high is None:
        return None
    plus = [None if h is None or v is None else max(0.0, h - v) for v, h in zip(values, series.high, strict=True)]
    minus = [None if low is None or v is None else max(0.0, v - low) for v, low in zip(values, series.low, strict=True)]
    return {"type": "data", "symmetric": False, "array": plus, "arrayminus": minus, "thickness": 1.3, "width": 3}


def _hover(series: Series) -> dict[str, Any]:
    if series.text is None:
        return {}
    return {"customdata": [_safe(t) for t in series.text], "hovertemplate": "%{customdata}<extra></extra>"}


def _dots(chart: Chart) -> list[dict[str, Any]]:
    traces = []
    for number, series in enumerate(chart.series):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": _safe(series.name),
            "x": list(series.x),
            "y": [_safe(name) for name in series.y],
            "marker": _marker(number, series),
            "orientation": "h",
            "offsetgroup": str(number),
        }
        if (errors := _errors(series.x, series)) is not None:
            trace["error_x"] = errors | {"color": colour_of(number, series)}
        traces.append(trace | _hover(series))
    return traces


def _xy(chart: Chart) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    for number, series in enumerate(chart.series):
        colour = colour_of(number, series)
        x = [_safe(v) if isinstance(v, str) else v for v in series.x]
        trace: dict[str, Any] = {"name": _safe(series.name), "x": x, "y": list(series.y)}
        if chart.kind == "columns":
            trace |= {"type": "bar", "marker": {"color": colour}}
            pattern = {"shape": ("", "/", "x", "-")[number % 4], "fillmode": "overlay", "fgcolor": "#ffffff", "size": 6}
            trace["marker"]["pattern"] = pattern
        else:
            many = len(series.x) > 40
            mode = "markers" if chart.kind == "points" else "lines" if many else "lines+markers"
            trace |= {"type": "scatter", "mode": mode, "marker": _marker(number, series, 7)}
            dash = "dash" if series.dashed or series.published else "solid"
            trace["line"] = {"color": colour, "dash": dash, "width": 2}
        if (errors := _errors(series.y, series)) is not None:
            trace["error_y"] = errors | {"color": colour if chart.kind != "columns" else GREY}
        traces.append(trace | _hover(series))
    return traces


def _boxes(chart: Chart) -> list[dict[str, Any]]:
    return [
        {
            "type": "box",
            "name": _safe(series.name),
            "x": list(series.x),
            "y": [_safe(series.name)] * len(series.x),
            "orientation": "h",
            "boxpoints": "all",
            "jitter": 0.4,
            "pointpos": 0,
            "marker": {"color": PALETTE[0]},
            "line": {"color": PALETTE[0]},
            "hoverinfo": "x",
        }
        for series in chart.series
    ]


def _heatmap(chart: Chart) -> list[dict[str, Any]]:
    columns, rows = ([_safe(name) for name in names] for names in chart.labels)
    texts = [[_safe(cell) for cell in row] for row in chart.texts] or None
    return [
        {
            "type": "heatmap",
            "z": [list(row) for row in chart.z],
            "x": columns,
            "y": rows,
            "text": texts,
            "texttemplate": "%{text}" if len(columns) <= 12 else "",
            "zmin": 0,
            "zmax": 1,
            "showscale": False,
            "colorscale": [[0, "#f7fbff"], [0.25, "#c6dbef"], [0.5, "#6baed6"], [0.75, "#2171b5"], [1, "#08306b"]],
            "hovertemplate": "%{y} / %{x}: %{text}<extra></extra>",
            "xgap": 2,
            "ygap": 2,
        }
    ]
