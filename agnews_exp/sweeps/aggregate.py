"""From the jobs of a sweep to tables: one row a job, and mean, deviation and interval over seeds."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.config.cells import markdown_cell, spreadsheet_cell
from agnews_exp.config.storage import atomic_path
from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.sweeps.jobs import JobState, numbers_of, override_key, short_number

LEVEL = 0.95
SEED = "seed"
_SHOWN = ("macro_f1", "accuracy")


@dataclass(frozen=True)
class JobRow:
    """A finished job.

    Attributes:
        state: Its state.
        values: Its overrides by key, such as ``{"model": "logreg", "data_fraction": "0.5"}``.
        result: Content of its result.json.
    """

    state: JobState
    values: Mapping[str, str]
    result: Mapping[str, Any]

    @property
    def group(self) -> str:
        """Fingerprint without the seed: what is averaged together."""
        return str(self.result.get("group_fingerprint") or self.result["fingerprint"])

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics, timings as time/<stage>, and the objective."""
        objective = self.result["objective"] if self.state.objective is None else self.state.objective
        return {"objective": float(objective), **numbers_of(self.result)}


@dataclass(frozen=True)
class Summary:
    """One metric of one group over its seeds.

    Attributes:
        n: Number of distinct seeds.
        mean: Their mean.
        std: Their standard deviation (n - 1); NaN for one.
        low: Lower end of Student's 95 % interval of the mean; NaN for one seed.
        high: Its upper end.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


def summarise(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Return mean, deviation and Student's t interval of independent repetitions."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Summary(n, mean, math.nan, math.nan, math.nan)
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def job_rows(folder: SweepFolder, states: Iterable[JobState]) -> list[JobRow]:
    """Return the finished jobs with their results, by number."""
    rows = []
    for state in states:
        run = folder.run_of(state) if state.status == "finished" else None
        result = run.result() if run is not None else None
        if result is not None:
            rows.append(JobRow(state, override_values(state.overrides), result))
    return rows


def override_values(overrides: Sequence[str]) -> dict[str, str]:
    """Return overrides as key to value, without the signs and packages of Hydra's grammar."""
    return {override_key(word): word.partition("=")[2] for word in overrides}


def varying_keys(rows: Sequence[JobRow]) -> list[str]:
    """Return the override keys whose values differ between jobs, in the order of the command."""
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    return [key for key in keys if len({row.values.get(key) for row in rows}) > 1]


def groups(rows: Sequence[JobRow]) -> dict[str, list[JobRow]]:
    """Return the jobs by seed-free fingerprint; a seed that ran twice counts once."""
    found: dict[str, dict[Any, JobRow]] = {}
    for row in rows:
        found.setdefault(row.group, {}).setdefault(row.result.get("seed"), row)
    return {group: list(by_seed.values()) for group, by_seed in found.items()}


def group_label(row: JobRow, keys: Sequence[str]) -> str:
    """Return what makes a group: its varying overrides, or its name where nothing varies."""
    shown = [f"{key}={short_number(row.values.get(key, ''))}" for key in keys if key != SEED]
    return " ".join(shown) or str(row.result["name"])


def write_jobs(path: Path, states: Sequence[JobState], rows: Sequence[JobRow]) -> None:
    """Write one CSV row a job: overrides, status, identity, every metric."""
    by_num = {row.state.num: row for row in rows}
    keys = list(dict.fromkeys(k for s in states for k in override_values(s.overrides)))
    metrics = list(dict.fromkeys(m for row in rows for m in row.metrics))
    fixed = ["job", "status", "attempts", "seconds", "max_rss_mb", "fingerprint", "group_fingerprint"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*fixed, *keys, *metrics, "reason", "run"])
        for state in states:
            values = override_values(state.overrides)
            row = by_num.get(state.num)
            identity = [row.result["fingerprint"], row.group] if row else ["", ""]
            numbers = row.metrics if row else {}
            writer.writerow(
                [state.num, state.status, state.attempts, state.seconds, state.max_rss_mb, *identity]
                + [spreadsheet_cell(values.get(k, "")) for k in keys]
                + [numbers.get(m, "") for m in metrics]
                + [spreadsheet_cell(state.reason or ""), spreadsheet_cell(state.run or "")]
            )


def write_aggregate(path: Path, rows: Sequence[JobRow]) -> None:
    """Write the tidy table: one row a group and metric, with n, mean, std and the 95 % interval over seeds."""
    keys = [k for k in varying_keys(rows) if k != SEED]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["group_fingerprint", "name", *keys, "metric", "n", "mean", "std", "ci95_low", "ci95_high"])
        for group, members in groups(rows).items():
            first = members[0]
            label = [group, first.result["name"], *(first.values.get(k, "") for k in keys)]
            for metric in first.metrics:
                values = [m.metrics[metric] for m in members if math.isfinite(m.metrics.get(metric, math.nan))]
                if values:
                    s = summarise(values)
                    numbers = ["" if math.isnan(x) else repr(x) for x in (s.mean, s.std, s.low, s.high)]
                    writer.writerow([*map(spreadsheet_cell, label), metric, s.n, *numbers])


def shown_metrics(rows: Sequence[JobRow]) -> list[str]:
    """Return the metrics of the Markdown table: the objective's own, then the usual ones on validation and test.

    Those that some job lacks are left out: a search's trials do not score the test set.
    """
    primary = [str(row.result["primary"]) for row in rows[:1]]
    usual = [f"{split}/{name}" for split in ("val", "test") for name in _SHOWN]
    return [m for m in dict.fromkeys([*primary, *usual]) if all(m in row.metrics for row in rows)]


def cell(values: Sequence[float]) -> str:
    """Return ``0.9123 ± 0.0011 [0.9096, 0.9150] (3)``: mean, deviation, interval, n; the bare value for one."""
    s = summarise(values)
    if s.n == 1:
        return f"{s.mean:.4f}"
    return f"{s.mean:.4f} ± {s.std:.4f} [{s.low:.4f}, {s.high:.4f}] ({s.n})"


def markdown(rows: Sequence[JobRow], *, maximise: bool = True) -> str:
    """Return the aggregate as a Markdown table, best objective first."""
    if not rows:
        return "No job has finished."
    keys, metrics = varying_keys(rows), shown_metrics(rows)
    lines = ["| " + " | ".join(["configuration", *metrics]) + " |", "| --- |" + " --- |" * len(metrics)]
    found = list(groups(rows).values())
    found.sort(key=lambda g: statistics.fmean(r.metrics["objective"] for r in g), reverse=maximise)
    for members in found:
        cells = [cell([m.metrics[metric] for m in members]) for metric in metrics]
        lines.append("| " + " | ".join([markdown_cell(group_label(members[0], keys)), *cells]) + " |")
    if any(len(g) > 1 for g in found):
        lines += ["", f"Mean ± standard deviation [{LEVEL:.0%} t interval] (seeds)."]
    return "\n".join(lines)
