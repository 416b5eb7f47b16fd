"""The learning curve of a sweep: the objective along a numeric axis that was swept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agnews_exp.reporting.figures import new_figure, save_png
from agnews_exp.sweeps.aggregate import SEED, JobRow, groups, summarise, varying_keys

_PREFERRED = ("data_fraction",)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
_MARKERS = "osD^vPX"
_TITLES = {"data_fraction": "share of the training rows"}


def numeric_axis(rows: Sequence[JobRow]) -> str | None:
    """Return the swept key to draw along: data_fraction, or else the first with two or more numeric values."""
    keys = [k for k in varying_keys(rows) if k != SEED]
    for key in sorted(keys, key=lambda k: k not in _PREFERRED):
        values = [_number(row.values.get(key)) for row in rows]
        if all(v is not None for v in values) and len(set(values)) > 1:
            return key
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def draw_curve(rows: Sequence[JobRow], axis: str, metrics: Sequence[str], path: Path) -> None:
    """Draw each metric along the axis, one line a combination of the other swept keys, with the interval over seeds.

    Args:
        rows: Finished jobs.
        axis: :func:`numeric_axis`.
        metrics: One panel each.
        path: PNG to write.
    """
    others = [k for k in varying_keys(rows) if k not in (SEED, axis)]
    lines: dict[str, list[tuple[float, list[JobRow]]]] = {}
    for members in groups(rows).values():
        first = members[0]
        position = _number(first.values.get(axis))
        assert position is not None
        label = ", ".join(f"{k.split('.')[-1]}={first.values.get(k, '')}" for k in others)
        lines.setdefault(label, []).append((position, members))
    positions = [x for line in lines.values() for x, _ in line]
    figure = new_figure(5.2 * len(metrics), 4.2)
    for panel, metric in enumerate(metrics, 1):
        axes = figure.add_subplot(1, len(metrics), panel)
        for number, (label, points) in enumerate(lines.items()):
            points.sort(key=lambda p: p[0])
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
            sums = [summarise([m.metrics[metric] for m in members]) for _, members in points]
            xs = [x for x, _ in points]
            axes.plot(xs, [s.mean for s in sums], label=label or None, color=colour, marker=marker, markersize=5)
            if all(s.n > 1 for s in sums):
                lows, highs = [s.low for s in sums], [s.high for s in sums]
                axes.fill_between(xs, lows, highs, alpha=0.2, color=colour, linewidth=0)
        if min(positions) > 0 and max(positions) / min(positions) >= 10:
            axes.set_xscale("log")
        axes.set(xlabel=_TITLES.get(axis, axis), ylabel=metric)
        axes.grid(alpha=0.3)
        if others and panel == 1 and len(lines) <= 12:
            axes.legend(fontsize="small")
    save_png(figure, path)
