"""Results of a sweep: its files, the note on its MLflow run, and the summary on the terminal."""

from __future__ import annotations

import csv
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agnews_exp.core.errors import AgnewsError, first_line
from agnews_exp.core.files import atomic_path
from agnews_exp.core.numbers import format_seconds
from agnews_exp.core.paths import shown_path
from agnews_exp.core.text import markdown_table, spreadsheet_cell
from agnews_exp.drawing import Chart, Series, save
from agnews_exp.sweeps.replay import repeat_command
from agnews_exp.sweeps.state import (
    SETTLED,
    SWEEP,
    JobState,
    SweepFolder,
    best_of,
    log_path,
    numbers_of,
    override_key,
    short_number,
)
from agnews_exp.tracking.record import repetition

if TYPE_CHECKING:
    from rich.console import Console

LEVEL = 0.95
SEEDS = ("seed", "subset_seed")
"""Keys whose values make repetitions: they are averaged over."""
_SHOWN = ("macro_f1", "accuracy")


@dataclass(frozen=True)
class JobRow:
    """A finished job with its overrides and its result."""

    state: JobState  # its state
    values: Mapping[str, str]  # its overrides by key, such as ``{"model": "logreg", "data_fraction": "0.5"}``
    result: Mapping[str, Any]  # content of its result.json

    @property
    def group(self) -> str:
        """Fingerprint without the seed; jobs of one group are averaged."""
        return str(self.result.get("group_fingerprint") or self.result["fingerprint"])

    @property
    def judged_on(self) -> str:
        """Which rows it was judged on: equal for runs whose numbers may be compared."""
        return str(self.result.get("data", {}).get("evaluation_checksum", ""))[:6]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics, timings as time/<stage>, and the objective."""
        objective = self.result["objective"] if self.state.objective is None else self.state.objective
        return {"objective": float(objective), **numbers_of(self.result)}


@dataclass(frozen=True)
class Summary:
    """One metric of one group over its seeds."""

    n: int  # number of distinct seeds
    mean: float  # their mean
    std: float  # their standard deviation (n - 1); NaN for one
    low: float  # lower end of Student's 95 % interval of the mean; NaN for one seed
    high: float  # its upper end


def summarise(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Return mean, deviation and Student's t interval of independent repetitions."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Summary(n, mean, math.nan, math.nan, math.nan)
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    if std == 0:  # seeds that change nothing prove nothing: no interval
        return Summary(n, mean, std, math.nan, math.nan)
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
    found: dict[str, dict[tuple[int, int], JobRow]] = {}
    for row in rows:
        found.setdefault(row.group, {}).setdefault(repetition(row.result), row)
    return {group: list(by_seed.values()) for group, by_seed in found.items()}


def group_label(row: JobRow, keys: Sequence[str]) -> str:
    """Return what makes a group: its varying overrides, or its name where nothing varies."""
    shown = [f"{key}={short_number(row.values.get(key, ''))}" for key in keys if key not in SEEDS]
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
    keys = [k for k in varying_keys(rows) if k not in SEEDS]
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
    if s.n == 1 or s.std == 0:
        return f"{s.mean:.4f}" + (f" ({s.n} seeds, all alike)" if s.n > 1 else "")
    return f"{s.mean:.4f} ± {s.std:.4f} [{s.low:.4f}, {s.high:.4f}] ({s.n})"


def aggregate(rows: Sequence[JobRow], *, maximise: bool = True) -> list[list[str]]:
    """Return the aggregate as texts, headings first: the best objective on top, runs on the same rows together."""
    keys, metrics = varying_keys(rows), shown_metrics(rows)
    several = len({row.judged_on for row in rows}) > 1
    table = [["configuration", *metrics]]
    found = list(groups(rows).values())
    found.sort(key=lambda g: statistics.fmean(r.metrics["objective"] for r in g), reverse=maximise)
    found.sort(key=lambda g: g[0].judged_on)
    for members in found:
        first = members[0]
        label = group_label(first, keys) + (f" (rows {first.judged_on})" if several else "")
        table.append([label, *(cell([m.metrics[metric] for m in members]) for metric in metrics)])
    return table


def markdown(rows: Sequence[JobRow], *, maximise: bool = True) -> str:
    """Return :func:`aggregate` as a Markdown table."""
    if not rows:
        return "No job has finished."
    head, *body = aggregate(rows, maximise=maximise)
    repeated = any(len(members) > 1 for members in groups(rows).values())
    note = f"\n\nMean ± standard deviation [{LEVEL:.0%} t interval over seeds] (seeds)." if repeated else ""
    return markdown_table(head, body) + note


_PREFERRED = ("data_fraction",)
_TITLES = {"data_fraction": "training rows"}


def numeric_axis(rows: Sequence[JobRow]) -> str | None:
    """Return the swept key to draw along: data_fraction, or else the first with two or more numeric values."""
    keys = [k for k in varying_keys(rows) if k not in SEEDS]
    for key in sorted(keys, key=lambda k: k not in _PREFERRED):
        values = [_number(row.values.get(key)) for row in rows]
        if all(v is not None for v in values) and len(set(values)) > 1:
            return key
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def curve_chart(rows: Sequence[JobRow], axis: str, metrics: Sequence[str]) -> Chart:
    """Return each metric along an axis, one line a combination of the other swept keys, with intervals over seeds."""
    others = [k for k in varying_keys(rows) if k not in (*SEEDS, axis)]
    lines: dict[str, list[tuple[float, list[JobRow]]]] = {}
    for members in groups(rows).values():
        first = members[0]
        position = _number(first.values.get(axis))
        assert position is not None
        label = ", ".join(f"{k.split('.')[-1]}={first.values.get(k, '')}" for k in others)
        lines.setdefault(label, []).append((position, members))
    series = []
    for metric in metrics:
        for label, points in lines.items():
            points.sort(key=lambda point: point[0])
            sums = [summarise([m.metrics[metric] for m in members]) for _, members in points]
            low = tuple(None if math.isnan(s.low) else s.low for s in sums)
            high = tuple(None if math.isnan(s.high) else s.high for s in sums)
            positions = tuple(x for x, _ in points)
            series.append(Series(label, positions, tuple(s.mean for s in sums), low, high, panel=metric))
    positions = tuple(x for line in lines.values() for x, _ in line)
    title = _TITLES.get(axis, axis)
    repeated = any(len(members) > 1 for line in lines.values() for _, members in line)
    return Chart(
        "learning_curve", f"Metrics by {title}", "lines", title, "", tuple(series),
        intervals=f"{LEVEL:.0%} t intervals over seeds." if repeated else "",
        log_x=min(positions) > 0 and max(positions) / min(positions) >= 10,
    )  # fmt: skip


log = logging.getLogger(__name__)


class LiveTable:
    """Shows how far a sweep is; use as a context manager.

    Only overrides that vary (``swept``) are shown, or all where it is empty; ``settled`` jobs were done by earlier
    calls.
    """

    def __init__(
        self,
        name: str,
        total: int,
        settled: list[JobState],
        swept: list[str],
        *,
        maximise: bool | None = True,
    ) -> None:
        self._name, self._total, self._swept, self._maximise = name, total, swept, maximise
        self._done = {s.num: s for s in settled}
        self._before = len(settled)
        self._running: dict[int, tuple[JobState, float]] = {}
        self._start = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), get_renderable=self._render, refresh_per_second=2, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, state: JobState) -> None:
        """Show a job as running."""
        self._running[state.num] = (state, time.monotonic())

    def ended(self, state: JobState) -> None:
        """Show a job's end."""
        self._running.pop(state.num, None)
        self._done[state.num] = state
        if self._live is None:
            value = "" if state.objective is None else f"  {state.objective:.4f}"
            reason = f"  {state.reason}" if state.status == "failed" else ""
            seconds = f"  {format_seconds(state.seconds)}" if state.seconds is not None else ""
            words = state.words(self._swept)
            log.info(
                "[%d/%d] #%d %s%s%s%s  %s",
                len(self._done), self._total, state.num, state.status, value, reason, seconds, words,
            )  # fmt: skip

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, from the pace of this call so far; None before the first end."""
        done = len(self._done) - self._before
        if done <= 0:
            return None
        pace = (time.monotonic() - self._start) / done
        return pace * max(0, self._total - len(self._done))

    def _render(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        states = list(self._done.values())
        failed = sum(s.status in ("failed", "killed") for s in states)
        left = self.seconds_left
        pruned = sum(s.status == "pruned" for s in states)
        head = (
            f"{self._name}: {len(states) - failed} of {self._total} done"
            + (f" ({pruned} pruned)" if pruned else "")
            + f", {len(self._running)} running, {failed} failed"
            + (f", about {format_seconds(left)} left" if left is not None else "")
        )
        table = Table(box=None, pad_edge=False, show_header=False)
        for state, since in list(self._running.values())[:12]:
            table.add_row(
                f"#{state.num}", "running", format_seconds(time.monotonic() - since), state.words(self._swept)
            )
        for state in states[-4:]:
            shown = state.reason if state.status == "failed" else f"{state.objective:.4f}" if state.objective else ""
            table.add_row(f"#{state.num}", state.status, shown or "", state.words(self._swept))
        if best := best_of(states, self._maximise):
            table.add_row(f"#{best.num}", "best", f"{best.objective:.4f}", best.words(self._swept), style="bold")
        return Group(Text(head, style="bold"), table)


@dataclass
class Results:
    """Results of a sweep."""

    states: list[JobState]  # all jobs
    rows: list[JobRow]  # the finished ones
    table: str  # the aggregate as Markdown
    note: str  # the note of the sweep's MLflow run (Markdown)
    metrics: dict[str, float] = field(default_factory=dict)  # numbers for the parent run
    artifacts: list[Path] = field(default_factory=list)  # files and folders for the parent run
    best: JobRow | None = None  # the finished job with the best objective; None where there are several goals
    said: list[str] = field(default_factory=list)  # more lines for the terminal

    def add(self, more: dict[str, Any]) -> None:
        """Take a search's own results: note (Markdown), metrics, artifacts, and maybe lines for the terminal."""
        self.note += "\n\n" + more["note"]
        self.metrics |= more["metrics"]
        self.artifacts += more["artifacts"]
        self.said += more.get("said", [])


