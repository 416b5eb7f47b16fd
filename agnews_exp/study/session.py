"""One call of `agnews study`: plan, run what is missing, keep study.json, and end well whatever happens."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.numbers import format_seconds
from agnews_exp.core.process import ERROR_FILE, Terminated, explain_exit, own_environment
from agnews_exp.core.processes import die_with_parent
from agnews_exp.study.plan import Command, Planner
from agnews_exp.study.settings import AskedStudy, Machine, ask, choose_transformer
from agnews_exp.study.state import StudyFile
from agnews_exp.sweeps.results import table_console
from agnews_exp.sweeps.state import WorkLock
from agnews_exp.tracking import record
from agnews_exp.tracking.record import JOB_REPORT

GRACE_SECONDS = 60.0
"""How long a command has to end after a signal before it is killed: a sweep ends its jobs first."""

_PROFILE = "full"
_NO_COMMAND = 2
_LEFT_OUT = "study.leave_out names it"
_REFERENCE_CORES = 2
"""Cores of the machine on which the first guesses of the stages' times were made."""


class StudyFailed(AgnewsError):
    """Some commands of a study failed; the others are done."""

    exit_code = 1


class StudySession:
    """One call of a study, which has so many training rows."""

    def __init__(self, asked: AskedStudy, output_dir: Path, rows: int, machine: Machine) -> None:
        self._asked, self._rows, self._machine = asked, rows, machine
        self._stages = asked.settings.stages
        self.state = StudyFile(output_dir, asked.name)
        self.transformer, self.refused = choose_transformer(asked.settings, machine)
        self._planner = Planner(asked, self.state, machine, self.transformer)
        self._console = table_console()
        fix = "wait for it, or end it; study.name=<another> makes a study of its own"
        self._lock = WorkLock(self.state.folder, f"The study '{asked.name}'", fix)
        self._worked = False

    def show_plan(self, *, commands: bool = False) -> None:
        """Print the stages with their times, a line each, and on request every command."""
        from rich import box
        from rich.table import Table

        why = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        self._console.print(f"study        {self._asked.name}: {self._rows:,} training rows")
        self._console.print(f"data         {' '.join(self._asked.words)}")
        self._console.print(f"transformer  {self.transformer or 'none'}" + (f"  ({why})" if why else ""))
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("", "stage", "commands", "state"):
            table.add_column(name, justify="right" if name in ("", "commands") else "left", no_wrap=name != "state")
        for number, (stage, settings) in enumerate(self._stages.items(), 1):
            table.add_row(str(number), settings.title, *self._planned(stage))
        self._console.print(table)
        if commands:
            for stage, settings in self._stages.items():
                self._console.print(f"\n{settings.title} ({stage})", style="bold")
                for command in self._planner.commands(stage):
                    self._console.print(f"    {command.text}")
                    if command.left_out:
                        self._console.print(f"        left out: {command.missing}")
        left = sum(self._left(stage) for stage in self._stages)
        guessed = "first guess, corrected as stages end" if self._pace() is None else "at this machine's pace"
        self._console.print(
            f"about {format_seconds(left)} ({guessed}); the same command goes on where it was interrupted\n"
        )

    def _planned(self, stage: str) -> tuple[str, str]:
        """Return the number of a stage's commands, and the remark on it in the plan."""
        commands = self._planner.commands(stage)
        count = str(len(commands))
        if stage in self._asked.settings.leave_out:
            return count, f"left out: {_LEFT_OUT}"
        if all(command.left_out for command in commands):
            return count, f"left out: {commands[0].missing}"
        if not self._undone(stage, commands):
            return count, f"finished, took {format_seconds(self.state.seconds(stage))}"
        return count, f"about {format_seconds(self._left(stage))}"

    def _undone(self, stage: str, commands: Sequence[Command]) -> list[Command]:
        """Return the commands that are still to do; a stage that sums up is done again after all others."""
        again = self._stages[stage].sums_up and self._worked
        return [c for c in commands if not c.left_out and (again or not self.state.is_done(stage, c.text))]

    def _guess(self, stage: str) -> float:
        """Return the first guess of a stage's seconds on a machine of this many cores; at most eight count."""
        settings = self._stages[stage]
        slowness = _REFERENCE_CORES / min(self._machine.cores, 8)
        return (settings.seconds + settings.per_10k * self._rows / 1e4) * slowness

    def _pace(self) -> float | None:
        """Return how much longer than guessed the finished stages took, or None before the first has finished."""
        ended = [stage for stage in self._stages if self.state.status(stage) == "finished"]
        guessed = sum(self._guess(stage) for stage in ended)
        return sum(self.state.seconds(stage) for stage in ended) / guessed if guessed > 0 else None

    def _left(self, stage: str) -> float:
        """Return the seconds that a stage should still take, at the pace of the stages that have finished."""
        if stage in self._asked.settings.leave_out:
            return 0.0
        commands = self._planner.commands(stage)
        share = len(self._undone(stage, commands)) / max(1, len(commands))
        return self._guess(stage) * share * (self._pace() or 1.0)

    def run(self) -> None:
        """Run the commands that are still to do.

        Raises:
            ConfigError: Another process works on this study.
            StudyFailed: Some commands failed.
        """
        self._lock.acquire()
        try:
            self.state.reload()
            asked = self._asked
            config: dict[str, Any] = asked.settings.model_dump() | {
                "profile": asked.profile,
                "words": list(asked.words),
                "data_fraction": asked.fraction,
                "training_rows": self._rows,
                "chosen_transformer": self.transformer,
                "transformers_left_out": self.refused,
            }
            self.state.open(asked, config)
            for stage in asked.settings.leave_out:
                self.state.set_stage(stage, "left_out", _LEFT_OUT)
            self.show_plan()
            for number, stage in enumerate(self._stages, 1):
                if stage not in asked.settings.leave_out:
                    self._do_stage(number, stage)
            self._finish()
        finally:
            self._lock.release()

    def _do_stage(self, number: int, stage: str) -> None:
        commands = self._planner.commands(stage)
        self.state.keep_steps(stage, [command.text for command in commands])
        doable = [c for c in self._undone(stage, commands) if c.missing is None]
        if doable:
            self._begin(number, stage)
            for at, command in enumerate(commands, 1):
                if command in doable:
                    self._console.print(f"({at}/{len(commands)}) {command.text}", style="bold")
                    sys.stdout.flush()  # the command's own output goes around this process's buffer
                    self._do(stage, command)
        self._settle(stage, commands)

    def _begin(self, number: int, stage: str) -> None:
        seconds, left = self._left(stage), sum(self._left(name) for name in [*self._stages][number - 1 :])
        title = f"[{number}/{len(self._stages)}] {self._stages[stage].title}"
        self._console.print()
        self._console.rule(
            f"{title}: about {format_seconds(seconds)}; {format_seconds(left)} left in all", align="left"
        )
        self.state.set_stage(stage, "running")
        if not self._worked:
            self._worked = True
            for name, other in self._stages.items():
                if other.sums_up and name != stage and name not in self._asked.settings.leave_out:
                    self.state.set_stage(name, "pending", "other stages have gone on")
                    self.state.keep_steps(name, [])

    def _do(self, stage: str, command: Command) -> None:
        if command.needs_sweep is not None and not self.state.sweep_finished(command.needs_sweep):
            self._note(stage, command, f"the sweep {command.needs_sweep} has not finished", 0.0)
            return
        folder = self.state.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        errors, report = folder / ".error", folder / "jobs" / "run.report.json"
        for path in (errors, report):
            path.unlink(missing_ok=True)
        environment = {ERROR_FILE: str(errors)} | ({JOB_REPORT: str(report)} if command.is_single_run else {})
        assert self._lock.descriptor is not None
        start = time.monotonic()
        try:
            code = run_command(command.words, environment, self._lock.descriptor)
        except BaseException:
            self.state.set_stage(stage, "pending", "interrupted")
            raise
        run = _reported_run(report) if command.is_single_run else None
        reason = None if code == 0 else _reason(code, errors)
        if code == 0 and command.is_single_run and run is None:
            reason = "it reported no run"
        self._note(stage, command, reason, time.monotonic() - start, run)
        errors.unlink(missing_ok=True)

    def _note(self, stage: str, command: Command, failure: str | None, seconds: float, run: Path | None = None) -> None:
        """Store how a command ended: with a failure, or with the runs, sweeps and folders that it made."""
        done = failure is None
        runs = self.state.output_dir / "runs"
        word = None if run is None else run.name if run.parent == runs else os.path.relpath(run, self.state.output_dir)
        step = {
            "command": command.text,
            "status": "finished" if done else "failed",
            "reason": failure,
            "seconds": round(seconds, 2),
            "runs": [] if word is None else [word],
            "sweeps": [command.sweep] if command.sweep and done else [],
            "folders": [command.folder] if command.folder and done else [],
        }
        self.state.set_step(stage, step)

    def _settle(self, stage: str, commands: Sequence[Command]) -> None:
        """Store the state of a stage; a part that is left out is no failure, but its reason is printed."""
        several = len(commands) > 1
        parts = [f"{c.words[0]} {c.words[-1]}: {c.missing}" if several else c.missing for c in commands if c.left_out]
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
        """Print a line a stage, every failure with the command that repeats it, and the next command."""
        from rich import box
        from rich.table import Table

        failures = self.state.failures()
        waiting = [name for name in self._stages if self.state.status(name) == "pending"]
        if not failures and not waiting:
            self.state.close()
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("stage", "status", "took", "runs"):
            table.add_column(name, justify="left" if name in ("stage", "status") else "right", no_wrap=True)
        for name, settings in self._stages.items():
            seconds, runs = self.state.seconds(name), len(self.state.runs(name))
            took = format_seconds(seconds) if seconds else ""
            table.add_row(settings.title, self.state.status(name).replace("_", " "), took, str(runs or ""))
        self._console.print()
        self._console.print(table)
        for name, settings in self._stages.items():
            if (reason := self.state.reason(name)) and self.state.status(name) != "left_out":  # the plan has said why
                self._console.print(f"note   {settings.title}: {reason}")
        if failures:
            self._console.print(f"{len(failures)} failed:")
        for stage, reason, command in failures:
            self._console.print(f"  {stage}\n     reason  {reason}\n     repeat  {command}")
        if failures or waiting:
            raise StudyFailed(
                f"{len(failures)} commands failed" + (f", {len(waiting)} stages wait for them." if waiting else "."),
                fix=f"mend the cause; the same command does only what is missing: {self._asked.command}",
            )
        self._console.print(f"next   agnews report {self._asked.name} --open      agnews top      agnews ui")


