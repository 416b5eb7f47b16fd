"""A sweep's students beside their teacher (``hydra.sweeper.report=distil_table``)."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from agnews_exp.config.storage import atomic_path
from agnews_exp.reporting.distil_table import distil_table
from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.sweeps.study_report import print_table

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
