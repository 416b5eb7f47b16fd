"""`agnews top | diff | tail`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agnews_exp.config.locations import run_command

_SHOWN = ("val/macro_f1", "test/macro_f1")


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    top = commands.add_parser("top", help="leaderboard of the finished runs")
    top.add_argument("--metric", default="val/macro_f1", help="what ranks them (default: val/macro_f1)")
    top.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help="may be repeated: model=logreg")
    top.add_argument("--limit", type=int, default=20)
    top.add_argument("--json", action="store_true", help="for programs")
    top.set_defaults(handler=_top)

    diff = commands.add_parser("diff", help="configuration, metrics and answers of two runs, where they differ")
    diff.add_argument("one", help="run folder or name, or MLflow run id")
    diff.add_argument("other")
    diff.add_argument("--all", action="store_true", help="every metric, also where equal, and package versions")
    diff.set_defaults(handler=_diff)

    tail = commands.add_parser("tail", help="follow the log of a run while it works")
    tail.add_argument("run", nargs="?", help="run folder or the beginning of its name (default: the newest)")
    tail.add_argument("--lines", type=int, default=20, help="of what is there already")
    tail.set_defaults(handler=_tail)


def _plain() -> dict[str, Any]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config([]))


def _top(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.reporting.runs.leaderboard import FIELDS, rank_runs
    from agnews_exp.tracking.lookup import short_name
    from agnews_exp.tracking.record import finished_runs

    output_dir = Path(_plain()["paths"]["output_dir"])
    groups = rank_runs(finished_runs(output_dir), options.metric, options.filter)
    if options.json:
        entries = [e for group in groups for e in group[: options.limit]]
        keys = [*FIELDS, "metrics"]
        print(json.dumps([{"run": str(e.folder.path)} | {k: e.result.get(k) for k in keys} for e in entries], indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not groups:
        asked = f" that answers {' '.join(options.filter)}" if options.filter else ""
        console.print(
            f"There is no finished run{asked} in {output_dir} yet.\nfirst  {run_command()} experiment=quickstart"
        )
        return
    shown = list(dict.fromkeys([options.metric, *_SHOWN]))
    for group in groups:
        data = group[0].result["data"]
        rows = ", ".join(f"{name} {n:,}" for name, n in data["rows"].items() if name != "train")
        title = f"{data['source']}, rows: {rows}, by {options.metric}"
        table = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
        table.add_column("#", justify="right")
        table.add_column("run", overflow="fold", ratio=1)
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("fraction", "seed"):
            table.add_column(name, justify="right")
        table.add_column("id", no_wrap=True)
        for rank, entry in enumerate(group[: options.limit], start=1):
            values = [_number(entry.result["metrics"].get(name)) for name in shown]
            facts = [f"{entry.result['data_fraction']:g}", str(entry.result["seed"])]
            table.add_row(str(rank), str(entry.result["name"]), *values, *facts, short_name(entry.folder, output_dir))
        console.print(table)
        if len(group) > options.limit:
            console.print(f"... and {len(group) - options.limit:,} more (--limit)", style="dim")
        console.print()
    best = groups[0]
    if len(best) > 1:
        words = " ".join(short_name(entry.folder, output_dir) for entry in best[:2])
        console.print(f"next   agnews compare {words}", soft_wrap=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"


def _diff(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.config.errors import ConfigError
    from agnews_exp.evaluation.metrics import HEADLINE
    from agnews_exp.reporting.runs.difference import difference
    from agnews_exp.tracking.lookup import find_runs, short_name

    plain = _plain()
    runs = find_runs(plain, [options.one, options.other])
    if len(runs) != 2:
        raise ConfigError(f"'{options.one}' and '{options.other}' are {len(runs)} run(s); a difference needs two.")
    found = difference(*runs)
    console = Console(highlight=False)
    names = [short_name(run, Path(plain["paths"]["output_dir"])) for run in runs]

    def table(title: str, content: Any, form: Callable[[Any], str] = str) -> None:
        view = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
        for column in ("", *names):
            view.add_column(column, overflow="fold", justify="left" if not column else "right")
        for key, (one, other) in content.items():
            view.add_row(key, form(one), form(other))
        console.print(view, "")

    if found.config:
        table("configuration", found.config)
    else:
        console.print("The configurations are equal.\n")
    if options.all and found.packages:
        table("packages", found.packages)
    headline = [f"{split}/{name}" for split in ("cv", "val", "test") for name in HEADLINE]
    kept = found.metrics if options.all else [m for m in headline if m in found.metrics]
    metrics = {m: found.metrics[m] for m in kept if options.all or len(set(found.metrics[m])) > 1}
    if metrics:
        table("metrics", metrics, _number)
    if found.answers is None:
        console.print("The runs were judged on different rows: their numbers and answers do not compare.")
        return
    for split, counts in found.answers.items():
        console.print(f"[bold]{split} answers[/bold]  " + ", ".join(f"{k} {n:,}" for k, n in counts.items()))
    console.print(f"\nnext   agnews compare {' '.join(names)}", soft_wrap=True)


def _tail(options: argparse.Namespace) -> None:
    from agnews_exp.config.errors import ConfigError
    from agnews_exp.tracking.record import STATUS, RunFolder

    output_dir = Path(_plain()["paths"]["output_dir"])
    if options.run and Path(options.run).is_dir():
        folders = [Path(options.run)]
    else:
        found = [*output_dir.glob(f"runs/*/{STATUS}"), *output_dir.glob(f"sweeps/*/*/{STATUS}")]
        found = [p for p in found if p.parent.name.startswith(options.run or "")]
        folders = [p.parent for p in sorted(found, key=lambda p: p.stat().st_mtime)]
    if not folders:
        asked = f" '{options.run}...'" if options.run else ""
        raise ConfigError(f"There is no run{asked} in {output_dir}.", fix=f"{run_command()} experiment=quickstart")
    run = RunFolder(folders[-1])
    print(f"{run.path}  ({run.status})", flush=True)
    _follow(run, options.lines)


def _follow(run: Any, lines: int) -> None:
    """Print the log's end and what is added, until the run is no longer running."""
    log = run.path / "run.log"
    position = 0
    first = True
    while True:
        running = run.status == "running"  # asked before the log is read, so that its last lines are not missed
        if log.is_file():
            with log.open("rb") as file:
                file.seek(position)
                text = file.read().decode("utf-8", "replace")
                position = file.tell()
            if first:
                text = "".join(text.splitlines(keepends=True)[-lines:])
                first = False
            print(text, end="", flush=True)
        if not running:
            print(f"{run.path}  ({run.status})")
            return
        time.sleep(0.5)
