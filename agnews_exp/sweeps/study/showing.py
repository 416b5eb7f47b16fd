"""What `agnews study` says: the plan, a line before every stage and command, and the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agnews_exp.sweeps.live_table import clock
from agnews_exp.sweeps.results import table_console
from agnews_exp.sweeps.study.plan import Command

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 118


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the plan shows it.

    Attributes:
        name: Its name.
        title: What people read.
        commands: Its commands.
        status: What is known of it before this call.
        reason: Why it is left out, or waits.
        seconds: Estimate of what is still to do; what it took where it is finished.
    """

    name: str
    title: str
    commands: Sequence[Command]
    status: str
    reason: str | None
    seconds: float


def print_plan(console: Console, head: Sequence[str], stages: Sequence[PlannedStage]) -> None:
    """Print what will be done, every command, and how long it should take."""
    for line in head:
        console.print(line)
    for number, stage in enumerate(stages, 1):
        time = clock(stage.seconds)
        state = {"finished": f"finished, took {time}", "left_out": "left out"}.get(stage.status, f"about {time}")
        console.print(f"\n[{number}/{len(stages)}] {stage.title} ({stage.name}): {state}", style="bold")
        if stage.status == "left_out":
            console.print(f"    {stage.reason}")
            continue
        for command in stage.commands:
            console.print(f"    {command.text}")
            if command.missing and command.left_out:
                console.print(f"        left out: {command.missing}")
    left = sum(stage.seconds for stage in stages if stage.status not in ("finished", "left_out"))
    console.print(f"\nabout {clock(left)} in all; the same command goes on where it was interrupted\n")


def print_stage(console: Console, number: int, total: int, title: str, seconds: float, left: float) -> None:
    """Print the line before a stage."""
    console.print()
    console.rule(f"[{number}/{total}] {title}: about {clock(seconds)}; {clock(left)} left in all", align="left")


def print_command(console: Console, number: int, total: int, command: Command) -> None:
    """Print a command before its own output, which goes around this process's buffer."""
    console.print(f"({number}/{total}) {command.text}", style="bold")
    sys.stdout.flush()


def print_end(
    console: Console,
    rows: Sequence[tuple[str, str, str | None, float, float | None, int]],
    failures: Sequence[tuple[str, str, str]],
    again: str,
    following: str,
) -> None:
    """Print a line a stage, every failure with the command that repeats it, and what to do next.

    Args:
        console: Where to.
        rows: Title, status, reason, seconds, estimated seconds and number of runs of every stage.
        failures: Stage, reason and command of every command that failed.
        again: The command that goes on with the study.
        following: What to do next when nothing failed.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("stage", "status", "took", "estimated", "runs"):
        table.add_column(name, justify="left" if name in ("stage", "status") else "right", no_wrap=True)
    for title, status, _, seconds, estimate, runs in rows:
        times = [clock(seconds) if seconds else "", "" if estimate is None else clock(estimate)]
        table.add_row(title, status.replace("_", " "), *times, str(runs or ""))
    console.print()
    console.print(table)
    for title, status, reason, *_ in rows:
        if reason and status != "left_out":  # the plan above has said why
            console.print(f"note   {title}: {reason}")
    if failures:
        console.print(f"{len(failures)} failed:")
        for stage, reason, command in failures:
            console.print(f"  {stage}\n     reason  {reason}\n     repeat  {command}")
        console.print(f"next   {again}      tries again what failed, and goes on")
    else:
        console.print(f"next   {following}")


def make_console() -> Console:
    """Return the console for all of this; where no terminal bounds them, lines are not cut."""
    console = table_console()
    if not console.is_terminal and console.width > _WIDTH:
        console.width = _WIDTH
    return console


def described(words: Sequence[str], refused: Mapping[str, str], chosen: str | None, fraction: float) -> list[str]:
    """Return lines on the data words and on the transformer that was chosen, and why no better one."""
    share = "" if fraction == 1 else f" on {fraction:g} of the rows"
    what = f"{chosen}{share}" if chosen else "none"
    why = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    return [f"data         {' '.join(words)}", f"transformer  {what}" + (f"  ({why})" if why else "")]
