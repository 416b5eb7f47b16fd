"""Efficiency: accuracy against cost, and the study's speeds and sizes beside measured ones."""

from __future__ import annotations

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import (
    Block,
    Chart,
    Missing,
    Section,
    Series,
    Stored,
    Table,
    interval,
    number,
    text,
)
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.origin import origin


def efficiency(inputs: Inputs) -> Section:
    """Return the scatter of accuracy and cost, and the tables."""
    measured = [s for s in inputs.systems if s.first.metrics.get("throughput_batch")]
    blocks: list[Block] = []
    if measured:
        blocks.append(_scatter(inputs))
    else:
        blocks.append(Missing("No run has measured its speed.", "agnews bench RUN"))
    blocks += [_table(inputs), _study(inputs)]
    runs = inputs.with_analysis("efficiency")
    if not runs:
        blocks.append(
            Missing("No run's latency by batch size, cold start and memory have been measured.", "agnews bench RUN")
        )
    blocks += [
        Stored(f"Efficiency: {run.name}", run.summary("efficiency"), origin([run], ("val",))) for run in runs[:4]
    ]
    return Section("efficiency", "Efficiency", tuple(blocks))


def _scatter(inputs: Inputs) -> Chart:
    families: dict[str, list[tuple[float, float, float | None, float | None, str]]] = {}
    runs = []
    for system in inputs.systems:
        speed = system.first.metrics.get("throughput_batch")
        if not speed:
            continue
        runs.append(system.first)
        low, high = system.first.interval("test/macro_f1") or (None, None)
        value = system.first.metrics["test/macro_f1"]
        said = f"{system.label}: {1000 / speed:.3g} ms a text, macro-F1 {value:.4f}"
        families.setdefault(system.first.family, []).append((1000 / speed, value, low, high, said))
    series = []
    for family, points in families.items():
        x, y, lows, highs, texts = zip(*points, strict=True)
        series.append(Series(family, x, y, lows, highs, texts))
    return Chart(
        "accuracy_cost",
        "Accuracy against cost",
        "points",
        "milliseconds a text in batches (logarithmic; features included)",
        "macro-F1 on test",
        tuple(series),
        origin(runs),
        log_x=True,
        covers=("T29",),
        intervals="Bars: 95 % bootstrap intervals over the test rows; times are single measurements on one machine.",
    )


def _table(inputs: Inputs) -> Table:
    header = (
        "system",
        "test: macro-F1 [95 %]",
        "texts/s in batches",
        "ms for one text",
        "p95 ms for one text",
        "size, MB",
        "peak memory, MB",
        "fit, s",
        "data fraction",
    )
    rows = []
    for system in inputs.systems:
        run, m = system.first, system.first.metrics
        low, high = run.interval("test/macro_f1") or (None, None)
        rows.append(
            (
                text(system.label),
                interval(m.get("test/macro_f1"), low, high),
                number(m.get("throughput_batch"), ",.0f"),
                number(m.get("latency_single_ms"), ".2f"),
                number(m.get("latency_p95_ms_1"), ".2f"),
                number(m.get("model_size_mb"), ".1f"),
                number(m.get("peak_memory_mb"), ",.0f"),
                number(run.timings.get("fit"), ".2f"),
                number(run.fraction, "g"),
            )
        )
    made = origin([s.first for s in inputs.systems], ("train", "val", "test"))
    note = "Times on the machine named below, vectorising included; other work on it slows them."
    return Table("efficiency_table", "What systems cost", header, tuple(rows), made, note, ("T17", "T18", "T19", "T29"))


def _study(inputs: Inputs) -> Table:
    rows, used = [], []
    for line in published("efficiency"):
        ours = next((s.first for s in inputs.systems if s.first.model == line["model"]), None)
        used += [ours] if ours else []
        m = ours.metrics if ours else {}
        rows.append(
            (
                text(line["system"]),
                number(float(line["throughput"]), ",.0f"),
                number(m.get("throughput_batch"), ",.0f"),
                number(float(line["size_mb"]), ".0f"),
                number(float(line["artefact_mb"]) if line["artefact_mb"] else None, ".1f"),
                number(m.get("model_size_mb"), ".1f"),
                text(line["train"]),
                number(ours.timings.get("fit") if ours else None, ".2f", " s"),
            )
        )
    header = (
        "system",
        "study: texts/s",
        "ours: texts/s",
        "study: size, MB",
        "study: files in its repository, MB",
        "ours: size, MB",
        "study: training",
        "ours: fit",
    )
    note = (
        "The study timed no inference: its speeds are typed-in constants without vectorising. Its"
        " training times of classical"
        " models are the wall time of ten parallel fits with scoring, without vectorising."
    )
    return Table(
        "efficiency_study",
        "The study's speeds and sizes",
        header,
        tuple(rows),
        origin(used, ("val",)),
        note,
        ("T01", "T17", "T18"),
    )
