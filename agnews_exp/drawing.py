"""Charts: each described once as data, and drawn from that as PNG, SVG or a Vega-Lite specification for a page.

A :class:`Chart` says what is shown and knows nothing of pixels. It is stored as JSON in the run's folder; only who
looks at it pays for drawing (vl-convert takes a second to start). Names and texts of users are values of the data,
never part of an expression, of markup or of a field's name.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from agnews_exp.core.errors import StorageError, needs
from agnews_exp.core.files import atomic_path

Kind = Literal["dots", "bars", "columns", "lines", "points", "box", "heatmap"]
Value = float | str | None
Spec = dict[str, Any]

PALETTE: Final = ("#2f7fc1", "#d9661f", "#159a78", "#b565a7", "#c9971b", "#4fb0d8", "#a0506e", "#7a8b3c")
"""Okabe and Ito's hues in a lightness that can be read on white and on black; each series has a mark of its own too."""

GREY: Final = "#8a8f98"
WIDTH: Final = 720
"""Width of a picture in pixels, axes included; PNGs have twice as many."""

_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right", "triangle-left")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_FONT = "Liberation Sans, Arial, Helvetica, DejaVu Sans, sans-serif"
_LONGEST_LABEL = 260  # pixels
_MOST_CELLS_WITH_TEXT = 400
_MOST_MARKED = 40  # points of a line
_VEGA_LITE = "6.1"
_BEGINNING = b'{"chart":1'


@dataclass(frozen=True)
class Series:
    """One series of a chart."""

    name: str  # in the legend
    x: tuple[Value, ...]  # positions; values for ``dots``, ``bars`` and ``box``
    y: tuple[Value, ...] = ()  # values; categories for ``dots`` and ``bars``; empty for ``box``
    low: tuple[float | None, ...] | None = None  # lower ends of the values' intervals, None where there is none
    high: tuple[float | None, ...] | None = None  # upper ends
    text: tuple[str, ...] | None = None  # said of each point when pointed at
    dashed: bool = False  # draw the line dashed
    published: bool = False  # somebody's published number: drawn as an open grey mark
    # Title of the panel that the series is drawn in; charts whose series have several are drawn side by side.
    panel: str = ""
    # Of a box: 5th, 25th, 50th, 75th, 95th percentile and mean, where ``x`` does not hold the values.
    summary: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Chart:
    """A chart as data: series or cells, titles, scales."""

    name: str  # file name without ending, unique in its folder or report
    title: str
    # ``dots``: values with intervals, one row a category; ``bars``: lying, one row a category; ``columns``: standing,
    # over numbers (a histogram) or categories; ``lines``; ``points``; ``box``: one box a series; ``heatmap``.
    kind: Kind
    x_title: str  # with unit
    y_title: str  # with unit
    series: tuple[Series, ...] = ()  # the data; none for a heat map
    provenance: str = ""  # runs, split, rows, seeds, device, command
    intervals: str = ""  # the kind of the intervals, or why there are none
    caption: str = ""  # a sentence on how to read it
    z: tuple[tuple[float, ...], ...] = ()  # heat map: rows of shades (0 to 1; NaN is left blank), the first row on top
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # heat map: column names, row names
    texts: tuple[tuple[str, ...], ...] = ()  # heat map: what each cell says
    # Lines across the chart: axis, position, what it is.
    references: tuple[tuple[Literal["x", "y"], float, str], ...] = ()
    annotations: tuple[tuple[float, float, str], ...] = ()  # words in the chart: x, y, text
    diagonal: bool = False  # draw the line y = x
    log_x: bool = False  # logarithmic x axis (linear near zero where a value is zero or less)
    log_y: bool = False  # logarithmic y axis
    x_range: tuple[float, float] | None = None  # ends of the x axis
    y_range: tuple[float, float] | None = None  # ends of the y axis
    x_form: str = ""  # how the numbers of the x axis are written: ``share`` is in percent; empty: as they are
    y_form: str = ""  # likewise
    columns: int = 2  # panels side by side, where series name panels


