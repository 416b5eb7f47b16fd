"""What a job of a sweep tells the process that started it, through a file named in the environment."""

from __future__ import annotations

import os
from pathlib import Path

from agnews_exp.tracking import record

REPORT = "AGNEWS_JOB_REPORT"
PARENT_RUN = "AGNEWS_PARENT_RUN_ID"
SWEEP_NAME = "AGNEWS_SWEEP"
JOB_NUMBER = "AGNEWS_JOB_NUM"
NAMES = (REPORT, PARENT_RUN, SWEEP_NAME, JOB_NUMBER)


def report_job(status: str, objective: float | None, run: Path, *, reason: str | None = None) -> None:
    """Report how this run ended; outside of a sweep nothing happens.

    Args:
        status: ``finished`` or ``pruned``.
        objective: The value that counts for a search.
        run: Folder of the record that holds the result, an earlier run's when that was not repeated.
        reason: Why it was pruned.
    """
    if path := os.environ.get(REPORT):
        base = Path(path).parents[1]  # <sweep>/jobs/<num>.report.json
        record.write_json(
            Path(path),
            {"status": status, "objective": objective, "run": os.path.relpath(run, base), "reason": reason},
        )


def sweep_tags() -> dict[str, str]:
    """Return the MLflow tags of a job: its sweep and its number; empty outside of a sweep."""
    names = {"sweep": SWEEP_NAME, "sweep.job": JOB_NUMBER}
    return {tag: os.environ[name] for tag, name in names.items() if os.environ.get(name)}
