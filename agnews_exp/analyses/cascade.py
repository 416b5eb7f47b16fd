"""A cascade on test rows: every threshold's accuracy and cost, and what the chosen one gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.figures import new_figure, save_png
from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.routing import (
    RoutingCurve,
    oracle_curve,
    pareto_front,
    random_accuracy,
    risk_coverage,
    routing_curve,
)
from agnews_exp.evaluation.score_calibration import uncalibrated
from agnews_exp.evaluation.statistics import bootstrap_difference, bootstrap_metric
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.cascade import CascadeModel, confidence, routed
from agnews_exp.runners.cascade_runner import PARTS, TIMING
from agnews_exp.tracking.runs import source_runs

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


FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Routers:
    """Both models and every router between them, on the test rows.

    Attributes:
        names: Of the fast and the accurate model.
        right: Which rows each of them answers right, shape (n,) each.
        curve: The cascade at every threshold.
        oracle: Escalation rates and accuracies of a router that knows who is right.
        random: Accuracy at the curve's escalation rates when texts are handed over by lot.
        chosen: Position of the chosen threshold.
        cost: Of a million texts at every threshold: in the price's currency, or in seconds without a price.
        unit: Of the cost.
    """

    names: tuple[str, str]
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    curve: RoutingCurve
    oracle: tuple[FloatArray, FloatArray]
    random: FloatArray
    chosen: int
    cost: FloatArray
    unit: str


def analyse(
    context: AnalysisContext,
    *,
    study_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    resamples: Annotated[int, Field(ge=100)] = 10_000,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Judge a fitted cascade on the test rows.

    Args:
        context: The run of a cascade.
        study_confidence: A fixed confidence to report beside the chosen threshold.
        resamples: Bootstrap resamples of the intervals.
        seed: Their seed.

    Raises:
        DataError: The run's model is no cascade.
    """
    model = context.model
    if not isinstance(model, CascadeModel):
        raise DataError("this run's model is no cascade", fix="python run.py model=cascade model.fast=... ")
    test, truth = context.splits.test, context.splits.test.labels
    sources = source_runs(context.checked.plain)
    raw = [read_predictions(sources[part].predictions, "test", test, context.splits.class_names) for part in PARTS]
    first, second = (c.apply(answer) for c, answer in zip(model.calibrations, raw, strict=True))
    asked = model.asked(first)
    answer = routed(first, second, asked)
    routers = _routers(context, model, (first, second), (sources["fast"].name, sources["accurate"].name))
    draw_routing(context.folder / "routing.png", routers)
    coverages = {
        name: risk_coverage(confidence(a), a.labels == truth)
        for name, a in ((routers.names[0], first), (routers.names[1], second), ("cascade", answer))
    }
    draw_risk_coverage(context.folder / "risk_coverage.png", coverages)
    chosen: dict[str, Any] = {"threshold": min(model.threshold, 1.0), "escalation_rate": float(asked.mean())}
    for name in ("accuracy", "macro_f1"):
        chosen[name] = bootstrap_metric(truth, answer.labels, name, resamples=resamples, seed=seed)
        for part, alone in zip(PARTS, (first, second), strict=True):
            chosen[f"{name}_minus_{part}"] = bootstrap_difference(
                truth, answer.labels, alone.labels, name, resamples=resamples, seed=seed
            ).difference
    fixed = {
        "before calibration": _fixed(_own_confidence(raw[0]), routers, study_confidence),
        "after calibration": _fixed(confidence(first), routers, study_confidence),
    }
    at = routers.chosen
    metrics = {
        "test/escalation_rate": chosen["escalation_rate"],
        "test/cascade_minus_accurate_accuracy": chosen["accuracy_minus_accurate"].estimate,
        "test/cost_share": float(routers.cost[at] / _alone(routers)[1]),
    } | {f"test/aurc_{k}": v for k, v in zip((*PARTS, "cascade"), (c[2] for c in coverages.values()), strict=True)}
    details = {
        "chosen": {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in chosen.items()},
        "fixed_confidence": fixed,
        "curve": {
            "threshold": [min(float(t), 1.0) for t in routers.curve.thresholds],
            "escalation_rate": routers.curve.escalation_rate.tolist(),
            "accuracy": routers.curve.accuracy.tolist(),
            "cost_per_million": routers.cost.tolist(),
        },
        "cost_unit": routers.unit,
    }
    return Findings(metrics, _summary(routers, chosen, fixed, asked, study_confidence), details)