def matrix_chart(name: str, title: str, counts: ArrayLike, names: Sequence[str], *, provenance: str = "") -> Chart:
    """Return a confusion matrix (K, K), true classes by given ones: counts, shaded by their share of the true class.

    The cells of more than six classes have no room for shares; the shades show them.
    """
    matrix = np.asarray(counts, dtype=np.int64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return Chart(
        name, title, "heatmap", "class given", "true class",
        provenance=provenance, intervals="Counts, and shares of the true class.",
        z=tuple(map(tuple, shares.tolist())), labels=(tuple(names), tuple(names)),
        texts=tuple(
            tuple(f"{n:,} ({s:.1%})" if len(names) <= 6 else f"{n:,}" for n, s in zip(row, part, strict=True))
            for row, part in zip(matrix.tolist(), shares.tolist(), strict=True)
        ),
    )  # fmt: skip


def heat_map(
    name: str, title: str, values: ArrayLike, rows: Sequence[str], columns: Sequence[str], *, form: str = ".2f",
    top: float | None = None, blank_diagonal: bool = False, caption: str = "",
) -> Chart:  # fmt: skip
    """Return a matrix (R, C) as shades from 0 to its greatest value or ``top``, with its numbers in the cells.

    NaN is left blank, and with ``blank_diagonal`` the cells (i, i), which are what they are by definition.
    """
    matrix = np.array(values, dtype=np.float64)
    if blank_diagonal:
        np.fill_diagonal(matrix, np.nan)
    finite = matrix[np.isfinite(matrix)]
    darkest = top or float(finite.max(initial=0)) or 1.0
    texts = tuple(tuple(format(value, form) for value in row) for row in matrix.tolist())
    shades = tuple(map(tuple, (matrix / darkest).tolist()))
    return Chart(
        name, title, "heatmap", "", "", z=shades, labels=(tuple(columns), tuple(rows)), texts=texts, caption=caption
    )


def ranked_bars(
    name: str, title: str, x_title: str, ranked: Mapping[str, Sequence[tuple[str, float]]], *, columns: int = 2
) -> Chart:
    """Return ranked bars, one panel a list; empty lists and those beyond the twelfth are left out."""
    used = [(panel, pairs) for panel, pairs in ranked.items() if pairs][:12]
    series = tuple(
        Series(panel, tuple(float(v) for _, v in pairs), tuple(n for n, _ in pairs), panel=panel)
        for panel, pairs in used
    )
    return Chart(name, title, "bars", x_title, "", series, columns=columns)


def box_series(name: str, values: ArrayLike) -> Series:
    """Return a box of n values, n at least 1, of which the chart keeps only the percentiles and the mean."""
    return Series(name, (), summary=_summary(values))


def _summary(values: ArrayLike) -> tuple[float, ...]:
    numbers = np.asarray(values, dtype=np.float64)
    return (*np.percentile(numbers, [5, 25, 50, 75, 95]).tolist(), float(numbers.mean()))


# Stored as data


def without_defaults(item: Any) -> Any:
    """Return a dataclass as plain data without the fields that have their default; NaN becomes None."""
    if is_dataclass(item) and not isinstance(item, type):
        kept = {f.name: getattr(item, f.name) for f in fields(item) if getattr(item, f.name) != f.default}
        return {name: without_defaults(value) for name, value in kept.items()}
    if isinstance(item, list | tuple):
        return [without_defaults(part) for part in item]
    if isinstance(item, np.generic):
        item = item.item()
    return None if isinstance(item, float) and not math.isfinite(item) else item


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_chart(path: Path) -> Chart:
    """Read a chart that :func:`save` stored.

    Raises:
        StorageError: The file is missing, damaged or no chart.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {key: _tuples(value) for key, value in content.items() if key not in ("chart", "series")}
        series = tuple(Series(**{k: _tuples(v) for k, v in one.items()}) for one in content.get("series", ()))
        chart = Chart(**found, series=series)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} cannot be read as a chart: {error}", fix="run the analysis again") from error
    return replace(chart, z=tuple(tuple(math.nan if v is None else v for v in row) for row in chart.z))


# Drawn


def draw_folder(folder: Path, *, ending: str = ".png", dark: bool = False) -> list[Path]:
    """Draw all charts whose data lie in a folder or below it, each beside its data; return the pictures' files."""
    drawn = []
    for path in sorted(folder.rglob("*.json")):
        with path.open("rb") as file:
            is_chart = file.read(len(_BEGINNING)) == _BEGINNING
        if is_chart:
            save(read_chart(path), path.with_suffix(ending), dark=dark)
            drawn.append(path.with_suffix(ending))
    return drawn


def save(chart: Chart, path: Path, *, dark: bool = False) -> None:
    """Write a chart as ``.png``, ``.svg`` or, as data to be drawn when somebody asks, ``.json``."""
    if path.suffix == ".json":
        written = (
            json.dumps(
                {"chart": 1} | without_defaults(chart), ensure_ascii=False, separators=(",", ":"), allow_nan=False
            ).encode()
            + b"\n"
        )
    else:
        written = png(chart, dark=dark) if path.suffix == ".png" else svg(chart, dark=dark).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(written)


def png(chart: Chart, *, dark: bool = False) -> bytes:
    """Return a chart as PNG, 1440 pixels wide, with its title.

    Raises:
        MissingDependencyError: vl-convert is not installed.
    """
    return bytes(_converter().vegalite_to_png(vega(chart, dark=dark), vl_version=_VEGA_LITE, scale=2))


def svg(chart: Chart, *, dark: bool = False) -> str:
    """Return a chart as SVG.

    Raises:
        MissingDependencyError: vl-convert is not installed.
    """
    return str(_converter().vegalite_to_svg(vega(chart, dark=dark), vl_version=_VEGA_LITE))


def page_script() -> str:
    """Return the script (Vega, Vega-Lite, vega-embed; .9 MB) with which a page draws specifications by itself.

    It defines ``window.agnewsDraw(element, spec, config)``, which needs no right to evaluate text as code.
    """
    snippet = (
        "window.agnewsDraw = (element, spec, config) => vegaEmbed(element, spec, "
        "{ config, actions: false, ast: true, renderer: 'svg' });"
    )
    return str(_converter().javascript_bundle(snippet, vl_version=_VEGA_LITE))


def _converter() -> Any:
    with needs("vl-convert-python", "Drawing charts", "vl-convert-python"):
        import vl_convert
    return vl_convert


def vega(chart: Chart, *, dark: bool = False, titled: bool = True) -> Spec:
    """Return a chart as a Vega-Lite specification, titled for a picture that stands alone.

    For a dark background only the key ``config`` differs: a page keeps one specification and two :func:`theme`.
    """
    panels = list(dict.fromkeys(series.panel for series in chart.series))
    spec: Spec = {"$schema": f"https://vega.github.io/schema/vega-lite/v{_VEGA_LITE[0]}.json"}
    if titled:
        said = " ".join(part for part in (chart.caption, chart.intervals) if part)
        lines = textwrap.wrap(said, 110) if said else []
        spec["title"] = {"text": textwrap.wrap(chart.title, 80) or "", **({"subtitle": lines} if lines else {})}
    if len(panels) > 1:
        across = min(chart.columns, len(panels))
        width = (WIDTH - 110 * across) // across
        each = [
            _view(replace(chart, series=tuple(s for s in chart.series if s.panel == panel)), chart.series, width)
            | {"title": {"text": panel, "fontSize": 12, "anchor": "start", "frame": "group"}}
            for panel in panels
        ]
        spec |= {"concat": each, "columns": across, "spacing": 24, "resolve": {"legend": {"color": "shared"}}}
    else:
        spec |= {"width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}}
        spec |= _view(chart, chart.series, None)
    return spec | {"config": theme(dark)}


def theme(dark: bool = False) -> Spec:
    """Return colours, fonts and lines as Vega-Lite's ``config``."""
    if dark:
        ink, faint, line, back = "#e6e8eb", "#a7adb5", "#3a3f47", "#16181d"
        shades, on_shades = ["#1d222a", "#1d4468", "#2b6ea6", "#5aa6dc", "#b9dcf5"], ["#e6e8eb", "#0d1117"]
    else:
        ink, faint, line, back = "#1f2328", "#5b626b", "#dfe2e6", "#ffffff"
        shades, on_shades = ["#f5f8fb", "#c9ddee", "#86b5db", "#3d83bd", "#154d82"], ["#1f2328", "#ffffff"]
    return {
        "background": back,
        "font": _FONT,
        "padding": 12,
        "view": {"stroke": None},
        "title": {
            "color": ink, "fontSize": 15, "fontWeight": 600, "anchor": "start", "frame": "bounds", "offset": 12,
            "subtitleColor": faint, "subtitleFontSize": 11.5, "subtitlePadding": 6,
        },
        "axis": {
            "labelColor": ink, "titleColor": faint, "gridColor": line, "domainColor": line, "tickColor": line,
            "labelFontSize": 11.5, "titleFontSize": 12, "titleFontWeight": 400, "titlePadding": 8,
            "labelLimit": _LONGEST_LABEL, "labelOverlap": True, "tickCount": 7,
        },
        "axisBand": {"ticks": False, "domain": False, "grid": False, "labelPadding": 6, "labelOverlap": False},
        "legend": {
            "orient": "top", "direction": "horizontal", "columns": 3, "title": None, "labelColor": ink,
            "labelFontSize": 11.5, "labelLimit": 320, "symbolSize": 80, "symbolStrokeWidth": 2, "columnPadding": 18,
            "offset": 6,
        },
        "rule": {"color": faint}, "text": {"color": ink, "fontSize": 11},
        "range": {"heatmap": shades, "ramp": shades, "ordinal": on_shades},
    }  # fmt: skip


# One view


def _view(chart: Chart, every: Sequence[Series], width: int | None) -> Spec:
    """Return one panel; ``every`` are the series of all panels, so that a series looks the same in each."""
    spec: Spec
    if chart.kind == "heatmap":
        spec = _heatmap(chart)
    elif chart.kind == "box":
        spec = _boxes(chart)
    elif chart.kind in ("dots", "bars"):
        spec = _rows(chart, every)
    else:
        spec = _plane(chart, every)
    spec["layer"] += _annotations(chart)
    return spec | ({} if width is None else {"width": width})


def _axis(title: str, form: str = "") -> Spec:
    return {"title": textwrap.wrap(title, 90) or None} | ({"format": "~%"} if form == "share" else {})


def _numbers(chart: Chart, axis: Literal["x", "y"]) -> list[float]:
    """Return all numbers that an axis must hold."""
    named: Literal["x", "y"] = "x" if chart.kind in ("dots", "bars") else axis
    found: list[Any] = [at for which, at, _ in chart.references if which == axis]
    for series in chart.series:
        found += series.x if axis == "x" else series.y
        found += series.summary or ()
        if chart.kind in ("dots", "bars") or axis == "y" or named != axis:
            found += [*(series.low or ()), *(series.high or ())]
    return [float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)]


def _scale(chart: Chart, axis: Literal["x", "y"]) -> Spec:
    """Return a quantitative scale that holds all values, intervals and lines."""
    span = chart.x_range if axis == "x" else chart.y_range
    found = _numbers(chart, axis)
    scale: Spec = {"zero": False, "nice": False}
    if chart.log_x if axis == "x" else chart.log_y:
        positive = bool(found) and all(v > 0 for v in found)
        scale = {"type": "log", "nice": False} if positive else {"type": "symlog", "constant": 0.1}
        if span or positive:
            scale["domain"] = list(span) if span else [min(found) / 1.08, max(found) * 1.08]
        return scale
    if span:
        return scale | {"domain": list(span)}
    if not found:
        return scale
    low, high = min(found), max(found)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    from_zero = chart.kind == "bars" or (chart.kind == "columns" and axis == "y")
    if from_zero and low >= 0:
        return scale | {"domain": [0, high + margin]}
    bottom = 0.0 if 0 <= low < margin else low - margin  # no negative end for shares near zero
    return scale | {"domain": [bottom, high + margin]}


def _colours(every: Sequence[Series], *, marked: bool = True) -> Spec:
    """Return the channels that tell series apart: colour, and shape where points are marked, else dashes."""
    first: dict[str, Series] = {}
    for series in every:
        first.setdefault(series.name, series)
    names = list(first)
    colours = [GREY if s.published else PALETTE[i % len(PALETTE)] for i, s in enumerate(first.values())]
    panels = {series.panel for series in every}
    alone = len(panels) == len(every) > 1  # the panels' titles say it
    columns = {"columns": 3 if max(map(len, names), default=0) <= 34 else 1}
    legend = columns if len(names) > 1 and not alone else None
    base = {"field": "series", "type": "nominal", "legend": legend}
    return {
        "color": base | {"scale": {"domain": names, "range": colours}},
        "shape": base | {"scale": {"domain": names, "range": [_SHAPES[i % len(_SHAPES)] for i in range(len(names))]}},
        "strokeDash": base | {
            "scale": {
                "domain": names,
                "range": [
                    [6, 4] if s.dashed or s.published else _DASHES[0 if marked else i % len(_DASHES)]
                    for i, s in enumerate(first.values())
                ],
            }
        },
    }  # fmt: skip


def _records(chart: Chart) -> list[dict[str, Any]]:
    """Return one record a point; points without a value are left out.

    A line of many points is not marked, so that its points have nothing to say when pointed at.
    """
    records = []
    has_published = any(series.published for series in chart.series)
    for series in chart.series:
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            record: dict[str, Any] = {"x": _value(x), "y": _value(y)}
            if None in record.values():
                continue
            ends = [_value(side[i]) if side else None for side in (series.low, series.high)]
            interval = None not in ends
            if _is_marked(chart):
                first, second = ("y", "x") if chart.kind in ("dots", "bars") else ("x", "y")
                text = series.text[i] if series.text else f"{_said(record[first])}: {_said(record[second])}"
                if interval and not series.text:
                    text += f" [{_said(ends[0])}, {_said(ends[1])}]"
                named = len(chart.series) > 1 and series.name not in text
                record["text"] = f"{series.name}: {text}" if named else text
            record["series"] = series.name
            record |= {"low": ends[0], "high": ends[1]} if interval else {}
            records.append(record | ({"open": series.published} if has_published else {}))
    return records


def _is_marked(chart: Chart) -> bool:
    return chart.kind != "lines" or max((len(series.x) for series in chart.series), default=0) <= _MOST_MARKED


def _value(value: Value) -> Value:
    if isinstance(value, str) or value is None:
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None  # a pixel needs no more digits


def _said(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.4g}" if value is not None else ""


def categories(chart: Chart) -> list[str]:
    """Return the rows of a chart of dots or bars, in the order of their first mention."""
    return list(dict.fromkeys(str(name) for series in chart.series for name in series.y))


_TOOLTIP: Final = {"field": "text", "type": "nominal"}


def _rows(chart: Chart, every: Sequence[Series]) -> Spec:
    """Return one row a category, values across: dots with intervals, or bars."""
    named = categories(chart)
    n = len({series.name for series in chart.series})
    channels = _colours(every)
    y: Spec = {"field": "y", "type": "nominal", "title": chart.y_title or None,
               "scale": {"domain": named, "padding": 0.25}, "sort": None}  # fmt: skip
    encoding: Spec = {"y": y, "color": channels["color"], "tooltip": _TOOLTIP}
    if n > 1:
        order = list(dict.fromkeys(series.name for series in chart.series))
        encoding["yOffset"] = {"field": "series", "type": "nominal", "scale": {"domain": order}, "sort": None}
    axis = _axis(chart.x_title, chart.x_form) | {"labelOverlap": "greedy", "labelSeparation": 6}  # panels may be narrow
    x: Spec = {"field": "x", "type": "quantitative", "axis": axis, "scale": _scale(chart, "x")}
    interval = _interval({"x": x | {"field": "low"}, "x2": {"field": "high"}}, 1.6)
    layers: list[Spec] = [interval] if any(series.low for series in chart.series) else []
    if chart.kind == "bars":
        grey = [interval | {"encoding": interval["encoding"] | {"color": {"value": GREY}}} for interval in layers]
        layers = [{"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": {"x": x}}, *grey]
        step = 18 if n == 1 else 11 * n + 6
    else:
        layers.append(_marks(chart, {"x": x, "shape": channels["shape"]}, 62))
        step = 22 if n == 1 else 12 * n + 8
    values = {"values": _records(chart)}
    return {"data": values, "height": max(len(named), 1) * step, "encoding": encoding, "layer": layers}


def _interval(encoding: Spec, width: float) -> Spec:
    """Return a layer of intervals, of the points that have one."""
    transform = [{"filter": {"field": "low", "valid": True}}]
    return {"mark": {"type": "rule", "strokeWidth": width}, "encoding": encoding, "transform": transform}


def _marks(chart: Chart, encoding: Spec, size: int) -> Spec:
    """Return a layer of points: filled ones, and open ones for published numbers."""
    mark: Spec = {"type": "point", "size": size, "strokeWidth": 1.8, "opacity": 1 if size > 20 else 0.7}
    if not any(series.published for series in chart.series):
        return {"mark": mark | {"filled": True}, "encoding": encoding}
    return {
        "layer": [
            {"mark": mark | {"filled": not opened}, "transform": [{"filter": {"field": "open", "equal": opened}}],
             "encoding": encoding}
            for opened in (False, True)
        ]
    }  # fmt: skip


def _plane(chart: Chart, every: Sequence[Series]) -> Spec:
    """Return columns, lines or points over x and y."""
    records, many = _records(chart), max((len(series.x) for series in chart.series), default=0)
    channels = _colours(every, marked=many <= _MOST_MARKED)
    categorical = any(isinstance(v, str) for series in chart.series for v in series.x)
    x: Spec = {"field": "x", "axis": _axis(chart.x_title, chart.x_form)}
    if categorical:
        names = list(dict.fromkeys(str(v) for series in chart.series for v in series.x))
        slanted = max(map(len, names)) > 10 and len(names) > 3
        x |= {"type": "nominal", "sort": None, "scale": {"domain": names}}
        x["axis"] |= {"labelAngle": -30} if slanted else {"labelAngle": 0}
    else:
        x |= {"type": "quantitative", "scale": _scale(chart, "x")}
    y: Spec = {"field": "y", "type": "quantitative", "axis": _axis(chart.y_title, chart.y_form),
               "scale": _scale(chart, "y")}  # fmt: skip
    encoding: Spec = {"color": channels["color"]} | ({"tooltip": _TOOLTIP} if _is_marked(chart) else {})
    has_intervals = any("low" in record for record in records)
    interval = _interval({"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}, 1.5)
    layers: list[Spec] = []
    if chart.kind == "columns":
        layers = _columns(chart, records, x, y, categorical)
        if has_intervals and categorical:
            offset = layers[0]["encoding"].get("xOffset")
            ends = interval["encoding"] | ({"xOffset": offset} if offset else {}) | {"color": {"value": GREY}}
            layers.append(interval | {"encoding": ends})
    else:
        if chart.diagonal:
            layers.append(_diagonal(chart))
        if has_intervals:
            layers.append(interval)
        if chart.kind == "lines":
            line = {"type": "line", "strokeWidth": 2.2}
            layers.append({"mark": line, "encoding": {"x": x, "y": y, "strokeDash": channels["strokeDash"]}})
        if chart.kind == "points" or many <= _MOST_MARKED:
            marks = {"x": x, "y": y, "shape": channels["shape"]}
            layers.append(_marks(chart, marks, 55 if many <= 200 else 14))
    return {"data": {"values": records}, "height": 320, "encoding": encoding, "layer": layers}


def _columns(chart: Chart, records: list[dict[str, Any]], x: Spec, y: Spec, categorical: bool) -> list[Spec]:
    """Return columns: side by side over categories; over numbers as wide as the step between them."""
    names = list(dict.fromkeys(series.name for series in chart.series))
    if categorical:
        offset = {"xOffset": {"field": "series", "type": "nominal", "scale": {"domain": names}, "sort": None}}
        encoding = {"x": x, "y": y} | (offset if len(names) > 1 else {})
        return [{"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": encoding}]
    places = sorted({record["x"] for record in records})
    step = min((b - a for a, b in pairwise(places)), default=1.0)
    for record in records:
        place = names.index(record["series"])
        begin = record["x"] - step / 2 + step * (0.06 + 0.88 * place / len(names))
        record |= {"begin": begin, "end": begin + 0.88 * step / len(names), "zero": 0 if not chart.log_y else None}
    if chart.x_range is None and places:
        x = x | {"scale": {"zero": False, "nice": False, "domain": [places[0] - step / 2, places[-1] + step / 2]}}
    encoding = {"x": x | {"field": "begin"}, "x2": {"field": "end"}, "y": y}
    if chart.log_y:  # a logarithmic axis has no zero for a column to stand on
        floor = min((record["y"] for record in records if record["y"] > 0), default=1.0) / 2
        for record in records:
            record["zero"] = floor
        records[:] = [record for record in records if record["y"] > 0]
        top = max((record["y"] for record in records), default=1.0)
        encoding["y"] = y | {"scale": {"type": "log", "domain": [floor, 1.3 * top], "nice": False}}
    encoding["y2"] = {"field": "zero"}
    return [{"mark": {"type": "rect"}, "encoding": encoding}]


def _boxes(chart: Chart) -> Spec:
    """Return one lying box a series: quartiles, median, 5th to 95th percentile, mean; single values where few."""
    boxes, points = [], []
    for series in chart.series:
        values = [float(v) for v in series.x if isinstance(v, int | float) and math.isfinite(v)]
        summary = series.summary or (_summary(values) if values else None)
        if summary is None:
            continue
        p5, q25, median, q75, p95, mean = summary
        said = f"{series.name}: median {median:.4g}, quartiles {q25:.4g} to {q75:.4g}, mean {mean:.4g}"
        boxes.append({"y": series.name, "p5": p5, "q25": q25, "median": median, "q75": q75, "p95": p95, "mean": mean,
                      "text": said})  # fmt: skip
        points += [{"y": series.name, "x": v, "text": f"{series.name}: {v:.4g}"} for v in values if len(values) <= 200]
    y: Spec = {"field": "y", "type": "nominal", "sort": None, "title": chart.y_title or None,
               "scale": {"domain": [box["y"] for box in boxes]}}  # fmt: skip
    scale = _scale(chart, "x")

    def across(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "scale": scale, "axis": _axis(chart.x_title, chart.x_form)}

    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 1.4}, "encoding": {"x": across("p5"), "x2": {"field": "p95"}}},
        {"mark": {"type": "bar", "height": 13, "color": PALETTE[0], "opacity": 0.55, "cornerRadius": 2},
         "encoding": {"x": across("q25"), "x2": {"field": "q75"}}},
        {"mark": {"type": "tick", "height": 15, "thickness": 2.4, "color": PALETTE[1]},
         "encoding": {"x": across("median")}},
        {"mark": {"type": "point", "filled": True, "size": 34, "color": PALETTE[0], "opacity": 1},
         "encoding": {"x": across("mean")}},
    ]  # fmt: skip
    if points:
        mark = {"type": "point", "size": 16, "filled": True, "opacity": 0.5, "color": GREY}
        layers.append({"data": {"values": points}, "mark": mark, "encoding": {"x": across("x")}})
    encoding = {"y": y, "tooltip": _TOOLTIP}
    return {"data": {"values": boxes}, "height": 26 * max(len(boxes), 1), "encoding": encoding, "layer": layers}


