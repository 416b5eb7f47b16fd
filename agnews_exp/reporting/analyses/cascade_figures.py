"""Figures of a cascade: accuracy against cost, and risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.routing import pareto_front
from agnews_exp.reporting.figures import new_figure, save_png

if TYPE_CHECKING:
    from agnews_exp.reporting.analyses.cascade import Routers

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
"""Of Okabe and Ito's palette."""


def draw_routing(path: Path, routers: Routers) -> None:
    """Draw accuracy against the share handed over (left) and against the cost (right)."""
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2, sharey=True)
    curve, at = routers.curve, routers.chosen
    shares = 100 * curve.escalation_rate
    left.plot(100 * routers.oracle[0], routers.oracle[1], color=GREEN, ls="-.", label="all-knowing router")
    left.plot(shares, curve.accuracy, color=BLUE, label="cascade, every threshold")
    left.plot(shares, routers.random, color=GREY, ls="--", label="random router")
    left.set(xlabel="texts handed over (%)", ylabel="test accuracy", xlim=(-2, 102))
    front = pareto_front(routers.cost, curve.accuracy)
    right.plot(routers.cost, curve.accuracy, color=BLUE, alpha=0.35)
    right.step(
        routers.cost[front], curve.accuracy[front], where="post", color=BLUE, lw=2, label="Pareto front of the cascade"
    )
    accurate_alone = routers.cost[-1] - routers.cost[0]
    ends = [(routers.cost[0], routers.right[0].mean()), (accurate_alone, routers.right[1].mean())]
    for axes, places in ((left, [(0, ends[0][1]), (100, ends[1][1])]), (right, ends)):
        for (x, y), name, marker in zip(places, routers.names, "sD", strict=True):
            axes.plot([x], [y], marker, color=ORANGE, ms=8, label=f"{name} alone")
    for axes, x in ((left, shares[at]), (right, routers.cost[at])):
        axes.plot([x], [curve.accuracy[at]], "*", color="black", ms=14, label="chosen on validation")
        axes.grid(alpha=0.3)
    right.set(xlabel=f"cost of a million texts ({routers.unit})")
    low = min(curve.accuracy.min(), ends[0][1], ends[1][1])
    left.set_ylim(low - 0.005, float(routers.oracle[1].max()) + 0.005)
    entries = {
        label: line for axes in (left, right) for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(f"Routing between {routers.names[0]} and {routers.names[1]}, {len(routers.right[0]):,} test rows")
    save_png(figure, path)


def draw_risk_coverage(
    path: Path, curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], float]]
) -> None:
    """Draw the error rate among the surest texts against their share; lower is better."""
    figure = new_figure(6, 4.4)
    axes: Any = figure.add_subplot()
    styles = zip(curves.items(), (ORANGE, GREEN, BLUE), ("--", "-.", "-"), strict=True)
    for (name, (coverage, risk, area)), colour, style in styles:
        axes.plot(100 * coverage, 100 * risk, color=colour, ls=style, label=f"{name} (AURC {100 * area:.2f} %)")
    axes.set(xlabel="coverage: surest texts answered (%)", ylabel="error rate among them (%)", xlim=(0, 101))
    axes.set_ylim(0, max(100 * risk[-1] for _, risk, _ in curves.values()) * 1.6)
    axes.grid(alpha=0.3)
    axes.legend()
    save_png(figure, path)
