"""Teacher, students and the same students without a teacher, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from agnews_exp.core.files import atomic_path
from agnews_exp.reference.ag_news_notebooks.study_tables import StudyTable, print_table
from agnews_exp.sweeps.state import SweepFolder

TITLE = "Distillation"
_HEADER = (
    "model", "learned from", "unlabelled rows", "validation, macro-F1", "test, macro-F1", "agrees with teacher",
    "texts/s", "MB",
)  # fmt: skip


def distil_table(students: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> StudyTable:
    """Set students beside their teachers and beside themselves without one.

    Args:
        students: (result.json, config) of finished runs of ``model=distilled_*``; other runs are left out.
    """
    known = [(result, config["model"]) for result, config in students if "student" in config["model"]]
    rows = [*_teachers(known)]
    order = sorted(known, key=lambda pair: (_name(pair[1]), pair[1]["alpha"] > 0, _more(pair[0])))
    rows += [_student(result, model) for result, model in order]
    return StudyTable(TITLE, _HEADER, rows, _note([result for result, _ in order]))


def _teachers(students: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    rows: dict[str, tuple[str, ...]] = {}
    for result, model in students:
        metrics = result["metrics"]
        if model["teacher"] and "distil/teacher_val_macro_f1" in metrics:
            speed = metrics.get("distil/teacher_throughput_batch")
            rows[str(model["teacher"])] = (
                f"teacher: {model['teacher']}",
                "labels",
                "–",
                _number(metrics, "distil/teacher_val_macro_f1"),
                _number(metrics, "distil/teacher_test_macro_f1"),
                "–",
                f"{speed:,.0f}" if speed else "–",
                "–",
            )
    return list(rows.values())


def _student(result: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, ...]:
    metrics = result["metrics"]
    taught = f"teacher (alpha {model['alpha']:g}, T {model['temperature']:g})" if model["alpha"] > 0 else "labels"
    more = _more(result)
    agreement = metrics.get("distil/val_agreement")
    speed = metrics.get("throughput_batch")
    return (
        _name(model),
        taught,
        f"{more:,}" if more else "–",
        _number(metrics, "val/macro_f1"),
        _number(metrics, "test/macro_f1"),
        f"{agreement:.1%}" if agreement is not None else "–",
        f"{speed:,.0f}" if speed else "–",
        f"{metrics['model_size_mb']:.1f}",
    )


def _name(model: Mapping[str, Any]) -> str:
    return str(model["student"]["name"])


def _more(result: Mapping[str, Any]) -> int:
    return int(result["metrics"].get("distil/unlabelled_rows", 0))


def _number(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "–"


def _note(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "No student has been trained yet."
    sources = ", ".join(sorted({str(r["data"]["source"]) for r in results}))
    rows = sorted({int(r["data"]["rows"]["train"]) for r in results})
    return (
        f"{sources}; students learned from {', '.join(f'{n:,}' for n in rows)} labelled rows. The teacher's speed is "
        "that of its own run. Agreement is over the validation rows. Choose alpha and T by the validation column."
    )


DISTIL_FILE = "distil_table.md"


def distil_report(folder: SweepFolder) -> dict[str, Any]:
    """Print and write the table of the sweep's students; return it for the parent run."""
    students = []
    for state in folder.states():
        run = folder.run_of(state)
        result = run.result() if run is not None else None
        if run is not None and result is not None:
            students.append((result, OmegaConf.create(run.config())))
    table = distil_table(students)
    path = folder.path / DISTIL_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(table.markdown(), encoding="utf-8")
    print_table(table)
    return {"note": table.markdown(), "metrics": {}, "artifacts": [path]}
