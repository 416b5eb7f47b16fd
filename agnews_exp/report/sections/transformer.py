"""Transformers: training curves, then ablations and how much data every family needs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import Block, Chart, Missing, Section, Series, Table, interval, number, text
from agnews_exp.report.inputs import Inputs, StoredRun, System
from agnews_exp.report.origin import PUBLISHED, SEED_BARS, origin

_ABLATIONS = (
    ("tuning", "Parts that are trained", "ablation_tuning", ("F22", "T21")),
    ("max_length", "Tokens kept of a text", "ablation_length", ("F22", "T20")),
)


def ablations(inputs: Inputs) -> list[Block]:
    """Return a chart and a table of each ablation."""
    return [block for arguments in _ABLATIONS for block in _ablation(inputs, *arguments)]


def _ablation(inputs: Inputs, kind: str, title: str, experiment: str, covers: tuple[str, ...]) -> list[Block]:
    best = _arms(inputs, kind)
    theirs = [line for line in published("ablations") if line["kind"] == kind and line["notebook"]]
    blocks: list[Block] = []
    if not best:
        blocks.append(Missing(f"{title}: not tried among these runs.", f"python run.py -m experiment={experiment}"))
    series = []
    runs: list[StoredRun] = []
    rows = []
    for name, arms in best.items():
        runs += [run for system in arms.values() for run in system.runs]
        values, lows, highs = zip(*(system.mean_interval("val/macro_f1") for system in arms.values()), strict=True)
        series.append(Series(f"ours: {name}", values, tuple(arms), lows, highs))
        for label, system in arms.items():
            study = next((line for line in theirs if line["arm"] == label), None)
            ends = system.first.interval("test/macro_f1") or (None, None)
            rows.append(
                (
                    text(label),
                    text(name),
                    text(", ".join(map(str, system.seeds))),
                    number(system.mean("val/macro_f1")),
                    number(system.spread("val/macro_f1")),
                    interval(system.first.metrics.get("test/macro_f1"), *ends),
                    number(system.mean("train_seconds"), ".1f"),
                    number(float(study["notebook"]) if study else None),
                    number(float(study["report"]) if study else None),
                )
            )
    series.append(
        Series(
            "study, DistilBERT",
            tuple(float(line["notebook"]) for line in theirs),
            tuple(line["arm"] for line in theirs),
            published=True,
        )
    )
    made = origin(runs, ("val", "test"))
    blocks.append(
        Chart(
            f"ablation_{kind}",
            f"Ablation: {title.lower()}",
            "dots",
            "macro-F1 on validation",
            "",
            tuple(series),
            made,
            intervals=f"{SEED_BARS} {PUBLISHED}",
            covers=covers,
        )
    )
    if rows:
        header = (
            "arm",
            "model",
            "seeds",
            "validation macro-F1, mean",
            "sd over seeds",
            "test macro-F1 [95 %]",
            "training, s",
            "study, notebook: validation",
            "study, report: validation",
        )
        note = "Every arm of ours has a schedule of its own over its whole run; the study's arms ran on a finished one."
        blocks.append(
            Table(f"ablation_{kind}_table", f"Ablation: {title.lower()}", header, tuple(rows), made, note, covers)
        )
    return blocks


def _arms(inputs: Inputs, kind: str) -> dict[str, dict[str, System]]:
    """Return the arms of each model that was tried in several ways: model, what the job was told, system."""
    systems = {system.first.group: system for system in inputs.systems}
    found: dict[str, dict[str, System]] = {}
    for sweep in inputs.sweeps:
        for job, run in sweep.jobs.items():
            told = dict(str(word).lstrip("+").split("=", 1) for word in sweep.overrides.get(job, ()) if "=" in word)
            arm = told.get(kind, told.get(f"model.{kind}"))
            if not sweep.is_search and sweep.info.get("swept") and arm is not None and run.group in systems:
                share = "" if run.fraction == 1 else f", {run.fraction:g} of the rows"
                found.setdefault(f"{run.name}{share}", {})[arm] = systems[run.group]
    return {name: dict(sorted(arms.items(), key=_order)) for name, arms in found.items() if len(arms) > 1}


def _order(arm: tuple[str, System]) -> tuple[float, str]:
    try:
        return float(arm[0]), ""
    except ValueError:
        return 0.0, arm[0]


_STUDY_ROWS = 102_000
_SHARE = re.compile(r"data [0-9.e-]+(, )?")


def data_efficiency(inputs: Inputs) -> list[Block]:
    """Return a chart and a table of validation scores over training rows."""
    curves = _curves(inputs.systems)
    blocks: list[Block] = []
    families = {system.first.family for points in curves.values() for system in points.values()}
    for family, experiment in (("classical", "data_efficiency"), ("transformer", "data_efficiency_transformer")):
        if family not in families:
            said = f"No {family} model was trained on several shares of the rows."
            blocks.append(Missing(said, f"python run.py -m experiment={experiment}"))
    series = []
    for name, points in curves.items():
        values, lows, highs = zip(*(system.mean_interval("val/macro_f1") for system in points.values()), strict=True)
        series.append(Series(name, tuple(points), values, lows, highs))
    theirs = [line for line in published("ablations") if line["kind"] == "data_fraction" and line["notebook"]]
    series.append(
        Series(
            "study, DistilBERT",
            tuple(_STUDY_ROWS * float(line["arm"]) for line in theirs),
            tuple(float(line["notebook"]) for line in theirs),
            published=True,
        )
    )
    runs = [run for points in curves.values() for system in points.values() for run in system.runs]
    made = origin(runs, ("val",))
    blocks.append(
        Chart(
            "data_efficiency",
            "Data efficiency",
            "lines",
            "training rows (logarithmic)",
            "macro-F1 on validation",
            tuple(series),
            made,
            log_x=True,
            covers=("F29",),
            intervals=f"{SEED_BARS} {PUBLISHED}",
        )
    )
    rows = [
        (
            text(name),
            number(n, ",.0f"),
            number(system.first.fraction, "g"),
            text(", ".join(map(str, system.seeds))),
            number(system.mean("val/macro_f1")),
            number(system.spread("val/macro_f1")),
            number(system.mean("test/macro_f1")),
        )
        for name, points in curves.items()
        for n, system in points.items()
    ]
    if rows:
        header = (
            "model",
            "training rows",
            "fraction",
            "seeds",
            "validation macro-F1, mean",
            "sd over seeds",
            "test macro-F1, mean",
        )
        made = origin(runs, ("val", "test"))
        blocks.append(
            Table("data_efficiency_table", "Data efficiency", header, tuple(rows), made, covers=("T07", "T22"))
        )
    return blocks


def _curves(systems: Sequence[System]) -> dict[str, dict[int, System]]:
    """Return systems that differ in their share of the rows alone, by name and rows; those on several shares."""
    lines: dict[frozenset[tuple[str, str]], dict[int, System]] = {}
    for system in systems:
        if not system.fits_on_validation:
            lines.setdefault(system.setting, {}).setdefault(system.first.rows.get("train", 0), system)
    curves: dict[str, dict[int, System]] = {}
    for points in lines.values():
        if len(points) > 1:
            largest = points[max(points)]
            name = _SHARE.sub("", largest.label).replace("()", "").strip()
            name = f"{name} {largest.first.short}" if name in curves else name
            curves[name] = dict(sorted(points.items()))
    return curves


_MOST_POINTS = 200


def transformer(inputs: Inputs) -> Section:
    """Return curves, ablations and data efficiency."""
    blocks: list[Block] = []
    best = inputs.best_of("transformer")
    if best is None:
        blocks.append(Missing("No transformer is among these runs.", "python run.py model=minilm"))
    else:
        blocks += _curves_transformer(best)
    blocks += ablations(inputs)
    blocks += data_efficiency(inputs)
    return Section("transformer", "Transformer, ablations, data efficiency", tuple(blocks))


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *([points[-1]] if points and (len(points) - 1) % step else [])]


def _curves_transformer(system: System) -> list[Block]:
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
