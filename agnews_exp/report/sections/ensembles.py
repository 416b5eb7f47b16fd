"""Ensembles: their scores and the weights of their members, beside the study's."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from agnews_exp.reference.ag_news_notebooks.published import published, published_score
from agnews_exp.report.content import (
    Block,
    Chart,
    Missing,
    Section,
    Series,
    Table,
    interval,
    number,
    slug,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun
from agnews_exp.report.origin import origin
from agnews_exp.tracking.record import MODEL

log = logging.getLogger(__name__)

_MODELS = ("soft_voting", "weighted_voting", "stacking", "linear_neighbors", "blend")
_MEMBERS = ("SGD", "NB", "SVC", "LGBM")
_FITTED = "Fitted weights, not estimates with a known error: no interval. The size of a weight is not a contribution."


def ensembles(inputs: Inputs) -> Section:
    """Return the ensembles' table and their weights."""
    found = [system for system in inputs.systems if system.first.model in _MODELS]
    absent = [name for name in _MODELS if name not in {system.first.model for system in found}]
    blocks: list[Block] = []
    if absent:
        blocks.append(Missing(f"Not among these runs: {', '.join(absent)}.", f"python run.py model={absent[0]}"))
    header = (
        "ensemble",
        "ours: validation macro-F1",
        "ours: test macro-F1 [95 %]",
        "ours: data fraction",
        "study: validation macro-F1",
        "study: test macro-F1",
    )
    rows = [
        (
            text(system.label),
            number(system.mean("val/macro_f1")),
            interval(
                system.first.metrics.get("test/macro_f1"), *(system.first.interval("test/macro_f1") or (None, None))
            ),
            number(system.first.fraction, "g"),
            number(published_score(system.first.model, "val")),
            number(published_score(system.first.model, "test")),
        )
        for system in found
    ]
    if found:
        note = (
            "A blend is fitted on validation rows: its validation score flatters it. So was the study's hybrid (.9501)."
        )
        made = origin([s.first for s in found], ("val", "test"))
        blocks.append(Table("ensembles_table", "Ensembles", header, tuple(rows), made, note))
    for system in found:
        chart = _weights_chart(system.first, system.label)
        blocks += [chart] if chart else []
    blocks.append(_study_weights())
    return Section("ensembles", "Ensembles", tuple(blocks))


def _study_weights() -> Chart:
    lines = published("meta_weights")
    names = tuple(line["class"] for line in lines)
    series = tuple(Series(member, tuple(float(line[member]) for line in lines), names) for member in _MEMBERS)
    return Chart(
        "study_stacking_weights",
        "The study's stacking: weight of each member's own-class probability",
        "dots",
        "weight",
        "",
        series,
        origin([]),
        intervals=_FITTED,
        covers=("F17",),
    )


def _weights_chart(run: StoredRun, label: str) -> Chart | None:
    found = _blend_weights(run) if run.model == "blend" else _member_weights(run)
    if found is None:
        return None
    weights, per_class = found
    rows = run.class_names if per_class else ("all classes",)
    series = tuple(Series(name, tuple(float(v) for v in values), tuple(rows)) for name, values in weights.items())
    covers = ("F30", "T25") if run.model == "blend" else ("F17",)
    what = "weight of each member's own-class probability" if per_class else "weight of each member"
    return Chart(
        f"weights_{slug(run.name)}_{slug(run.fingerprint[:6])}",
        f"{label}: {what}",
        "dots",
        "weight",
        "",
        series,
        origin([run], ("train",)),
        intervals=_FITTED,
        covers=covers,
    )


def _blend_weights(run: StoredRun) -> tuple[dict[str, Any], bool] | None:
    path = run.folder.path / MODEL / "cascade.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "coefficients" not in content:
        return None
    matrix, k = np.asarray(content["coefficients"], dtype=np.float64), len(run.class_names)
    parts = [str(run.config.get(f"model.{part}") or part) for part in ("fast", "accurate")]
    return {name: np.diag(matrix[i * k : (i + 1) * k]) for i, name in enumerate(parts)}, True


def _member_weights(run: StoredRun) -> tuple[dict[str, Any], bool] | None:
    """Read a stacking's or a weighted vote's weights from its stored model; None where there are none."""
    if run.model not in ("stacking", "weighted_voting") or not (run.folder.path / MODEL / "manifest.json").is_file():
        return None
    from agnews_exp.models.loading import load_model

    try:
        fitted: Any = load_model(run.folder.path / MODEL)
    except Exception as error:  # the report stands without these weights
        log.warning("the model of %s cannot be opened, its weights are left out: %s", run.short, error)
        return None
    estimator = getattr(fitted, "estimator", None) or getattr(fitted, "pipeline", None)
    estimator = getattr(estimator, "steps", [(None, estimator)])[-1][1]
    if run.model == "weighted_voting":
        return (
            ({name: [value] for name, value in estimator.weights_.items()}, False)
            if hasattr(estimator, "weights_")
            else None
        )
    final = getattr(estimator, "final_estimator_", None)
    if final is None or not hasattr(final, "coef_"):
        return None
    k, names = len(run.class_names), [name for name, _ in estimator.estimators]
    matrix = np.asarray(final.coef_)
    if matrix.shape != (k, k * len(names)):
        return None
    return {name: np.diag(matrix[:, i * k : (i + 1) * k]) for i, name in enumerate(names)}, True
