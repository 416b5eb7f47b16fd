"""One call of `agnews study`: plan, run what is missing, keep study.json, and end well whatever happens."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp import __version__
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.paths import config_folder
from agnews_exp.core.process import ERROR_FILE, Terminated, explain_exit
from agnews_exp.core.processes import die_with_parent
from agnews_exp.study.evidence import Evidence, StudyFile
from agnews_exp.study.plan import Command, Planner
from agnews_exp.study.settings import AskedStudy, Machine, choose_transformer, transformer_choice
from agnews_exp.sweeps.results import clock, table_console
from agnews_exp.sweeps.state import WorkLock, config_digest
from agnews_exp.tracking import record
from agnews_exp.tracking.record import JOB_REPORT

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


GRACE_SECONDS = 60.0
"""How long a command has to end after a signal before it is killed: a sweep ends its jobs first."""


@dataclass(frozen=True)
class Ended:
    """A command's end.

    Attributes:
        code: Exit code; negative is a signal.
        seconds: Wall time.
    """

    code: int
    seconds: float


def run_command(words: Sequence[str], environment: Mapping[str, str], lock: int) -> Ended:
    """Run ``agnews <words>`` with this process's output; a signal to this process ends the command first.

    Should this process be killed, the kernel tells the command to end (Linux).

    Args:
        words: The words after ``agnews``.
        environment: More environment.
        lock: A file descriptor that the command inherits: the study is locked until it is gone.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the command has ended.
        Terminated: After SIGTERM, likewise.
    """
    parent = os.getpid()
    package = Path(__file__).resolve().parents[3]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}  # our own entry point has set it
    start = time.monotonic()
    command = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "agnews_exp.cli", *words],
        stdin=subprocess.DEVNULL,
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment),
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )
    try:
        code = command.wait()
    except BaseException as stop:
        _end(command, signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        raise
    return Ended(code, time.monotonic() - start)


def _end(command: subprocess.Popen[bytes], number: signal.Signals) -> None:
    command.send_signal(number)
    try:
        command.wait(GRACE_SECONDS)
    except BaseException:  # out of time, or a second Ctrl-C
        command.kill()
        command.wait()


_PROFILE = "full"
_HELP = """\
overrides: data=..., data_fraction=..., subset, split_seed, trainer..., tracking..., hydra.launcher... reach every run;
           study.leave_out=[searches,ablations] study.jobs=2 study.transformer=tiny study.options.trials=5
           study.name=mine change the study itself (conf/study/<profile>.yaml has them all)

examples:  agnews study fast                       every stage on the shipped sample, in minutes
           agnews study data=ag_news --plan        what the whole study would do, and how long it would take
           agnews study full data_fraction=0.1 study.leave_out=[data_efficiency]