def run_command(words: Sequence[str], environment: Mapping[str, str], lock: int) -> int:
    """Run ``agnews <words>`` with this process's output; a signal to this process ends the command first.

    Should this process be killed, the kernel tells the command to end (Linux).

    The command inherits the descriptor ``lock``: the study is locked until it is gone.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the command has ended.
        Terminated: After SIGTERM, likewise.
    """
    parent = os.getpid()
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "agnews_exp.cli", *words],
        stdin=subprocess.DEVNULL,
        env=own_environment() | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment),
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )
    try:
        return command.wait()
    except BaseException as stop:
        command.send_signal(signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        try:
            command.wait(GRACE_SECONDS)
        except BaseException:  # out of time, or a second Ctrl-C
            command.kill()
            command.wait()
        raise


def _reported_run(report: Path) -> Path | None:
    """Return the folder of the run that a command made or found, or None when it did not say."""
    content = record.read_json(report)
    if content is None:
        return None
    run = Path(os.path.normpath(report.parents[1] / str(content["run"])))
    return run if record.RunFolder(run).status == "finished" else None


def _reason(code: int, errors: Path) -> str:
    """Return why a command failed, in a line: its last message, or its exit code in words."""
    try:
        said = [line for line in errors.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError:
        said = []
    if said:
        return said[-1]
    return "ended with exit code 2; what it said stands above" if code == _NO_COMMAND else explain_exit(code)


_HELP = """\
overrides: data=..., data_fraction=..., split, subset, split_seed, trainer..., tracking..., hydra.launcher... reach
           every run;
           study.leave_out=[searches,ablations] study.jobs=2 study.transformer=tiny study.options.trials=5
           study.name=mine change the study itself (conf/study/<profile>.yaml has them all)

examples:  agnews study fast                       every stage on the shipped sample, in minutes
           agnews study data=ag_news --plan        the stages, their commands and times
           agnews study full data_fraction=0.1 study.leave_out=[data_efficiency]
The same command goes on where it was interrupted; what has finished is not repeated."""


def add_parsers(commands: Any) -> None:
    """Add the sub-command."""
    study = commands.add_parser(
        "study",
        help="run or resume a study: a list of stages from the data audit to the report",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("words", nargs="*", help="full (default) or fast, then overrides", metavar="word")
    study.add_argument("--plan", action="store_true", help="print the stages, their commands and times, and stop")
    study.set_defaults(handler=_study)


def _study(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits

    words = list(options.words)
    profile = words.pop(0) if words and "=" not in words[0] else _PROFILE
    asked = ask(profile, words)
    shared = [word for word in asked.words if not word.startswith("hydra")]
    checked = check_config(compose_config([*shared, f"data_fraction={asked.fraction:g}"]))
    rows = len(load_splits(checked, Stages()).train)
    session = StudySession(asked, Path(checked.plain["paths"]["output_dir"]), rows, Machine())
    if options.plan:
        session.show_plan(commands=True)
    else:
        session.run()
