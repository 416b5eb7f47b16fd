"""`agnews sweeps list|show|best` and `agnews aggregate`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import ConfigError, unknown_name
from agnews_exp.sweeps.folder import SWEEP, SweepFolder
from agnews_exp.sweeps.jobs import SETTLED, repeat_command
from agnews_exp.tracking.record import read_json


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    sweeps = commands.add_parser("sweeps", help="list sweeps, or show one's jobs, failures or best job")
    actions = sweeps.add_subparsers(title="actions", metavar="action", required=True)
    for name, handler, text in (
        ("list", _list, "all sweeps with their state"),
        ("show", _show, "a sweep's table, and its failures with the command that repeats each"),
        ("best", _best, "the best job's overrides; --run repeats it"),
    ):
        action = actions.add_parser(name, help=text)
        if name != "list":
            action.add_argument("name", help="as `agnews sweeps list` shows it")
        if name == "best":
            action.add_argument(
                "--run", action="store_true", help="run it again, with the test set, in a run of its own"
            )
        action.add_argument("--output-dir", type=Path, help="default: outputs/ of this project")
        action.set_defaults(handler=handler)
    aggregate = commands.add_parser("aggregate", help="mean, deviation and interval over the seeds of a sweep")
    aggregate.add_argument("name", help="as `agnews sweeps list` shows it")
    aggregate.add_argument("--output-dir", type=Path, help="default: outputs/ of this project")
    aggregate.set_defaults(handler=_aggregate)


def _sweeps_dir(options: argparse.Namespace) -> Path:
    if options.output_dir is not None:
        return Path(options.output_dir) / "sweeps"
    from agnews_exp.config.compose import compose_config

    return Path(str(compose_config([]).paths.output_dir)) / "sweeps"


def find_sweep(sweeps: Path, name: str) -> SweepFolder:
    """Return a sweep's folder.

    Raises:
        ConfigError: There is none of that name.
    """
    folder = SweepFolder(sweeps / name)
    if not folder.info():
        raise unknown_name("sweep", name, sorted(p.parent.name for p in sweeps.glob(f"*/{SWEEP}")))
    return folder


def _list(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("sweep", "state", "done", "failed", "best", "created", "swept"):
        table.add_column(column, no_wrap=column != "swept")
    found = [SweepFolder(p.parent) for p in _sweeps_dir(options).glob(f"*/{SWEEP}")]
    for folder in sorted(found, key=lambda f: str(f.info().get("created", ""))):
        info, states = folder.info(), folder.states()
        done = sum(s.status in SETTLED for s in states)
        failed = sum(s.status == "failed" for s in states)
        scores = [s.objective for s in states if s.status == "finished" and s.objective is not None]
        pick = min if info.get("maximise") is False else max
        best = f"{pick(scores):.4f}" if scores and info.get("maximise") is not None else ""
        state = str(info.get("status", "unknown"))
        if state == "running" and not folder.active:
            state = "interrupted"
        total = info.get("total", len(states))
        table.add_row(
            folder.name, state, f"{done}/{total}", str(failed), best, str(info.get("created", ""))[:16],
            ", ".join(info.get("swept") or []),
        )  # fmt: skip
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


def _show(options: argparse.Namespace) -> None:
    from agnews_exp.sweeps.results import print_failures, print_jobs, print_results, write_results

    folder = find_sweep(_sweeps_dir(options), options.name)
    states = folder.states()
    print_jobs(folder, states)
    print_results(folder, write_results(folder, states))
    print_failures(folder, [s for s in states if not folder.is_settled(s)])


def _best(options: argparse.Namespace) -> None:
    folder = find_sweep(_sweeps_dir(options), options.name)
    stored = read_json(folder.path / "best.json")
    if stored is not None and stored["best"]:
        overrides = tuple(stored["best"][0]["overrides"])
    else:
        scored = [s for s in folder.states() if s.status == "finished" and s.objective is not None]
        if not scored:
            raise ConfigError(f"No job of the sweep '{folder.name}' has finished.")
        pick = min if folder.info().get("maximise") is False else max
        overrides = pick(scored, key=lambda s: s.objective or 0.0).overrides
    words = (*overrides, "force=true")
    print(repeat_command(words))
    if options.run:
        from agnews_exp.sweeps.job import MODULE

        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *words])  # noqa: S606


def _aggregate(options: argparse.Namespace) -> None:
    from agnews_exp.sweeps.results import write_results

    folder = find_sweep(_sweeps_dir(options), options.name)
    results = write_results(folder, folder.states())
    print(results.table)
    for path in results.artifacts:
        print(path)
