"""A sweep's runs beside the study's published tables (``hydra.sweeper.report=study_tables``)."""

from __future__ import annotations

from typing import Any

from agnews_exp.config.storage import atomic_path
from agnews_exp.reporting.study_tables import StudyTable, study_tables
from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.tracking import record

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
