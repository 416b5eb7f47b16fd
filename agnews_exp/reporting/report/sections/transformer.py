"""Transformers: training curves, then ablations and how much data every family needs."""

from __future__ import annotations

from collections.abc import Sequence

from agnews_exp.reporting.report.content import Block, Chart, Missing, Section, Series, Table, number
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import PUBLISHED, origin
from agnews_exp.reporting.report.published import published
from agnews_exp.reporting.report.sections.ablations import ablations
from agnews_exp.reporting.report.sections.data_efficiency import data_efficiency
from agnews_exp.reporting.report.stored_run import StoredRun
from agnews_exp.reporting.report.systems import System

_MOST_POINTS = 200


def transformer(inputs: Inputs) -> Section:
    """Return curves, ablations and data efficiency."""
    blocks: list[Block] = []
    best = inputs.best_of("transformer")
    if best is None:
        blocks.append(Missing("No transformer is among these runs.", "python run.py model=minilm"))
    else:
        blocks += _curves(best)
    blocks += ablations(inputs)
    blocks += data_efficiency(inputs)
    return Section("transformer", "Transformer, ablations, data efficiency", tuple(blocks))


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *([points[-1]] if points and (len(points) - 1) % step else [])]


def _curves(system: System) -> list[Block]:
    run = system.first
    made = origin([run], ("train", "val"))
    epochs = float(run.metrics.get("train_epochs") or 1)
    steps = max((float(line.get("step", 0)) for line in run.history), default=0)
    if not steps:
        return [Missing(f"{system.label} has no stored training curve.", f"{run.command} force=true")]

    def curve(key: str) -> list[tuple[float, float]]:
        points = [(float(line["step"]) * epochs / steps, float(line[key])) for line in run.history if key in line]
        return list(_thinned(points))

    theirs = [line for line in published("training") if line["run"] == "100 %"]
    at = tuple(float(line["epoch"]) for line in theirs)
    blocks: list[Block] = []
    for name, title, parts in (
        (
            "loss",
            "loss (cross-entropy, natural logarithm)",
            (("train", "curve/train_loss", "train_loss"), ("validation", "curve/val_log_loss", "val_loss")),
        ),
        ("macro_f1", "macro-F1 on validation", (("validation", "curve/val_macro_f1", "val_macro_f1"),)),
    ):
        series = []
        for label, key, column in parts:
            points = curve(key)
            if points:
                x, y = zip(*points, strict=True)
                series.append(Series(f"{label}: {system.label}", x, y))
            series.append(
                Series(f"{label}: study, DistilBERT", at, tuple(float(line[column]) for line in theirs), published=True)
            )
        blocks.append(
            Chart(
                f"training_{name}",
                f"Training curve: {title.partition(' (')[0]}",
                "lines",
                "epoch",
                title,
                tuple(series),
                made,
                intervals="One training run: no interval. " + PUBLISHED,
                covers=("F18",),
            )
        )
    blocks.append(_epochs(run, steps, epochs, made))
    return blocks


def _epochs(run: StoredRun, steps: float, epochs: float, made: str) -> Table:
    ours = {}
    for line in run.history:
        if "curve/val_macro_f1" in line:
            ours[round(float(line["step"]) * epochs / steps, 2)] = line
    theirs = {float(line["epoch"]): line for line in published("training") if line["run"] == "100 %"}
    rows = []
    for epoch in sorted({*ours, *theirs}):
        line, study = ours.get(epoch, {}), theirs.get(epoch)
        rows.append(
            (
                number(epoch, "g"),
                number(line.get("curve/val_log_loss")),
                number(line.get("curve/val_macro_f1")),
                number(float(study["train_loss"]) if study else None),
                number(float(study["val_loss"]) if study else None),
                number(float(study["val_macro_f1"]) if study else None),
            )
        )
    header = (
        "epoch",
        "ours: validation loss",
        "ours: validation macro-F1",
        "study: train loss",
        "study: validation loss",
        "study: validation macro-F1",
    )
    note = "The study's numbers are those of its training_history.csv; its report prints those of other runs."
    return Table("epochs", f"Epochs: {run.name} and the study's DistilBERT", header, tuple(rows), made, note, ("T12",))
