"""`agnews sweeps list|show|best` and `agnews aggregate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError
from agnews_exp.sweeps.replay import repeat, repeat_command
from agnews_exp.sweeps.state import (
    BEST,
    SCORE_TEST,
    SETTLED,
    START,
    SWEEP,
    JobState,
    SweepFolder,
    best_job,
    find_sweep,
    override_key,
)
from agnews_exp.tracking.record import read_json

_NUMBERS = ("done", "failed", "best")


def add_parsers(commands: Any) -> None:
    """Add the sub-commands."""
    sweeps = commands.add_parser("sweeps", help="list sweeps, or show one's jobs, failures or best job")
    actions = sweeps.add_subparsers(title="actions", metavar="action", required=True)
    for name, handler, text in (
        ("list", _list, "all sweeps with their state"),
        ("show", _show, "a sweep's table, and its failures with the command that repeats each"),
        ("best", _best, "the best job and its command; --run fits it again and scores it on the test set"),
    ):
        action = actions.add_parser(name, help=text)
        if name != "list":
            action.add_argument("name", help="as `agnews sweeps list` shows it")
        if name == "best":
            action.add_argument(
                "--run", action="store_true", help="fit it again and score it on the test set, in a run of its own"
            )
            action.add_argument("--job", type=int, metavar="N", help="this job instead of the best one")
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


def _list(options: argparse.Namespace) -> None:
    from rich.table import Table

    from agnews_exp.sweeps.results import table_console

    sweeps = _sweeps_dir(options)
    found = [SweepFolder(p.parent) for p in sweeps.glob(f"*/{SWEEP}")]
    if not found:
        print(f"There is no sweep in {sweeps} yet.\n{START}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("sweep", "state", "done", "failed", "best", "", "created", "swept"):
        table.add_column(column, no_wrap=True, overflow="ellipsis", justify="right" if column in _NUMBERS else "left")
    for folder in sorted(found, key=lambda f: (str(f.info().get("created", "")), f.name)):
        info, states = folder.info(), folder.states()
        done, pruned, failed = (sum(s.status in names for s in states) for names in (SETTLED, ("pruned",), ("failed",)))
        state = str(info.get("status", "unknown"))
        if state == "running" and not folder.lock.active:
            state = "interrupted"
        best = best_job(folder, states)
        of = f"{done} of {info.get('total', len(states))}" + (f" ({pruned} pruned)" if pruned else "")
        value = f"{best.objective:.4f}" if best is not None else ""
        primary = str(info.get("primary", "")) if info.get("maximise") is not None else "several goals"
        swept = ", ".join(str(key).split(".")[-1] for key in info.get("swept") or [])
        table.add_row(folder.name, state, of, str(failed or ""), value, primary, str(info.get("created"))[:10], swept)
    table_console().print(table)


def _show(options: argparse.Namespace) -> None:
    from agnews_exp.sweeps.results import print_failures, print_jobs, print_results, write_results

    folder = find_sweep(_sweeps_dir(options), options.name)
    states = folder.states()
    print_jobs(folder, states)
    print_results(folder, write_results(folder, states))
    print_failures(folder, [s for s in states if not folder.is_settled(s)])


def _best(options: argparse.Namespace) -> None:
    folder = find_sweep(_sweeps_dir(options), options.name)
    state = _chosen(folder, options.job)
    if state is None:
        _print_front(folder)
        if options.run:
            raise ConfigError(
                f"The sweep '{folder.name}' has several goals, so which of its best jobs is yours to choose.",
                fix=f"agnews sweeps best {folder.name} --job N --run",
            )
        return
    # What a trial leaves out, the test set, is what this run is for.
    kept = [w for w in state.overrides if override_key(w) != SCORE_TEST]
    words = [*kept, f"tags.best_of={folder.name}"]
    value = "" if state.objective is None else f"  {folder.info().get('primary')} {state.objective:.4f}"
    print(f"#{state.num}  {state.words(folder.info().get('swept'))}{value}")
    print(repeat_command(words, folder.snapshots))
    if options.run:
        repeat(folder, words)
    if len(kept) < len(state.overrides):
        print(f"next   agnews sweeps best {folder.name} --run      fits it again, scores the test set")


def _chosen(folder: SweepFolder, number: int | None) -> JobState | None:
    """Return the job with the best objective, or the one that was asked for; None where there are several goals."""
    states = folder.states()
    finished = [s for s in states if s.status == "finished"]
    if not finished:
        raise ConfigError(
            f"No job of the sweep '{folder.name}' has finished.", fix=f"agnews sweeps show {folder.name} says why"
        )
    if number is None:
        return best_job(folder, states)
    for state in finished:
        if state.num == number:
            return state
    raise ConfigError(
        f"The sweep '{folder.name}' has no finished job {number}.\n"
        f"  finished: {', '.join(str(s.num) for s in finished)}",
        fix=f"agnews sweeps show {folder.name} lists its jobs",
    )


def _print_front(folder: SweepFolder) -> None:
    """Print the Pareto set of a search with several goals."""
    from rich.table import Table

    from agnews_exp.sweeps.results import table_console

    stored = read_json(folder.path / BEST) or {"objectives": [], "best": []}
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(["job", *stored["objectives"], "overrides"]):
        table.add_column(column, no_wrap=True, justify="left" if number > len(stored["objectives"]) else "right")
    swept = folder.info().get("swept")
    for entry in stored["best"]:
        state = folder.state(entry["trial"])
        values = [f"{v:.4f}" for v in entry["values"].values()]
        table.add_row(str(entry["trial"]), *values, state.words(swept) if state is not None else "")
    table_console().print(table)
    print(f"next   agnews sweeps best {folder.name} --job N --run      fits one, scores the test set")


def _aggregate(options: argparse.Namespace) -> None:
    from agnews_exp.sweeps.results import write_results

    folder = find_sweep(_sweeps_dir(options), options.name)
    results = write_results(folder, folder.states())
    print(results.table)
    for path in results.artifacts:
        print(path)
