"""SIGKILL at random moments, then the same command again."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path

from agnews_exp.sweeps.study.settings import ask
from fault_kinds.lab import COMMANDS, TRACEBACK, Done, Lab, Outcome, Project, Verdict, fault, judge, read_answers

_STAGE = "eda"


def _kill(process: subprocess.Popen[bytes], project: Project, chance: random.Random, seconds: float) -> bool:
    """Kill a command, alone or with all its children, at a random moment; return False when it had ended before."""
    try:
        process.wait(chance.uniform(0.05, 1.0) * seconds)
    except subprocess.TimeoutExpired:
        if chance.random() < 0.5:
            project.kill_all()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def _open_runs(store: Path) -> int:
    """Return how many runs of an MLflow store say that they are running."""
    with closing(sqlite3.connect(store, timeout=60)) as connection:
        return int(connection.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0])


def _kill_and_repeat(lab: Lab, kind: str) -> list[Verdict]:
    words, needed = COMMANDS[kind]
    expected, seconds = lab.reference(kind), lab.seconds(kind)
    chance = lab.chance(f"kill-{kind}")
    project = lab.project(f"kill-{kind}", store=True)
    verdicts = []
    for _ in range(lab.times):
        before = [name for name, _, _ in read_answers(project.outputs)]
        if len(before) >= needed:
            project, before = lab.project(f"kill-{kind}", store=True), []
        _kill(project.start(words), project, chance, seconds)
        left = project.left_running()
        if left is not None:
            verdicts.append(Verdict(Outcome.HANG, left))
            continue
        # A process that was killed says nothing: what it left is judged as that of one that ended with an error.
        verdicts.append(
            judge(project.outputs, Done(1, "error: killed, and what it left is sound"), expected, needed, before)
        )
    last = project.run(words)
    verdicts.append(judge(project.outputs, last, expected, needed, may_fail=False))
    synced = project.run(["agnews", "sync"])
    if synced.code != 0 or (left_open := _open_runs(project.store)):
        said = synced.output[-160:] if synced.code != 0 else f"{left_open} MLflow runs say RUNNING after agnews sync"
        verdicts.append(Verdict(Outcome.LOST, said))
    return verdicts


@fault("kill-run")
def kill_run(lab: Lab) -> list[Verdict]:
    """A run is killed, and repeated at the end."""
    return _kill_and_repeat(lab, "run")


@fault("kill-sweep")
def kill_sweep(lab: Lab) -> list[Verdict]:
    """A sweep is killed again and again, and finishes at the end."""
    return _kill_and_repeat(lab, "sweep")


@fault("kill-search")
def kill_search(lab: Lab) -> list[Verdict]:
    """An Optuna search is killed again and again, and comes to the trials of an undisturbed one."""
    return _kill_and_repeat(lab, "search")


@fault("kill-study")
def kill_study(lab: Lab) -> list[Verdict]:
    """A study of one stage is killed again and again, and finishes at the end."""
    others = [name for name in ask("fast", []).settings.stages if name != _STAGE]
    words = ["agnews", "study", "fast", "study.name=faults", f"study.leave_out=[{','.join(others)}]", "tracking=none"]
    chance, project = lab.chance("kill-study"), lab.project("kill-study")
    verdicts = []
    for _ in range(lab.times):
        killed = _kill(project.start(words), project, chance, 20)
        left = project.left_running()
        verdicts.append(Verdict(Outcome.HANG, left) if left else Verdict(Outcome.CLEAR, "killed" if killed else ""))
    done = project.run(words)
    if done.code is None:
        return [*verdicts, Verdict(Outcome.HANG)]
    if TRACEBACK in done.output:
        return [*verdicts, Verdict(Outcome.TRACEBACK, done.output.strip().splitlines()[-1])]
    state = json.loads((project.outputs / "studies" / "faults" / "study.json").read_text())
    ends = {stage["name"]: stage["status"] for stage in state["stages"]}
    finished = done.code == 0 and ends[_STAGE] == "finished" and any((project.outputs / "eda").glob("*/findings.json"))
    return [*verdicts, Verdict(Outcome.RIGHT) if finished else Verdict(Outcome.LOST, f"{_STAGE} is {ends[_STAGE]}")]
