"""The line under every figure and table: where its numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnews_exp.report.answers import RESAMPLES
from agnews_exp.report.content import Missing, Section, listed, plural, slug
from agnews_exp.report.inputs import Inputs, StoredRun


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


BOOTSTRAP = f"Bars: 95 % bootstrap intervals over the rows ({RESAMPLES:,} resamples, percentile)."
WILSON = "Bars: 95 % Wilson intervals."
FOLDS = "Bars: one standard error over the folds (folds share training rows: too short for a test)."
PUBLISHED = "Grey, open: the study's own number, from 102,000 training rows."
SEED_BARS = "Bars: 95 % t intervals of the mean over seeds, or with one seed 95 % bootstrap intervals over the rows."


def origin(runs: Sequence[StoredRun], splits: Sequence[str] = ("test",), command: str | None = None) -> str:
    """Return runs, split, rows, seeds, device and command in a sentence each.

    Args:
        runs: That gave the numbers.
        splits: They were computed on.
        command: That makes them again; None takes the runs' own.
    """
    if not runs:
        return "Published numbers alone; none of our runs is in it."
    rows = {split: sorted({n for run in runs if (n := _rows(run, split))}) for split in splits}
    sizes = ", ".join(
        f"{split} ({listed((f'{n:,}' for n in found), 3)} rows)" for split, found in rows.items() if found
    )
    fractions = sorted({run.fraction for run in runs})
    seeds = sorted({run.seed for run in runs})
    shown = command or " ; ".join(_few(run.command for run in runs))
    parts = [
        f"{plural(len(runs), 'run')}: {_names(runs)}",
        f"split: {sizes}" if sizes else "",
        f"data: {listed((run.source for run in runs), 2)}, fraction {listed((f'{f:g}' for f in fractions), 4)}",
        f"seed {listed(map(str, seeds), 8)}",
        f"device: {listed((run.device for run in runs), 2)}",
        f"command: {shown}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _names(runs: Sequence[StoredRun]) -> str:
    """Return short names, the jobs of one sweep behind the sweep's name."""
    sweeps: dict[str, list[str]] = {}
    for run in runs:
        sweep, _, job = run.short.rpartition("/")
        sweeps.setdefault(sweep, []).append(job)
    parts = [listed(jobs, 8) if not sweep else f"{sweep} jobs {listed(jobs, 8)}" for sweep, jobs in sweeps.items()]
    return "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more sweeps" if len(parts) > 3 else "")


def _rows(run: StoredRun, split: str) -> int | None:
    return run.rows.get("train" if split == "cv" else split)


def _few(commands: object) -> list[str]:
    known = list(dict.fromkeys(commands))  # type: ignore[call-overload]
    return [*known[:2], *([f"and {len(known) - 2} more"] if len(known) > 2 else [])]
