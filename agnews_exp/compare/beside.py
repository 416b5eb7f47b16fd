"""Tables that set runs beside something else: students beside their teacher, own numbers beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.analyses.findings import Cell, Column, Number, Table, to_markdown, to_terminal
from agnews_exp.config.validation import flat
from agnews_exp.core.files import atomic_path
from agnews_exp.reference.reading import UNJUDGED, OwnResult, Reference, find_reference
from agnews_exp.tracking.record import RunFolder

SUMMARY_FILE = "tables.md"

Student = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A run's result.json and its configuration."""


def distillation_table(students: Sequence[Student]) -> Table:
    """Set finished runs of ``model=distilled_*`` beside their teachers and beside themselves without one."""
    known = [(result, config["model"]) for result, config in students if "student" in config["model"]]
    rows: dict[str, tuple[Any, ...]] = {}
    for result, model in known:
        m = result["metrics"]
        if model["teacher"] and "distil/teacher_val_macro_f1" in m:
            scores = (m["distil/teacher_val_macro_f1"], m.get("distil/teacher_test_macro_f1"))
            speed = m.get("distil/teacher_throughput_batch")
            rows[str(model["teacher"])] = (f"teacher: {model['teacher']}", "labels", None, *scores, None, speed, None)
    order = sorted(known, key=lambda pair: (pair[1]["student"]["name"], pair[1]["alpha"] > 0, _unlabelled(pair[0])))
    columns = (
        "model", "learned from", Column("unlabelled rows", "count"), Column("validation, macro-F1", "metric"),
        Column("test, macro-F1", "metric"), Column("agrees with teacher", "share"), Column("texts/s", "count"),
        Column("MB", ".1f"),
    )  # fmt: skip
    return Table(
        "distillation", "Distillation", columns, (*rows.values(), *(_student(*pair) for pair in order)),
        note=_note([result for result, _ in order]),
    )  # fmt: skip


def _student(result: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[Any, ...]:
    m = result["metrics"]
    taught = f"teacher (alpha {model['alpha']:g}, T {model['temperature']:g})" if model["alpha"] > 0 else "labels"
    name, scores = str(model["student"]["name"]), (m.get("val/macro_f1"), m.get("test/macro_f1"))
    cost = m.get("throughput_batch"), m.get("model_size_mb")
    return name, taught, _unlabelled(result) or None, *scores, m.get("distil/val_agreement"), *cost


def _unlabelled(result: Mapping[str, Any]) -> int:
    return int(result["metrics"].get("distil/unlabelled_rows", 0))


def _note(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "No student has been trained yet."
    sources = ", ".join(sorted({str(r["data"]["name"]) for r in results}))
    rows = ", ".join(f"{n:,}" for n in sorted({int(r["data"]["rows"]["train"]) for r in results}))
    return (
        f"{sources}; students learned from {rows} labelled rows. The teacher's speed is that of its own run. Agreement "
        "is over the validation rows. Choose alpha and T by the validation column."
    )


def results_table(reference: Reference, own: list[OwnResult]) -> Table:
    """Return the published numbers that own runs stand beside, with the verdict on each."""
    rows: list[tuple[Cell, ...]] = []
    needed: dict[str, None] = {}
    for line in reference.results:
        mine = reference.beside(line, own)
        if mine is None or line.metric.endswith("_std"):
            continue
        judged = reference.judge(line, mine)
        needed |= {judged.needed: None} if judged.needed else {}
        form = "metric" if abs(line.value) < 100 else "count"
        number = Number(mine.metrics[line.key], form, *(mine.interval(line.key) or (None, None)))
        verdict = "not judged" if judged.verdict == UNJUDGED else judged.verdict
        rows.append((line.system, mine.name, line.key, Number(line.value, form), number, verdict))
    columns = ("published system", "own system", "metric", "published", "own [95 %]", "verdict")
    note = f"What is not judged would need: {'; '.join(needed)}." if needed else ""
    note = note if rows else "No run here has the settings of a published system."
    return Table("published_results", "Published numbers beside own ones", columns, tuple(rows), note=note)


def print_tables(
    folder: Path, runs: Sequence[RunFolder], reference: str | None, root: Path | None = None
) -> dict[str, Any]:
    """Print and write tables of a sweep's students and teachers and of its reference; return what MLflow gets."""
    from rich.console import Console

    found = [(result, run) for run in runs if (result := run.result()) is not None]
    of_each_model = {str(result["model"]): run for result, run in found}  # a model is a student in all of its runs
    students = {name for name, run in of_each_model.items() if "student" in run.config()["model"]}
    tables = []
    if students:
        tables.append(distillation_table([(r, run.config()) for r, run in found if str(r["model"]) in students]))
    if reference:
        own = [OwnResult.of(result, flat(run.config())) for result, run in found]
        tables.append(results_table(find_reference(reference, root), own))
    if not tables:
        return {}
    Console(highlight=False).print(to_terminal(tables))
    text = to_markdown(tables, level=3) + "\n"
    with atomic_path(folder / SUMMARY_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return {"note": text, "metrics": {}, "artifacts": [folder / SUMMARY_FILE]}
