"""What the report's sections share: the section, cells of scores, and the line that says where numbers come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agnews_exp.analyses.findings import Block, Cell, Number, Table, Text
from agnews_exp.core.numbers import plural
from agnews_exp.drawing import Chart
from agnews_exp.report.systems import RESAMPLES, RunNames, StoredRun, System

BOOTSTRAP = (
    f"Bars: 95 % bootstrap intervals over the rows ({RESAMPLES:,} resamples), and seeds where there are several."
)
WILSON = "Bars: 95 % Wilson intervals."


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    name: str  # of its anchor
    title: str  # its heading
    blocks: tuple[Block, ...]  # what is shown
    more: tuple[Block, ...] = ()  # what is folded away behind it


def score(system: System, metric: str) -> Number:
    """Return a system's mean over seeds with a 95 % interval over rows and, where it has several, over seeds."""
    value, low, high = system.joint_interval(metric)
    return Number(value, "metric", low, high)


def intervals(systems: Iterable[System], metric: str) -> tuple[tuple[Any, ...], ...]:
    """Return values, lower and upper ends of systems, for a chart."""
    values, lows, highs = zip(*(system.joint_interval(metric) for system in systems), strict=True)
    return values, lows, highs


def run_score(run: StoredRun, metric: str) -> Number:
    """Return a run's metric with the bootstrap interval over its rows."""
    low, high = run.interval(metric) or (None, None)
    return Number(run.metrics.get(metric), "metric", low, high)


def filled(table: Table) -> Table:
    """Return a table without the columns in which no row has anything."""
    kept = [i for i in range(len(table.columns)) if any(_has_content(row[i]) for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


def _has_content(cell: Cell) -> bool:
    return (cell.value if isinstance(cell, Number) else cell) not in (None, "")


def renamed(block: Block, prefix: str, names: RunNames) -> Block:
    """Return a stored block as a part of the report: under a file name of its own, runs under their names."""
    if isinstance(block, Text):
        return replace(block, text=names.clean(block.text))
    if isinstance(block, Table | Chart):
        return replace(block, name=f"{prefix}_{block.name}", provenance=names.clean(block.provenance))
    return block


def slug(words: str) -> str:
    """Return a file name: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:60] or "unnamed"


def listed(words: Iterable[str], most: int = 6) -> str:
    """Join words, the first few by name and the others by number."""
    known = list(dict.fromkeys(words))
    rest = len(known) - most
    return ", ".join(known[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def origin(runs: Sequence[StoredRun], splits: Sequence[str] = ("test",), command: str | None = None) -> str:
    """Return runs, split, rows, seeds, device and command (the runs' own if None) of numbers in a line."""
    rows = {
        split: sorted({n for run in runs if (n := run.rows.get("train" if split == "cv" else split))})
        for split in splits
    }
    sizes = ", ".join(f"{split} ({listed((f'{n:,}' for n in ns), 3)} rows)" for split, ns in rows.items() if ns)
    fractions = [f"{fraction:g}" for fraction in sorted({run.fraction for run in runs})]
    commands = list(dict.fromkeys(run.command for run in runs))
    shown = command or " ; ".join([*commands[:2], *([f"and {len(commands) - 2} more"] if len(commands) > 2 else [])])
    parts = [
        f"{plural(len(runs), 'run')}: {_names(runs)}",
        f"split: {sizes}" if sizes else "",
        f"data: {listed((run.source for run in runs), 2)}, fraction {listed(fractions, 4)}",
        f"seed {listed(map(str, sorted({run.seed for run in runs})), 8)}",
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
