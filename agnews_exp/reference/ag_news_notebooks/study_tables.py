"""The study's two tables of classical models, its published numbers beside ours.

Each number says on which split it was computed. The study's features and selectors were fitted on all training rows
before its cross-validation, ours inside each fold; its corpus was the full 102,000 training rows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from agnews_exp.core.files import atomic_path
from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record

MODELS_TITLE = "Classical models"
PIPELINES_TITLE = "Feature pipelines with logistic regression"


@dataclass(frozen=True)
class StudyTable:
    """A table of text cells.

    Attributes:
        title: What it shows.
        header: Column names; each number's column names its split.
        rows: Best published first, as the study sorted them.
        note: Data and protocol of our numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.header) + " |", "|" + " --- |" * len(self.header)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", self.note, ""])


def published(name: str) -> list[dict[str, str]]:
    """Return the rows of a published table: ``models`` or ``pipelines``."""
    text = (
        files("agnews_exp.reference.ag_news_notebooks").joinpath("published", f"{name}.csv").read_text(encoding="utf-8")
    )
    return list(csv.DictReader(text.splitlines()))


def study_tables(results: Iterable[Mapping[str, Any]]) -> list[StudyTable]:
    """Set runs beside the study's two tables.

    Args:
        results: Contents of ``result.json`` of finished runs with cross-validation, any order; other runs and
            those of configurations that the study did not have are left out.

    Returns:
        The models' and the pipelines' table; a row without a run of ours shows a dash.
    """
    ours = {_identity(r): r for r in results if r.get("folds")}
    return [_models(ours), _pipelines(ours)]


def _identity(result: Mapping[str, Any]) -> tuple[str, str, str, int]:
    n_folds = len(next(iter(result["folds"].values())))
    return str(result["model"]), str(result["features"]), str(result.get("pooling") or ""), n_folds


def _models(ours: Mapping[tuple[str, str, str, int], Mapping[str, Any]]) -> StudyTable:
    header = (
        "model", "study: CV-10 on train, macro-F1", "ours: CV-10 on train, macro-F1", "ours: validation, macro-F1",
        "ours: test, macro-F1", "ours: fit, s",
    )  # fmt: skip
    rows, used = [], []
    for line in published("models"):
        found = ours.get((line["model"], line["features"], "", 10))
        used += [found] if found else []
        rows.append((line["model"], _with_std(line), *_cells(found)))
    return StudyTable(MODELS_TITLE, header, rows, _note(used))


def _pipelines(ours: Mapping[tuple[str, str, str, int], Mapping[str, Any]]) -> StudyTable:
    header = (
        "pipeline", "study: CV-5 on train, macro-F1", "study: validation, macro-F1", "ours: CV-5 on train, macro-F1",
        "ours: validation, macro-F1", "ours: test, macro-F1", "ours: fit, s",
    )  # fmt: skip
    rows, used = [], []
    for line in published("pipelines"):
        found = ours.get((line["model"], line["features"], line["pooling"], 5))
        used += [found] if found else []
        name = f"{line['pipeline']} ({line['features']}{', ' + line['pooling'] if line['pooling'] else ''})"
        rows.append((name, _with_std(line), f"{float(line['val/macro_f1']):.4f}", *_cells(found)))
    note = (
        _note(used)
        + " The study's embeddings were GloVe vectors; ours are word2vec vectors trained on the training rows."
    )
    return StudyTable(PIPELINES_TITLE, header, rows, note)


def _with_std(values: Mapping[str, Any]) -> str:
    return f"{float(values['cv/macro_f1']):.4f} ±{float(values['cv/macro_f1_std']):.4f}"


def _cells(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if found is None:
        return ("–",) * 4
    metrics = found["metrics"]
    return (
        _with_std(metrics),
        f"{metrics['val/macro_f1']:.4f}",
        f"{metrics['test/macro_f1']:.4f}" if "test/macro_f1" in metrics else "–",
        f"{found['timings'].get('fit', 0.0):.1f}",
    )


def _note(used: Sequence[Mapping[str, Any]]) -> str:
    if not used:
        return "None of these has been run yet."
    rows = {tuple(r["data"]["rows"].items()) for r in used}
    sources = ", ".join(sorted({str(r["data"]["source"]) for r in used}))
    counts = "; ".join(", ".join(f"{n:,} {split}" for split, n in part) for part in sorted(rows))
    seeds = ", ".join(str(s) for s in sorted({int(r["seed"]) for r in used}))
    return (
        f"Ours: {sources}, rows {counts}; seed {seeds}; features fitted inside each fold. "
        "Study: 102,000 train, 18,000 validation rows; features fitted on all training rows before the folds."
    )


STUDY_FILE = "study_tables.md"


def study_report(folder: SweepFolder) -> dict[str, Any]:
    """Print and write the study's two tables with the sweep's runs; return them for the parent run."""
    results = []
    for state in folder.states():
        run = folder.run_of(state)
        result = run.result() if run is not None else None
        if run is not None and result is not None:
            results.append(result | {"pooling": _pooling(run)})
    tables = study_tables(results)
    text = "\n".join(table.markdown() for table in tables)
    path = folder.path / STUDY_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for table in tables:
        print_table(table)
    return {"note": text, "metrics": {}, "artifacts": [path]}


def _pooling(run: record.RunFolder) -> str:
    """Return how a run's word vectors were pooled, or nothing where there are none."""
    embeddings = run.config()["features"]["blocks"].get("embeddings") or {}
    return str(embeddings.get("pooling") or "")


def print_table(table: StudyTable) -> None:
    """Print a table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    shown = Table(title=table.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, name in enumerate(table.header):
        heading = name.replace(": ", ":\n").replace(", ", "\n")
        shown.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    console.print(table.note + "\n")
