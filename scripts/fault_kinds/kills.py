"""SIGKILL at random moments, then the same command again, until the work is done; then from the beginning.

What is killed is the command alone, one of its child processes, or all of them. Whenever the work is done, the records
and MLflow's store are compared with those of an undisturbed command.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

import psutil

from agnews_exp.tracking import record
from fault_kinds.lab import COMMANDS, Lab, fault
from fault_kinds.projects import Project
from fault_kinds.verdicts import Done, Outcome, Verdict, judge, read_answers

_WINDOW = (0.05, 1.2)
"""When the kill comes, as a share of the seconds that an undisturbed command takes."""

_SOUND = "error: killed, and what it left is sound"


def _kill(process: subprocess.Popen[bytes], project: Project, chance: random.Random, seconds: float) -> str | None:
    """Kill a command, one of its children or everything at a random moment; return which, None when it was over."""
    began = time.monotonic()
    try:
        process.wait(chance.uniform(*_WINDOW) * seconds)
        return None
    except subprocess.TimeoutExpired:
        moment = f"after {time.monotonic() - began:.1f} s"
    victim = chance.choice(("command", "child", "everything"))
    children = [other for other in project.processes() if other.pid != process.pid]
    if victim == "child" and children:
        killed = chance.choice(sorted(children, key=lambda child: child.pid))
        with suppress(psutil.Error):
            killed.kill()
        return f"child {moment}"
    if victim == "everything":
        project.kill_all()
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return f"{'everything' if victim == 'everything' else 'command'} {moment}"


def unfaithful(store: Path, fingerprints: Collection[str]) -> str | None:
    """Say how an MLflow store differs from what was done: a run that still runs, a job missing or there twice."""
    with closing(sqlite3.connect(store, timeout=60)) as connection:
        running = connection.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
        rows = connection.execute(
            "select value, count(*) from tags join runs using (run_uuid) "
            "where key = 'fingerprint' and status = 'FINISHED' group by value"
        ).fetchall()
    if running:
        return f"{running} MLflow runs say RUNNING after agnews sync"
    finished = dict(rows)
    if missing := [name for name in fingerprints if name not in finished]:
        return f"MLflow lacks {len(missing)} of {len(fingerprints)} finished runs"
    twice = [name for name, count in finished.items() if count > 1]
    return f"MLflow has {len(twice)} finished runs twice" if twice else None


def _tried(lab: Lab, kind: str, project: Project, chance: random.Random, seconds: float) -> Verdict | None:
    """Start the command and kill it; None when it ended before it was killed."""
    words, needed = COMMANDS[kind]
    before = [name for name, _, _ in read_answers(project.outputs)]
    process = project.start(words)
    victim = _kill(process, project, chance, seconds)
    if victim is None:
        return None
    done = project.wait(process)  # of a killed child it hears, and ends by itself
    if not victim.startswith("child"):
        done = Done(1, _SOUND)  # a process that was killed says nothing: what it left is judged
    verdict = judge(project.outputs, done, lab.reference(kind), needed, before)
    if (left := project.left_running()) is not None:
        verdict = Verdict(Outcome.HANG, left)
    return Verdict(verdict.outcome, f"{victim}: {verdict.note}")


def _completed(lab: Lab, kind: str, project: Project) -> Verdict:
    """Let the command come to its end undisturbed, and compare everything with an undisturbed one."""
    words, needed = COMMANDS[kind]
    expected = lab.reference(kind)
    verdict = judge(project.outputs, project.run(words), expected, needed, may_fail=False)
    if verdict.outcome is not Outcome.RIGHT:
        return verdict
    if (count := len(read_answers(project.outputs))) != needed:
        return Verdict(Outcome.WRONG, f"{count} finished records of {needed}: a job was done twice")
    synced = project.run(["agnews", "sync"])
    if synced.code != 0:
        return Verdict(Outcome.LOST, synced.output[-160:])
    if (reason := unfaithful(project.store, expected)) is not None:
        return Verdict(Outcome.WRONG if "twice" in reason else Outcome.LOST, reason)
    return _says_finished(project) or Verdict(Outcome.RIGHT, "done, and the same as undisturbed")


def _says_finished(project: Project) -> Verdict | None:
    """Return a verdict where the file of a sweep, a search or a study does not say that it has finished."""
    for path in project.outputs.glob("sweeps/*/sweep.json"):
        if (status := (record.read_json(path) or {}).get("status")) != "finished":
            return Verdict(Outcome.LOST, f"{path.parent.name}/sweep.json says {status}")
    for path in project.outputs.glob("studies/*/study.json"):
        for stage in (record.read_json(path) or {})["stages"]:
            if stage["status"] not in ("finished", "left_out"):
                return Verdict(Outcome.LOST, f"study.json says that {stage['name']} is {stage['status']}")
    return None


def _kill_and_repeat(lab: Lab, kind: str) -> list[Verdict]:
    chance, verdicts, kills = lab.chance(f"kill-{kind}"), [], 0
    needed = COMMANDS[kind][1]
    seconds = lab.seconds(kind)
    while kills < lab.kills:
        project, over, fresh = lab.project(f"kill-{kind}", store=True), False, True
        while not over and kills < lab.kills:
            began = time.monotonic()
            verdict = _tried(lab, kind, project, chance, seconds)
            over = verdict is None or len(read_answers(project.outputs)) >= needed
            if verdict is None and fresh:  # the first command of a campaign also compiled
                seconds = min(seconds, time.monotonic() - began)
            fresh = False
            if verdict is not None:
                kills += 1
                verdicts.append(verdict)
        verdicts.append(_completed(lab, kind, project))
    return verdicts


@fault("kill-run")
def kill_run(lab: Lab) -> list[Verdict]:
    """A run is killed again and again, and finishes at the end."""
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
    """A study of two stages is killed again and again, and finishes at the end."""
    return _kill_and_repeat(lab, "study")