def _own_confidence(answer: Predictions) -> FloatArray:
    probabilities = uncalibrated(answer)[0]
    return np.asarray(probabilities[np.arange(len(answer)), answer.labels], dtype=np.float64)


def _routers(
    context: AnalysisContext, model: CascadeModel, answers: tuple[Predictions, Predictions], names: tuple[str, str]
) -> Routers:
    truth = context.splits.test.labels
    right = answers[0].labels == truth, answers[1].labels == truth
    curve = routing_curve(confidence(answers[0]), *right)
    timing = json.loads((context.folder.parents[1] / TIMING).read_text(encoding="utf-8"))
    price = float(context.checked.plain["model"]["price_per_hour"])
    scale, unit = (1e6 / 3600 * price, "money") if price else (1e6, "machine seconds")
    return Routers(
        names,
        right,
        curve,
        oracle_curve(*right),
        random_accuracy(curve.escalation_rate, *right),
        curve.at(model.threshold),
        curve.cost(timing["fast"] * scale, timing["accurate"] * scale),
        unit,
    )


def _alone(routers: Routers) -> tuple[float, float]:
    """Return the cost of a million texts of either model alone."""
    fast = float(routers.cost[0])
    return fast, float(routers.cost[-1]) - fast


def _fixed(sure: FloatArray, routers: Routers, threshold: float) -> dict[str, float]:
    """Say what a router with a fixed confidence does."""
    asked = sure < threshold
    fast, accurate = routers.right
    return {
        "threshold": threshold,
        "answered_fast": float((~asked).mean()),
        "accuracy_of_fast_there": float(fast[~asked].mean()) if not asked.all() else float("nan"),
        "accuracy_of_accurate_on_the_rest": float(accurate[asked].mean()) if asked.any() else float("nan"),
        "accuracy": float(np.where(asked, accurate, fast).mean()),
    }


def _summary(
    routers: Routers, chosen: dict[str, Any], fixed: dict[str, Any], asked: NDArray[np.bool_], confident: float
) -> str:
    fast, accurate = (r.mean() for r in routers.right)
    fast_cost, accurate_cost = _alone(routers)
    at, unit = routers.chosen, routers.unit
    front = pareto_front(routers.cost, routers.curve.accuracy)
    oracle = float(np.interp(routers.curve.escalation_rate[at], *routers.oracle))
    a, d = chosen["accuracy"], chosen["accuracy_minus_accurate"]
    lines = [
        f"## The chosen point on {len(asked):,} test rows",
        "",
        f"| | accuracy | handed over | cost of a million texts ({unit}) |",
        "| --- | ---: | ---: | ---: |",
        f"| {routers.names[0]} alone | {fast:.4f} | 0 % | {fast_cost:,.0f} |",
        f"| **cascade**, threshold {chosen['threshold']:.4f} | **{a.estimate:.4f}** [{a.bca[0]:.4f}, {a.bca[1]:.4f}] "
        f"| {chosen['escalation_rate']:.1%} | {routers.cost[at]:,.0f} |",
        f"| random router, as many handed over | {routers.random[at]:.4f} | {chosen['escalation_rate']:.1%} | "
        f"{routers.cost[at]:,.0f} |",
        f"| all-knowing router, as many handed over | {oracle:.4f} | {chosen['escalation_rate']:.1%} | "
        f"{routers.cost[at]:,.0f} |",
        f"| {routers.names[1]} alone | {accurate:.4f} | 100 % | {accurate_cost:,.0f} |",
        "",
        f"- Cascade minus {routers.names[1]}: {d.estimate:+.4f} accuracy, 95 % BCa [{d.bca[0]:+.4f}, {d.bca[1]:+.4f}].",
        f"- Of {len(routers.curve.thresholds):,} thresholds {len(front):,} are on the Pareto front; the most accurate "
        f"gives {routers.curve.accuracy.max():.4f} (on test: to be read, not to be chosen).",
        "",
        f"## A fixed confidence of {confident:g}",
        "",
        "| confidence | answered by the fast model | its accuracy there | the other's on the rest | accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in fixed.items():
        lines.append(
            f"| {name} | {row['answered_fast']:.1%} | {row['accuracy_of_fast_there']:.4f} | "
            f"{row['accuracy_of_accurate_on_the_rest']:.4f} | {row['accuracy']:.4f} |"
        )
    return "\n".join(lines)
