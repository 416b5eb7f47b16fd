"""What a sweep leaves behind: result files, the note on its MLflow run, and what the terminal says at the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.config.storage import atomic_path
from agnews_exp.sweeps import aggregate, curves
from agnews_exp.sweeps.folder import SWEEP, SweepFolder
from agnews_exp.sweeps.jobs import SETTLED, JobState, log_path, repeat_command

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)


@dataclass
class Results:
    """Results of a sweep.

    Attributes:
        states: All jobs.
        rows: The finished ones.
        table: The aggregate as Markdown.
        note: What MLflow shows on top of the parent run.
        metrics: Numbers for the parent run.
        artifacts: Files and folders for the parent run.
        best: The finished job with the best objective; None where there are several goals.
        said: More lines for the terminal.
    """

    states: list[JobState]
    rows: list[aggregate.JobRow]
    table: str
    note: str
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: list[Path] = field(default_factory=list)
    best: aggregate.JobRow | None = None
    said: list[str] = field(default_factory=list)

    def add(self, more: dict[str, Any]) -> None:
        """Take a search's own results: note (Markdown), metrics, artifacts, and maybe lines for the terminal."""
        self.note += "\n\n" + more["note"]
        self.metrics |= more["metrics"]
        self.artifacts += more["artifacts"]
        self.said += more.get("said", [])


def write_results(folder: SweepFolder, states: Sequence[JobState]) -> Results:
    """Write jobs.csv, aggregate.csv, aggregate.md and, where a numeric axis was swept, learning_curve.png."""
    rows = aggregate.job_rows(folder, states)
    info = folder.info()
    maximise = info.get("maximise") is not False
    searching = info.get("kind") == "search"
    table = aggregate.markdown(rows, maximise=maximise)
    artifacts = [folder.path / name for name in ("jobs.csv", "aggregate.csv", "aggregate.md", SWEEP)]
    aggregate.write_jobs(artifacts[0], list(states), rows)
    aggregate.write_aggregate(artifacts[1], rows)
    failed = [s for s in states if s.status not in SETTLED]
    swept = info.get("swept") or []
    note = "\n\n".join(
        [f"`{info.get('command', folder.name)}`", table, *([_failures(failed, swept)] if failed else [])]
    )
    with atomic_path(artifacts[2]) as temporary:
        temporary.write_text(note + "\n", encoding="utf-8")
    axis = None if searching else curves.numeric_axis(rows)
    if axis is not None:
        primary = str(rows[0].result["primary"])
        test = "test/" + primary.split("/", 1)[1]
        metrics = [m for m in (primary, test) if all(m in row.metrics for row in rows)]
        path = folder.path / "learning_curve.png"
        try:
            curves.draw_curve(rows, axis, metrics, path)
            artifacts.append(path)
        except Exception as error:
            log.warning("the learning curve could not be drawn: %s", error)
    counts = {name: sum(s.status == name for s in states) for name in ("finished", "pruned", "failed")}
    numbers: dict[str, float] = {f"jobs_{name}": float(n) for name, n in counts.items()}
    pick = max if maximise else min
    one_goal = rows and info.get("maximise") is not None
    best = pick(rows, key=lambda r: r.metrics["objective"]) if one_goal else None
    if best is not None:
        numbers["best_objective"] = best.metrics["objective"]
        numbers |= {f"best_{m.replace('/', '_')}": best.metrics[m] for m in aggregate.shown_metrics([best])}
        numbers["best_job"] = float(best.state.num)
    return Results(list(states), rows, table, note, numbers, [a for a in artifacts if a.exists()], best)


def _failures(failed: Sequence[JobState], swept: Sequence[str]) -> str:
    lines = ["| job | overrides | reason |", "| --- | --- | --- |"]
    for state in failed:
        reason = (state.reason or state.status).replace("|", "\\|")
        lines.append(f"| {state.num} | `{state.words(swept)}` | {reason} |")
    return "\n".join(lines)


def table_console() -> Console:
    """Return a console for tables: where no terminal bounds them, no column is cut."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 400
    return console


def print_results(folder: SweepFolder, results: Results) -> None:
    """Print the aggregate, the best job, and where everything lies."""
    from rich import box
    from rich.table import Table

    swept = folder.info().get("swept") or []
    console = table_console()
    lines = [line for line in results.table.splitlines() if line.startswith("|")]
    if lines:
        # The objective and its twin on the test set: the rest is in aggregate.md.
        head, _, *body = [_columns(line) for line in lines]
        table = Table(title=folder.name, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for number, name in enumerate(head):
            table.add_column(
                name,
                justify="right" if number else "left",
                no_wrap=bool(number),
                overflow="fold",
                min_width=None if number else 24,
            )
        shown = body[:30]
        for row in shown:
            table.add_row(row[0], *(text.partition(" [")[0] for text in row[1:]))
        console.print()
        console.print(table)
        if len(body) > len(shown):
            console.print(f"... and {len(body) - len(shown)} more in aggregate.md")
    if results.best is not None:
        best = results.best
        console.print(f"best   #{best.state.num} {best.state.words(swept)}: {best.metrics['objective']:.4f}")
    for line in results.said:
        console.print(f"note   {line}")
    console.print(f"sweep  {_short(folder.path)}")
    if folder.info().get("kind") == "search":
        job = "" if results.best is not None else " --job N"
        console.print(
            f"next   agnews sweeps best {folder.name}{job} --run      fits it again and scores the test set\n"
        )
    else:
        console.print("next   agnews ui      the sweep's run holds this table; its jobs are nested below it\n")


def _columns(line: str) -> list[str]:
    parts = [part.strip() for part in line.strip("|").split(" | ")]
    return [parts[0], *parts[1::2][:2]]


def print_jobs(folder: SweepFolder, states: Sequence[JobState]) -> None:
    """Print one line a job: state, objective, time, overrides."""
    from rich.table import Table

    swept = folder.info().get("swept") or []
    table = Table(box=None, pad_edge=False)
    for name in ("job", "state", "objective", "seconds", "attempts", "overrides"):
        text = name in ("state", "overrides")
        table.add_column(name, no_wrap=name != "overrides", overflow="fold", justify="left" if text else "right")
    for state in states:
        objective = "" if state.objective is None else f"{state.objective:.4f}"
        seconds = "" if state.seconds is None else f"{state.seconds:.1f}"
        table.add_row(
            str(state.num), state.status, objective, seconds, str(state.attempts), state.words(swept)
        )  # fmt: skip
    table_console().print(table)


def print_failures(folder: SweepFolder, states: Sequence[JobState]) -> None:
    """Print every failure with its reason, the last lines of its traceback, its log, and how to repeat it."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    failed = [s for s in states if s.status in ("failed", "killed")]
    swept = folder.info().get("swept") or []
    if failed:
        console.print(f"{len(failed)} failed:")
    for state in failed:
        console.print(f"  #{state.num} {state.words(swept)}")
        console.print(f"     reason  {state.reason or state.status}")
        if state.traceback:
            last = state.traceback.strip().splitlines()[-3:]
            console.print("     trace   " + "\n             ".join(line.strip() for line in last))
        console.print(f"     log     {_short(log_path(folder.path, state.num))}")
        console.print(f"     repeat  {repeat_command(state.overrides, folder.snapshots)}")


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