def write_results(folder: SweepFolder, states: Sequence[JobState]) -> Results:
    """Write jobs.csv, aggregate.csv, aggregate.md and, where a numeric axis was swept, learning_curve.png."""
    rows = job_rows(folder, states)
    info = folder.info()
    maximise = info.get("maximise") is not False
    searching = info.get("kind") == "search"
    table = markdown(rows, maximise=maximise)
    worth, more = ("", "") if searching else _curve_findings(folder, rows)
    table += more
    artifacts = [folder.path / name for name in ("jobs.csv", "aggregate.csv", "aggregate.md", SWEEP)]
    write_jobs(artifacts[0], list(states), rows)
    write_aggregate(artifacts[1], rows)
    failed = [s for s in states if s.status not in SETTLED]
    swept = info.get("swept") or []
    note = f"`{info.get('command', folder.name)}`\n\n{table}"
    if failed:
        lines = ((state.num, f"`{state.words(swept)}`", state.reason or state.status) for state in failed)
        note += "\n\n" + markdown_table(["job", "overrides", "reason"], lines)
    with atomic_path(artifacts[2]) as temporary:
        temporary.write_text(note + "\n", encoding="utf-8")
    axis = None if searching else numeric_axis(rows)
    if axis is not None:
        primary = str(rows[0].result["primary"])
        test = "test/" + primary.split("/", 1)[1]
        metrics = [m for m in (primary, test) if all(m in row.metrics for row in rows)]
        path = folder.path / "learning_curve.png"
        try:
            save(curve_chart(rows, axis, metrics), path)
            artifacts.append(path)
        except Exception as error:
            log.warning("the learning curve could not be drawn: %s", error)
    counts = {name: sum(s.status == name for s in states) for name in ("finished", "pruned", "failed")}
    numbers: dict[str, float] = {f"jobs_{name}": float(n) for name, n in counts.items()}
    pick = max if maximise else min
    sets = {row.judged_on for row in rows}
    one_goal = len(sets) == 1 and info.get("maximise") is not None
    best = pick(rows, key=lambda r: r.metrics["objective"]) if one_goal else None
    if best is not None:
        numbers["best_objective"] = best.metrics["objective"]
        numbers |= {f"best_{m.replace('/', '_')}": best.metrics[m] for m in shown_metrics([best])}
        numbers["best_job"] = float(best.state.num)
    mixed = f"{len(sets)} sets of evaluation rows: compare within one only, so there is no best job"
    said = ([mixed] if len(sets) > 1 else []) + ([worth] if worth else [])
    return Results(list(states), rows, table, note, numbers, [a for a in artifacts if a.exists()], best, said)


