"""How much data every family needs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agnews_exp.reporting.report.content import Block, Chart, Missing, Series, Table, number, text
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import PUBLISHED, SEED_BARS, origin
from agnews_exp.reporting.report.published import published
from agnews_exp.reporting.report.systems import System

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
