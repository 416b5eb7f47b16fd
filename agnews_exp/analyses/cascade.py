"""A cascade on test rows: every threshold's accuracy and cost, and those of the chosen one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.findings import Block, Column, Findings, Number, Row, Table
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.core.errors import DataError
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.inputs import FloatArray
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
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference, bootstrap_metric
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.cascade import PARTS, CascadeModel, confidence, routed
from agnews_exp.runners.cascade_runner import TIMING
from agnews_exp.tracking.runs import source_runs

_MOST_POINTS = 500
"""Of a line: more cannot be seen."""


@dataclass(frozen=True, eq=False)
class Routers:
    """Both models and every router between them, on the test rows."""

    names: tuple[str, str]  # of the fast and the accurate model
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]]  # which rows each of them answers right, shape (n,) each
    curve: RoutingCurve  # the cascade at every threshold
    oracle: tuple[FloatArray, FloatArray]  # escalation rates and accuracies of a router that knows who is right
    random: FloatArray  # accuracy at the curve's escalation rates when texts are handed over by lot
    chosen: int  # position of the chosen threshold
    cost: FloatArray  # of a million texts at every threshold: in the price's currency, or in seconds without a price
    unit: str  # of the cost


@analysis("cascade", title="The cascade between two models")
def analyse(
    context: AnalysisContext,
    *,
    fixed_confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    resamples: Annotated[int, Field(ge=100)] = 10_000,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Judge a fitted cascade on the test rows.

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
    coverages = [
        (name, risk_coverage(confidence(given), given.labels == truth))
        for name, given in zip((*routers.names, "cascade"), (first, second, answer), strict=True)
    ]
    chosen: dict[str, Any] = {"threshold": min(model.threshold, 1.0), "escalation_rate": float(asked.mean())}
    for name in ("accuracy", "macro_f1"):
        chosen[name] = bootstrap_metric(truth, answer.labels, name, resamples=resamples, seed=seed)
        for part, alone in zip(PARTS, (first, second), strict=True):
            chosen[f"{name}_minus_{part}"] = bootstrap_difference(
                truth, answer.labels, alone.labels, name, resamples=resamples, seed=seed
            ).difference
    own = uncalibrated(raw[0])[0][np.arange(len(truth)), raw[0].labels]
    fixed = {
        "before calibration": _fixed(np.asarray(own, dtype=np.float64), routers, fixed_confidence),
        "after calibration": _fixed(confidence(first), routers, fixed_confidence),
    }
    at = routers.chosen
    metrics = {
        "test/escalation_rate": chosen["escalation_rate"],
        "test/cascade_minus_accurate_accuracy": chosen["accuracy_minus_accurate"].estimate,
        "test/cost_share": float(routers.cost[at] / _alone(routers)[1]),
    } | {f"test/aurc_{k}": v for k, v in zip((*PARTS, "cascade"), (c[2] for _, c in coverages), strict=True)}
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
    a, d = chosen["accuracy"], chosen["accuracy_minus_accurate"]
    headline = (
        f"The cascade's accuracy is {a.estimate:.4f}, {d.estimate:+.4f} against {routers.names[1]} alone, with "
        f"{chosen['escalation_rate']:.1%} of the texts handed over."
    )
    blocks: tuple[Block, ...] = (*_tables(routers, chosen, fixed), *_charts(routers, coverages))
    return Findings(headline, blocks, metrics, details)


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


def _tables(routers: Routers, chosen: dict[str, Any], fixed: dict[str, dict[str, float]]) -> tuple[Table, ...]:
    fast, accurate = (float(right.mean()) for right in routers.right)
    fast_cost, accurate_cost = _alone(routers)
    at, share = routers.chosen, float(chosen["escalation_rate"])
    cost = float(routers.cost[at])
    oracle = float(np.interp(routers.curve.escalation_rate[at], *routers.oracle))
    a, d = chosen["accuracy"], chosen["accuracy_minus_accurate"]
    thresholds, front = routers.curve.thresholds, pareto_front(routers.cost, routers.curve.accuracy)
    rows: tuple[Row, ...] = (
        (f"{routers.names[0]} alone", Number(fast), 0.0, fast_cost),
        (f"cascade, threshold {chosen['threshold']:.4f}", Number(a.estimate, "metric", *a.percentile), share, cost),
        ("random router, as many handed over", Number(float(routers.random[at])), share, cost),
        ("all-knowing router, as many handed over", Number(oracle), share, cost),
        (f"{routers.names[1]} alone", Number(accurate), 1.0, accurate_cost),
    )
    columns = ("", "accuracy", Column("handed over", "share"), Column("cost of a million texts", "count", routers.unit))
    note = (
        f"Cascade minus {routers.names[1]}: accuracy {Number(d.estimate, 'change', *d.percentile)} (95 %). "
        f"Of {len(thresholds):,} thresholds {len(front):,} are on the Pareto front; the most accurate gives "
        f"{routers.curve.accuracy.max():.4f} (on test: to be read, not to be chosen)."
    )
    names = ("answered_fast", "accuracy_of_fast_there", "accuracy_of_accurate_on_the_rest", "accuracy")
    fixed_rows: list[Row] = []
    for name, row in fixed.items():
        fixed_rows.append((name, *(Number(row[key], "share" if key == names[0] else "metric") for key in names)))
    threshold = next(iter(fixed.values()))["threshold"]
    return (
        Table("routing", f"The chosen point on {len(routers.right[0]):,} test rows", columns, rows, note=note),
        Table("fixed_confidence", f"A fixed confidence of {threshold:g}",
              ("confidence", "answered by the fast model", "its accuracy there", "the other's on the rest", "accuracy"),
              tuple(fixed_rows)),
    )  # fmt: skip


def _charts(
    routers: Routers, coverages: Sequence[tuple[str, tuple[FloatArray, FloatArray, float]]]
) -> tuple[Chart, Chart, Chart]:
    """Return accuracy against the share handed over and against the cost, and the error rate among the surest texts."""
    curve, at, names = routers.curve, routers.chosen, routers.names
    shares, accuracy = 100 * curve.escalation_rate, curve.accuracy
    ends = [float(right.mean()) for right in routers.right]
    front = pareto_front(routers.cost, accuracy)

    def line(name: str, x: FloatArray, y: FloatArray, dashed: bool = False) -> Series:
        kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).astype(np.int64))
        return Series(name, tuple(x[kept].tolist()), tuple(y[kept].tolist()), dashed=dashed)

    def lines(xs: FloatArray) -> tuple[tuple[Literal["x", "y"], float, str], ...]:
        alone: list[tuple[Literal["x", "y"], float, str]] = [
            ("y", end, f"{name} alone") for end, name in zip(ends, names, strict=True)
        ]
        return (*alone, ("x", float(xs[at]), "chosen on validation"))

    low = min(accuracy.min(), *ends) - 0.005
    span = (float(low), float(routers.oracle[1].max()) + 0.005)
    title = f"Routing between {names[0]} and {names[1]}"
    n = f"{len(routers.right[0]):,} test rows."
    return (
        Chart(
            "routing", title, "lines", "texts handed over [%]", "test accuracy",
            (line("cascade, every threshold", shares, accuracy),
             line("all-knowing router", 100 * routers.oracle[0], routers.oracle[1], True),
             line("random router", shares, routers.random, True)),
            caption=n, references=lines(shares), y_range=span,
        ),
        Chart(
            "routing_cost", f"{title}: its cost", "lines", f"cost of a million texts [{routers.unit}]", "test accuracy",
            (line("cascade, every threshold", routers.cost, accuracy),
             line("Pareto front", routers.cost[front], accuracy[front])),
            caption=n, references=lines(routers.cost), y_range=span,
        ),
        Chart(
            "risk_coverage", "Error rate among the surest texts", "lines", "coverage: surest texts answered [%]",
            "error rate among them [%]",
            tuple(line(f"{name} (AURC {100 * area:.2f} %)", 100 * coverage, 100 * risk)
                  for name, (coverage, risk, area) in coverages),
            y_range=(0.0, float(max(100 * risk[-1] for _, (_, risk, _) in coverages)) * 1.6),
        ),
    )  # fmt: skip