def _curve_findings(folder: SweepFolder, rows: Sequence[JobRow]) -> tuple[str, str]:
    """Return in words which system is worth it at how many rows; and in Markdown that, and what more rows would bring.

    Both are empty where too few shares of the rows were tried.
    """
    from agnews_exp.evaluation.statistics.learning_curve import FEWEST_POINTS

    if len({row.result.get("data_fraction") for row in rows}) < FEWEST_POINTS:
        return "", ""
    from agnews_exp.analyses.findings import Text, to_markdown
    from agnews_exp.report.systems import RunNames, StoredRun, make_systems
    from agnews_exp.report.variations import more_rows, worth_it

    found = ((row, folder.run_of(row.state)) for row in rows)
    runs = [StoredRun(run, row.result, str(row.state.num), RunNames(folder.path)) for row, run in found if run]
    try:
        systems = make_systems(runs)
        blocks = [*worth_it(systems), *more_rows(systems)]
    except (AgnewsError, OSError, ValueError, KeyError) as error:  # a record without what intervals need
        log.warning("no learning curve is read: %s", first_line(error))
        return "", ""
    worth = next((block.text for block in blocks if isinstance(block, Text)), "")
    return worth, f"\n\n{to_markdown(blocks, level=3)}" if blocks else ""


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
    if results.rows:
        # The objective and its twin on the test set: the rest is in aggregate.md.
        texts = aggregate(results.rows, maximise=folder.info().get("maximise") is not False)
        head, *body = ([label, *cells[::2][:2]] for label, *cells in texts)
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
    console.print(f"sweep  {shown_path(folder.path)}")
    if folder.info().get("kind") == "search":
        job = "" if results.best is not None else " --job N"
        console.print(
            f"next   agnews sweeps best {folder.name}{job} --run      fits it again and scores the test set\n"
        )
    else:
        console.print("next   agnews ui      this table and its jobs in MLflow\n")


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
        console.print(f"     log     {shown_path(log_path(folder.path, state.num))}")
        console.print(f"     repeat  {repeat_command(state.overrides, folder.snapshots)}")
