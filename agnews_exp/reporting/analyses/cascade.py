"""A cascade on test rows: every threshold's accuracy and cost, and what the chosen one gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.config.errors import DataError
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
from agnews_exp.reporting.analyses.cascade_figures import draw_risk_coverage, draw_routing
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings
from agnews_exp.runners.cascade_runner import PARTS, TIMING
from agnews_exp.tracking.lookup import source_runs

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
