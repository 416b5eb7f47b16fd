"""Finding the runs that answer a claim."""

from __future__ import annotations

from typing import Any

from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.stored_run import StoredRun
from agnews_exp.reporting.report.systems import System
from agnews_exp.reporting.report.verdicts import UNTESTED, Answer

_HYBRID = "hybrid_tfidf"


def run_of(inputs: Inputs, model: str) -> StoredRun | None:
    """Return the run of a model on the most rows, on the study's features where there is a choice."""
    found = [system.first for system in inputs.systems if system.first.model == model]
    return max(found, key=lambda run: (run.fraction, run.features == _HYBRID, run.n_folds), default=None)


def with_interval(run: StoredRun, metric: str) -> str:
    """Return a metric in words, with its bootstrap interval."""
    low, high = run.interval(metric) or (None, None)
    value = run.metrics[metric]
    between = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    return f"{metric} {value:.4f}{between}"


def details(run: StoredRun | None, analysis: str) -> dict[str, Any]:
    """Return the details of a run's analysis, empty without one."""
    return {} if run is None else dict((run.analysis(analysis) or {}).get("details") or {})


def analysed(inputs: Inputs, analysis: str, family: str) -> StoredRun | None:
    """Return the best run of a family that holds an analysis, or None."""
    return next((run for run in inputs.with_analysis(analysis) if run.family == family), None)


def orientation(said: str, *systems: System) -> Answer:
    """Return an answer from runs with other settings than the claim's: it decides nothing."""
    return Answer(
        f"{said} (other settings than the claim's)",
        UNTESTED,
        "our runs, for orientation",
        tuple(s.first for s in systems),
    )
