"""What systems cost: validation score against time for a text, and all measured times and sizes."""

from __future__ import annotations

from agnews_exp.analyses.findings import Block, Column, Missing, Table
from agnews_exp.drawing import Chart, Series
from agnews_exp.report.blocks import Section, origin, score
from agnews_exp.report.inputs import Inputs, System


def cost(inputs: Inputs) -> Section:
    """Return the scatter of score and time, and the table of costs."""
    measured = [system for system in inputs.systems if system.first.metrics.get("throughput_batch")]
    first: Block = _scatter(measured) if measured else Missing("No run has measured its speed.", "agnews bench RUN")
    return Section("cost", "Cost", (first, _table(inputs)))


def _scatter(measured: list[System]) -> Chart:
    families: dict[str, list[tuple[float, float, float | None, float | None, str]]] = {}
    for system in measured:
        value, low, high = system.joint_interval("val/macro_f1")
        milliseconds = 1000 * system.cost
        said = f"{system.label}: {milliseconds:.3g} ms a text, macro-F1 {value:.4f}"
        families.setdefault(system.first.family, []).append((milliseconds, value or 0.0, low, high, said))
    series = tuple(Series(family, *zip(*points, strict=True)) for family, points in families.items())
    return Chart(
        "accuracy_cost", "Score against cost", "points", "milliseconds a text in batches (logarithmic; features included)",
        "macro-F1 on validation", series, origin([system.first for system in measured], ("val",)),
        "Bars: 95 % intervals over the validation rows or seeds; times are single measurements on one machine.",
        "Up is better, left is cheaper: what lies below and to the right of another mark is not worth its cost.", log_x=True,
    )  # fmt: skip


def _table(inputs: Inputs) -> Table:
    names = ("throughput_batch", "latency_single_ms", "latency_p95_ms_1", "model_size_mb", "peak_memory_mb")
    rows = [
        (
            s.label,
            score(s, "val/macro_f1"),
            *map(s.first.metrics.get, names),
            s.first.timings.get("fit"),
            s.first.fraction,
        )
        for s in inputs.systems
    ]
    columns = (
        Column("system"), Column("validation macro-F1 [95 %]", "metric"), Column("texts/s in batches", "count"),
        Column("ms for one text", ".2f"), Column("p95 ms for one text", ".2f"), Column("size, MB", ".1f"),
        Column("peak memory, MB", "count"), Column("fit", "time"), Column("data fraction", "number"),
    )  # fmt: skip
    note = "Vectorising included; other work on the machine slows times."
    made = origin([s.first for s in inputs.systems], ("train", "val"))
    return Table("efficiency_table", "What systems cost", columns, tuple(rows), provenance=made, note=note)
