"""Figures of the robustness analysis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agnews_exp.evaluation.robustness.drops import Drop
from agnews_exp.evaluation.robustness.perturbations import DESCRIPTIONS, WITHOUT_STRENGTH, WORDS
from agnews_exp.reporting.figures import new_figure, open_frame, save_png

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#767676")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"


def draw_drops(path: Path, drops: Sequence[Drop]) -> None:
    """Draw the change of macro-F1 and accuracy under every variant, with paired intervals."""
    if not drops:
        return
    figure = new_figure(7.0, 0.27 * len(drops) + 1.5)
    axes = figure.add_subplot()
    y = np.arange(len(drops))
    for metric, label, colour, marker, offset in (
        ("macro_f1", "macro-F1", BLUE, "o", -0.13),
        ("accuracy", "accuracy", ORANGE, "s", 0.13),
    ):
        intervals = [drop.metrics[metric].difference for drop in drops]
        middle = np.array([100 * i.estimate for i in intervals])
        ends = 100 * np.array([i.percentile for i in intervals]).T
        axes.errorbar(
            middle, y + offset, xerr=np.clip(np.abs(ends - middle), 0, None), fmt=marker, color=colour, markersize=3.5,
            capsize=2, linewidth=1, label=label,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(y, [drop.variant.label for drop in drops], fontsize=8)
    axes.set_ylim(len(drops) - 0.4, -0.6)
    axes.set_xlabel("change [percentage points], 95 % paired bootstrap interval")
    open_frame(axes)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    save_png(figure, path)


def draw_strengths(path: Path, drops: Sequence[Drop], metric: str = "macro_f1") -> None:
    """Draw the metric against the share of words changed, one line a kind.

    Kinds of one strength only are left out, and synonyms, whose strength is a share of the words that the list knows.
    Nothing is drawn when no kind is left.
    """
    lines: dict[str, list[Drop]] = {}
    for drop in drops:
        if drop.variant.kind not in WITHOUT_STRENGTH | WORDS | {"synonyms"}:
            lines.setdefault(drop.variant.kind, []).append(drop)
    lines = {kind: sorted(found, key=lambda d: d.variant.strength) for kind, found in lines.items() if len(found) > 1}
    if not lines:
        return
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    clean = drops[0].metrics[metric].b.estimate
    for i, (kind, found) in enumerate(lines.items()):
        x = 100 * np.array([0.0, *(d.variant.strength for d in found)])
        differences = [d.metrics[metric].difference for d in found]
        values = np.array([clean, *(clean + d.estimate for d in differences)])
        low = np.array([clean, *(clean + d.percentile[0] for d in differences)])
        high = np.array([clean, *(clean + d.percentile[1] for d in differences)])
        colour = _COLOURS[i % len(_COLOURS)]
        axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0)
        axes.plot(
            x, values, color=colour, marker=_MARKERS[i % len(_MARKERS)], markersize=4, linewidth=1.2,
            label=DESCRIPTIONS[kind],
        )  # fmt: skip
    axes.axhline(clean, color=GREY, linewidth=1, linestyle="--")
    axes.set_xlabel("words changed [%]")
    axes.set_ylabel("macro-F1" if metric == "macro_f1" else metric)
    axes.set_xlim(left=0)
    open_frame(axes)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("bands: unchanged score + 95 % interval of the paired change", fontsize=8, loc="left")
    save_png(figure, path)