def _heatmap(chart: Chart) -> Spec:
    """Return a matrix of shades with its texts."""
    columns, rows = map(_told_apart, chart.labels)
    cells = []
    for i, row in enumerate(chart.z):
        for j, value in enumerate(row):
            if math.isfinite(value):
                text = chart.texts[i][j] if chart.texts else f"{value:.2f}"
                cells.append({"x": columns[j], "y": rows[i], "z": value, "cell": text, "dark": value > 0.5,
                              "text": f"{rows[i]} / {columns[j]}: {text}"})  # fmt: skip
    slanted = max(map(len, columns), default=0) > 90 / max(1, len(columns))

    def names(field: str, domain: Sequence[str], axis: Spec) -> Spec:
        scale = {"domain": domain, "padding": 0.03}
        return {"field": field, "type": "nominal", "sort": None, "scale": scale, "axis": axis}

    x = names("x", columns, _axis(chart.x_title) | {"labelAngle": -30 if slanted else 0})
    y = names("y", rows, _axis(chart.y_title))
    shade = {"field": "z", "type": "quantitative", "scale": {"domain": [0, 1], "range": "heatmap"}, "legend": None}
    mark = {"type": "rect", "cornerRadius": 2}
    layers: list[Spec] = [{"mark": mark, "encoding": {"color": shade, "tooltip": _TOOLTIP}}]
    if len(cells) <= _MOST_CELLS_WITH_TEXT and len(columns) <= 12:
        ink_scale = {"domain": [False, True], "range": "ordinal"}
        ink = {"field": "dark", "type": "nominal", "scale": ink_scale, "legend": None}
        words = {"field": "cell", "type": "nominal"}
        layers.append({"mark": {"type": "text", "fontSize": 11}, "encoding": {"text": words, "color": ink}})
    height = max(2, len(rows)) * (34 if len(columns) <= 12 else 18)
    resolve = {"resolve": {"scale": {"color": "independent"}}}
    return {"data": {"values": cells}, "height": height, "encoding": {"x": x, "y": y}, "layer": layers} | resolve


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return names of which an equal one later has its number behind it: a scale knows each name once."""
    return [name if names.index(name) == i else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _diagonal(chart: Chart) -> Spec:
    line = {"type": "line", "strokeDash": [4, 4], "strokeWidth": 1.2, "color": GREY, "tooltip": None}
    encoding: Spec = {
        axis: {"field": axis, "type": "quantitative", "scale": _scale(chart, axis)} for axis in ("x", "y")
    } | {"color": {"value": GREY}, "tooltip": {"value": None}}
    return {"data": {"values": [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]}, "mark": line, "encoding": encoding}


def _annotations(chart: Chart) -> list[Spec]:
    """Return lines across the chart with their names, and words in it."""
    layers: list[Spec] = []
    blank: Spec = {"color": {"value": GREY}, "tooltip": {"value": None}}
    for axis, at, said in chart.references:
        place: Spec = {axis: {"datum": at, "type": "quantitative", "scale": _scale(chart, axis)}}
        other: Spec = {"y": {"value": 0}} if axis == "x" else {"x": {"value": "width"}}
        off: Spec = {"y": None, "yOffset": None} if axis == "x" else {"x": None}
        line = {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.2}
        layers.append({"data": {"values": [{}]}, "mark": line, "encoding": off | place | blank})
        if said:
            text = {"type": "text", "align": "left" if axis == "x" else "right", "baseline": "bottom",
                    "dx": -2 if axis == "x" else -4, "dy": -3, "fontSize": 10.5}  # fmt: skip
            said_there: Spec = {"text": {"value": said}}
            layers.append(
                {"data": {"values": [{}]}, "mark": text, "encoding": off | other | place | said_there | blank}
            )
    if chart.annotations:
        values = [{"ax": x, "ay": y, "said": said} for x, y, said in chart.annotations]
        words: Spec = {
            "x": {"field": "ax", "type": "quantitative", "scale": _scale(chart, "x")},
            "y": {"field": "ay", "type": "quantitative", "scale": _scale(chart, "y")},
            "text": {"field": "said", "type": "nominal"}, "tooltip": {"value": None}, "color": None,
        }  # fmt: skip
        mark = {"type": "text", "fontWeight": 600, "fontSize": 12.5, "dy": -8}
        layers.append({"data": {"values": values}, "mark": mark, "encoding": words})
    return layers
