"""Memory that runs out: an address space that ends, and processes that the kernel kills because others need theirs.

The kernel's OOM killer ends the largest process with SIGKILL, which nothing in it hears of. Where this user may make a
control group with a limit, it is the kernel's; everywhere, the campaign plays it, in the stage where it is wanted.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fault_kinds.lab import COMMANDS, FOREST, LIGHT, SWEEP, UNTRACKED, Lab, fault, skipped
from fault_kinds.projects import Project
from fault_kinds.verdicts import Done, Outcome, Verdict, judge, read_answers

_MB = 1 << 20
_LEAST_MB, _MOST_MB = 300, 1000
_SHARES = (0.9, 0.7, 0.5)
"""Limits of a control group, as shares of what an undisturbed command needs."""

_SAYS_MEMORY = ("out of memory?", "Not enough memory")
_CGROUPS = Path("/sys/fs/cgroup")
_STAGES = {"features": ("loading sample: ", "features ("), "training": ("features (", "fitting ")}
"""What a job's log says when a stage begins, and when it has ended."""


@fault("little-memory")
def little_memory(lab: Lab) -> list[Verdict]:
    """The address space runs out: while things are imported, in the features, in the fit, while the model is saved."""
    verdicts = []
    for number in range(lab.times):
        size = _LEAST_MB + (_MOST_MB - _LEAST_MB) * number // max(1, lab.times - 1)
        project = lab.project("little-memory", store=True)
        done = project.run(LIGHT, limits={resource.RLIMIT_AS: size * _MB})
        verdict = judge(project.outputs, done, lab.reference("run"), 1)
        verdicts.append(Verdict(verdict.outcome, f"{size} MB: {verdict.note}"))
    return verdicts


@fault("little-memory-sweep")
def little_memory_sweep(lab: Lab) -> list[Verdict]:
    """The address space of a sweep's jobs runs out."""
    project = lab.project("little-memory-sweep")
    done = project.run([*SWEEP, UNTRACKED], limits={resource.RLIMIT_AS: 450 * _MB})
    return [judge(project.outputs, done, lab.reference("sweep"), 3)]


# ---------------------------------------------------------------- the OOM killer


def _named(verdict: Verdict, done: Done) -> Verdict:
    """Return the verdict; an error that does not name memory is not clear."""
    if verdict.outcome is Outcome.CLEAR and not any(sign in done.output for sign in _SAYS_MEMORY):
        return Verdict(Outcome.TRACEBACK, f"does not name memory: {verdict.note}")
    return verdict


def _repeated(lab: Lab, project: Project, words: Sequence[str], before: Sequence[str]) -> Verdict:
    """With memory again, the same command does the rest."""
    expected, needed = lab.reference("forest"), COMMANDS["forest"][1]
    return judge(project.outputs, project.run(words), expected, needed, before, may_fail=False)


@fault("oom-sweep")
def oom_sweep(lab: Lab) -> list[Verdict]:
    """The largest process of a sweep is killed for its memory, in the features or in the training of a job."""
    return _played(lab, [*FOREST, UNTRACKED], "outputs/sweeps/*/logs/*.log", says=True)


@fault("oom-run")
def oom_run(lab: Lab) -> list[Verdict]:
    """The largest process of a run is killed for its memory; it cannot say so itself, and its repeat is right."""
    words = [word.replace("=20,21", "=20") for word in FOREST if word != "-m" and not word.startswith("sweep.")]
    return _played(lab, [*words, UNTRACKED], "log.txt", says=False)


def _played(lab: Lab, words: Sequence[str], logs: str, *, says: bool) -> list[Verdict]:
    verdicts, needed = [], COMMANDS["forest"][1]
    expected = lab.reference("forest")
    for number in range(lab.times):
        stage = list(_STAGES)[number % len(_STAGES)]
        project = lab.project(f"oom-{stage}")
        process = project.start(words)
        if not _wait_for(project, logs, *_STAGES[stage], while_=lambda p=process: p.poll() is None):
            project.kill_all()
            process.wait()
            verdicts.append(Verdict(Outcome.SKIPPED, f"{stage}: over before it could be killed"))
            continue
        _kill_largest(project)
        done = project.wait(process)
        if done.code is not None and done.code < 0 and not says:
            done = Done(1, "error: killed, and what it left is sound")
        verdict = judge(project.outputs, done, expected, needed)
        verdict = _named(verdict, done) if says else verdict
        verdicts.append(Verdict(verdict.outcome, f"{stage}: {verdict.note}"))
        before = [name for name, _, _ in read_answers(project.outputs)]
        verdicts.append(_repeated(lab, project, (*FOREST, UNTRACKED), before))
    return verdicts


def _wait_for(project: Project, logs: str, begun: str, ended: str, *, while_: Callable[[], bool]) -> bool:
    """Wait until a log says that a stage has begun; return whether it has not ended yet."""
    while while_():
        for path in project.root.glob(logs):
            said = path.read_text(errors="replace")
            if begun in said:
                return ended not in said
        time.sleep(0.01)
    return False


def _kill_largest(project: Project) -> None:
    """Do what the kernel does when memory runs out."""
    sizes: dict[int, int] = {}
    for process in project.processes():
        with suppress(psutil.Error):
            sizes[process.pid] = process.memory_info().rss
    with suppress(ProcessLookupError):
        os.kill(max(sizes, key=lambda pid: (sizes[pid], pid)), signal.SIGKILL)


# ---------------------------------------------------------------- control groups


def why_no_group(root: Path = _CGROUPS) -> str | None:
    """Say why no control group with a limit of memory can be made here, or None when one can."""
    try:
        enabled = (root / "cgroup.subtree_control").read_text().split()
    except OSError:
        return f"{root} is no unified control group (cgroup v2)"
    if "memory" not in enabled:
        return f"{root}/cgroup.subtree_control does not pass the memory controller on"
    return None if os.access(root, os.W_OK) else f"this user may not write to {root}"


@contextmanager
def limited_group(megabytes: int, root: Path = _CGROUPS) -> Iterator[Path]:
    """Make a control group of so much memory and no swap; yields its folder, and removes it."""
    group = root / f"agnews-faults-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        (group / "memory.max").write_text(str(megabytes * _MB))
        if (swap := group / "memory.swap.max").exists():
            swap.write_text("0")
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


@fault("memory-group")
def memory_group(lab: Lab) -> list[Verdict]:
    """A sweep in a control group (cgroup v2) that has less memory than it needs: the kernel kills."""
    if (reason := why_no_group()) is not None:
        return skipped(reason)
    words = [*FOREST, UNTRACKED]
    with limited_group(1 << 20) as group:
        project = lab.project("memory-group-peak")
        project.run(words, group=group)
        peak = int((group / "memory.peak").read_text()) // _MB
    verdicts = []
    for number in range(lab.times):
        size = round(peak * _SHARES[number % len(_SHARES)])
        project = lab.project("memory-group")
        with limited_group(size) as group:
            done = project.run(words, group=group)
            project.left_running()
        if done.code is not None and done.code < 0:  # the kernel took the command itself
            done = Done(1, "error: killed, and what it left is sound (out of memory?)")
        verdict = _named(judge(project.outputs, done, lab.reference("forest"), COMMANDS["forest"][1]), done)
        verdicts.append(Verdict(verdict.outcome, f"{size} of {peak} MB: {verdict.note}"))
        before = [name for name, _, _ in read_answers(project.outputs)]
        verdicts.append(_repeated(lab, project, words, before))
    return verdicts