The same command goes on where it was interrupted; what has finished is not repeated."""


def add_parsers(commands: Any) -> None:
    """Add the sub-command.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    study = commands.add_parser(
        "study",
        help="run or resume the whole study, from the data audit to the report",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("words", nargs="*", help="full (default) or fast, then overrides", metavar="word")
    study.add_argument("--plan", action="store_true", help="print the stages, commands and estimated times, and stop")
    study.set_defaults(handler=_study)


def _study(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits
    from agnews_exp.study.settings import Machine, ask

    words = list(options.words)
    profile = words.pop(0) if words and "=" not in words[0] else _PROFILE
    asked = ask(profile, words)
    shared = [word for word in asked.words if not word.startswith("hydra")]
    checked = check_config(compose_config([*shared, f"data_fraction={asked.fraction:g}"]))
    rows = len(load_splits(checked, Stages()).train)
    session = StudySession(asked, Path(checked.plain["paths"]["output_dir"]), rows, Machine())
    if options.plan:
        session.show_plan()
    else:
        session.run()


log = logging.getLogger(__name__)

_NO_COMMAND = 2
_LEFT_OUT = "study.leave_out names it"
_FACTOR_RANGE = (0.1, 10.0)
"""How far the pace of this machine may be from the measured one before estimates stop following it."""


class StudyFailed(AgnewsError):
    """Some commands of a study failed; the others are done."""

    exit_code = 1


class StudySession:
    """One call of a study.

    Args:
        asked: The study.
        output_dir: The project's outputs/.
        rows: Training rows of the study.
        machine: This machine.
    """

    def __init__(self, asked: AskedStudy, output_dir: Path, rows: int, machine: Machine) -> None:
        self._asked, self._rows = asked, rows
        self.state = StudyFile(output_dir, asked.name)
        self.transformer, self.refused = choose_transformer(transformer_choice(asked.settings), machine)
        evidence = Evidence(self.state, asked.settings.stages, asked.fraction)
        self._planner = Planner(asked, evidence, machine, self.transformer)
        self._stages = list(asked.settings.stages)
        self._console = make_console()
        self._lock = WorkLock(
            self.state.folder,
            f"The study '{asked.name}'",
            "wait for it, or end it; study.name=<another> makes a study of its own",
        )
        self._worked = False

    def show_plan(self) -> None:
        """Print the plan."""
        chosen = self._asked.settings.transformers[self.transformer] if self.transformer else None
        head = [
            f"study        {self._asked.name}: {self._rows:,} training rows",
            *described(
                self._asked.words,
                self.refused,
                self.transformer,
                self._asked.fraction * chosen.fraction if chosen else 1.0,
            ),
        ]
        print_plan(self._console, head, [self._planned(stage) for stage in self._stages])

    def _planned(self, stage: str) -> PlannedStage:
        commands = self._planner.commands(stage)
        settings = self._asked.settings
        status: str = self.state.status(stage)
        reason = self.state.reason(stage)
        if stage in settings.leave_out:
            status, reason = "left_out", _LEFT_OUT
        elif all(command.left_out for command in commands):
            status, reason = "left_out", commands[0].missing
        elif (
            all(c.left_out or self.state.is_done(stage, c.text) for c in commands)
            and not settings.stages[stage].sums_up
        ):
            status = "finished"
        else:
            status = "pending"
        seconds = self.state.seconds(stage) if status == "finished" else self._left(stage, commands)
        return PlannedStage(stage, settings.stages[stage].title, commands, status, reason, seconds)

    def _left(self, stage: str, commands: Sequence[Command]) -> float:
        """Return the seconds that a stage should still take, at the pace of the stages that have finished."""
        undone = [c for c in commands if not c.left_out and not self.state.is_done(stage, c.text)]
        estimate = self._planner.estimate(stage, self._rows) * len(undone) / max(1, len(commands))
        return estimate * self._pace()

    def _pace(self) -> float:
        ended = [stage for stage in self._stages if self.state.status(stage) == "finished"]
        estimated = sum(self._planner.estimate(stage, self._rows) for stage in ended)
        took = sum(self.state.seconds(stage) for stage in ended)
        low, high = _FACTOR_RANGE
        return min(high, max(low, took / estimated)) if estimated > 0 and took > 0 else 1.0

    def run(self) -> None:
        """Run what is missing.

        Raises:
            ConfigError: Another process works on this study.
            StudyFailed: Some commands failed.
        """
        self._lock.acquire()
        try:
            self._open()
            self.show_plan()
            for number, stage in enumerate(self._stages, 1):
                self._do_stage(number, stage)
            self._finish()
        finally:
            self._lock.release()

    def _open(self) -> None:
        """Begin in study.json, as it is now that nobody else writes to it."""
        digest = config_digest([config_folder()])
        self.state.reload()
        if self.state.conf not in (None, digest):
            self._console.print(
                "conf/ has changed since this study began: what has finished stays as it is. "
                "study.name=<new> starts anew with the changed one.\n"
            )
        settings = self._asked.settings.model_dump()
        config: dict[str, Any] = settings | {
            "profile": self._asked.profile,
            "words": list(self._asked.words),
            "data_fraction": self._asked.fraction,
            "training_rows": self._rows,
            "chosen_transformer": self.transformer,
            "transformers_left_out": self.refused,
        }
        self.state.open(self._asked, config, digest, __version__)
        for stage in self._asked.settings.leave_out:
            self.state.set_stage(stage, "left_out", _LEFT_OUT)

    def _do_stage(self, number: int, stage: str) -> None:
        settings = self._asked.settings
        if stage in settings.leave_out:
            return
        commands = self._planner.commands(stage)
        self.state.keep_steps(stage, [command.text for command in commands])
        again = settings.stages[stage].sums_up and self._worked
        undone = [c for c in commands if again or not self.state.is_done(stage, c.text)]
        doable = [c for c in undone if c.missing is None]
        if doable:
            self._begin(number, stage, commands)
            for at, command in enumerate(commands, 1):
                if command in doable:
                    print_command(self._console, at, len(commands), command)
                    self._do(stage, command)
        self._settle(stage, commands)

    def _begin(self, number: int, stage: str, commands: Sequence[Command]) -> None:
        seconds = self._left(stage, commands)
        later = (self._planned(name) for name in self._stages[number:])
        left = seconds + sum(p.seconds for p in later if p.status == "pending")
        title = self._asked.settings.stages[stage].title
        print_stage(self._console, number, len(self._stages), title, seconds, left)
        estimate = self._planner.estimate(stage, self._rows)
        self.state.set_stage(stage, "running", estimate=estimate)
        if not self._worked:
            self._worked = True
            for name, other in self._asked.settings.stages.items():
                if other.sums_up and name != stage and name not in self._asked.settings.leave_out:
                    self.state.set_stage(name, "pending", "other stages have gone on")
                    self.state.keep_steps(name, [])

    def _do(self, stage: str, command: Command) -> None:
        if command.needs_sweep is not None and not self._sweep_finished(command.needs_sweep):
            self._note(stage, command, "failed", f"the sweep {command.needs_sweep} has not finished", 0.0)
            return
        folder = self.state.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        errors, report = folder / ".error", folder / "jobs" / "run.report.json"
        for path in (errors, report):
            path.unlink(missing_ok=True)
        environment = {ERROR_FILE: str(errors)} | ({JOB_REPORT: str(report)} if command.is_single_run else {})
        assert self._lock.descriptor is not None
        try:
            ended = run_command(command.words, environment, self._lock.descriptor)
        except BaseException:
            self.state.set_stage(stage, "pending", "interrupted")
            raise
        run = _reported_run(report) if command.is_single_run else None
        if ended.code == 0 and command.is_single_run and run is None:
            self._note(stage, command, "failed", "it reported no run", ended.seconds)
        elif ended.code == 0:
            self._note(stage, command, "finished", None, ended.seconds, run)
        else:
            self._note(stage, command, "failed", _reason(ended, errors), ended.seconds)
        errors.unlink(missing_ok=True)

    def _sweep_finished(self, name: str) -> bool:
        from agnews_exp.sweeps.state import SweepFolder

        return SweepFolder(self.state.output_dir / "sweeps" / name).info().get("status") == "finished"

    def _note(
        self, stage: str, command: Command, status: str, reason: str | None, seconds: float, run: Path | None = None
    ) -> None:
        runs = self.state.output_dir / "runs"
        word = None if run is None else run.name if run.parent == runs else os.path.relpath(run, self.state.output_dir)
        self.state.set_step(
            stage,
            {
                "command": command.text,
                "status": status,
                "reason": reason,
                "seconds": round(seconds, 2),
                "runs": [] if word is None else [word],
                "sweeps": [command.sweep] if command.sweep and status == "finished" else [],
                "folders": [command.folder] if command.folder and status == "finished" else [],
            },
        )

    def _settle(self, stage: str, commands: Sequence[Command]) -> None:
        """Say what became of a stage; a part that is left out is no failure, but the reason is told."""
        parts = [
            f"{c.words[0]} {c.words[-1]}: {c.missing}" if len(commands) > 1 else c.missing
            for c in commands
            if c.left_out
        ]
        left_out = "; ".join(dict.fromkeys(filter(None, parts))) or None
        failed = [c for c in commands if (self.state.step(stage, c.text) or {}).get("status") == "failed"]
        waiting = [c.missing for c in commands if c.missing and not c.left_out]
        if failed:
            self.state.set_stage(stage, "failed", f"{len(failed)} of {len(commands)} commands failed")
        elif waiting:
            self.state.set_stage(stage, "pending", waiting[0])
        elif all(c.left_out for c in commands):
            self.state.set_stage(stage, "left_out", commands[0].missing)
        else:
            self.state.set_stage(stage, "finished", f"left out: {left_out}" if left_out else None)

    def _finish(self) -> None:
        failures = self.state.failures()
        waiting = [name for name in self._stages if self.state.status(name) == "pending"]
        if not failures and not waiting:
            self.state.close()
        rows = [
            (
                self._asked.settings.stages[name].title,
                self.state.status(name),
                self.state.reason(name),
                self.state.seconds(name),
                self._planner.estimate(name, self._rows) if self.state.status(name) != "left_out" else None,
                len(self.state.runs(name)),
            )
            for name in self._stages
        ]
        following = f"agnews report {self._asked.name} --open      agnews top      agnews ui"
        print_end(self._console, rows, failures, self._asked.command, following)
        if failures or waiting:
            raise StudyFailed(
                f"{len(failures)} commands failed" + (f", {len(waiting)} stages wait for them." if waiting else "."),
                fix=f"mend the cause; the same command does only what is missing: {self._asked.command}",
            )


def _reported_run(report: Path) -> Path | None:
    """Return the folder of the run that a command made or found, or None when it did not say."""
    content = record.read_json(report)
    if content is None:
        return None
    run = Path(os.path.normpath(report.parents[1] / str(content["run"])))
    return run if record.RunFolder(run).status == "finished" else None


def _reason(ended: Ended, errors: Path) -> str:
    """Return why a command failed, in a line: what it said last, or its exit code in words."""
    try:
        said = [line for line in errors.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError:
        said = []
    if said:
        return said[-1]
    if ended.code == _NO_COMMAND:
        return "ended with exit code 2; what it said stands above"
    return explain_exit(ended.code)
