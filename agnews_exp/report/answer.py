"""The first screen: the question, the data in a line, the answer with its interval, the choice by cost, warnings."""

from __future__ import annotations

from agnews_exp.analyses.findings import Block, Column, Table, Text
from agnews_exp.core.numbers import plural
from agnews_exp.evaluation.metrics import METRICS
from agnews_exp.report.blocks import Section, filled, origin, score
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.systems import System

_SHOWN, _WARNINGS = 6, 3


def answer(inputs: Inputs) -> Section:
    """Return the answer that validation gives, the tied systems by cost, and the test score of the chosen one."""
    run, n_classes = inputs.chosen.first, len(inputs.class_names)
    sizes = ", ".join(f"{n:,} {'validation' if split == 'val' else split}" for split, n in run.rows.items())
    systems, classes = plural(len(inputs.systems), "system"), "1 class" if n_classes == 1 else f"{n_classes:,} classes"
    question = f"Which of {systems} answers best, by macro-F1 on validation rows, and at what cost?"
    data = f"Data: {run.source}, {classes}; {sizes} rows."
    blocks: list[Block] = [Text(sentence) for sentence in (question, data, _answer(inputs), _final(inputs.chosen))]
    blocks.append(_choice(inputs))
    blocks += [Text(f"Warning: {said}") for said in warnings(inputs)[:_WARNINGS]]
    return Section("answer", "Answer", tuple(blocks))


def _answer(inputs: Inputs) -> str:
    best, chosen, tied = inputs.best, inputs.chosen, inputs.tied
    value, low, high = best.joint_interval("val/macro_f1")
    said = f"{best.label} has the highest validation macro-F1, {value:.4f}"
    said += f" (95 % interval {low:.4f} to {high:.4f})." if low is not None and high is not None else "."
    if len(tied) == 1:
        return said + " It is told apart from every other system."
    least = min(system.mean("val/macro_f1") or 0.0 for system in tied)
    return (
        f"{said} It is tied: validation does not tell {len(tied)} systems apart, which lie within"
        f" {(value or 0) - least:.4f}; the cheapest of them is {chosen.label}."
    )


def _final(chosen: System) -> str:
    run = chosen.first
    value = run.metrics["test/macro_f1"]
    low, high = run.interval("test/macro_f1") or (None, None)
    between = f", 95 % interval {low:.4f} to {high:.4f}" if low is not None and high is not None else ""
    said = f"On the {run.rows.get('test', 0):,} test rows, looked at last,"
    said += f" {chosen.label} has macro-F1 {value:.4f}{between}"
    beside = METRICS[run.task.beside]
    said += f" and {beside.title} {run.metrics[f'test/{beside.name}']:.4f}."
    if (spread := chosen.spread("test/macro_f1")) is not None:
        mean = chosen.mean("test/macro_f1")
        said += f" That is seed {run.seed}; over {len(chosen.runs)} seeds the mean is {mean:.4f}, sd {spread:.4f}."
    return said


def _choice(inputs: Inputs) -> Block:
    rows = [
        (system.label, score(system, "val/macro_f1"), *costs(system), system.first.timings.get("fit"))
        for system in inputs.tied[:_SHOWN]
    ]
    columns = (
        "system", Column("validation macro-F1 [95 %]", "metric"), Column("texts/s", "count"),
        Column("size, MB", ".1f"), Column("fit", "time"),
    )  # fmt: skip
    more = f" The first {_SHOWN} of {len(inputs.tied)}." if len(inputs.tied) > _SHOWN else ""
    found = Table(
        "choice", "Not told apart on validation, the cheapest first", columns, tuple(rows),
        note=f"Paired bootstrap of the validation rows; the set holds the best system with 95 % confidence.{more}",
        provenance=origin([system.first for system in inputs.tied], ("val",)),
    )  # fmt: skip
    return filled(found)


def costs(system: System) -> tuple[float | None, float | None]:
    """Return texts a second in batches and megabytes on disk, None for what was not measured."""
    metrics = system.first.metrics
    return metrics.get("throughput_batch"), metrics.get("model_size_mb")


def warnings(inputs: Inputs) -> list[str]:
    """Return what a reader must know before using the answer, the gravest first."""
    chosen, found = inputs.chosen, []
    n = chosen.first.rows.get("val", 0)
    if n < 50 * len(inputs.class_names):
        found.append(f"there are {n:,} validation rows for {len(inputs.class_names)} classes: the intervals are wide.")
    if chosen.first.fraction < 1:
        rows = chosen.first.rows.get("train", 0)
        found.append(f"the chosen system was trained on {chosen.first.fraction:.0%} of the training rows ({rows:,}).")
    scored = len(inputs.systems)
    if scored > 1:
        found.append(
            f"{scored} systems have a test score: whoever picks by it picks luck as well; validation chose here."
        )
    if any(system.fits_on_validation for system in inputs.systems):
        found.append(
            "cascades and blends are fitted on validation rows, which flatters them: they are listed, not chosen."
        )
    if len(chosen.runs) == 1 and chosen.first.family == "transformer":
        found.append("the chosen network was trained with one seed: another seed gives another score.")
    if inputs.left_out:
        found.append(
            f"{plural(len(inputs.left_out), 'finished run')} of the folder left out here: see Runs and machines."
        )
    return found
