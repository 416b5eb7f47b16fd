"""Stored analyses of single runs."""

from __future__ import annotations

from typing import Any

from agnews_exp.reporting.report.content import Missing, Section, slug
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.stored_run import StoredRun


def details_of(run: StoredRun, name: str) -> dict[str, Any]:
    """Return the details of a run's analysis, empty without one."""
    return dict((run.analysis(name) or {}).get("details") or {})


def of_each_family(inputs: Inputs, name: str) -> list[StoredRun]:
    """Return the best run of each family that holds an analysis."""
    best: dict[str, StoredRun] = {}
    for run in inputs.with_analysis(name):
        best.setdefault(run.family, run)
    return list(best.values())


def tag(run: StoredRun) -> str:
    """Return a part of file names that tells runs apart."""
    return slug(f"{run.name}_{run.fingerprint[:6]}")


def nothing_stored(name: str, title: str, said: str, command: str) -> Section:
    """Return a section that says what would fill it."""
    return Section(name, title, (Missing(said, command),))
