"""Sweeps that are killed and repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

GRID = (
    "sweep.name=grid",
    "model=dummy,multinomial_nb",
    "data_fraction=0.5,0.75,1.0",
    "seed=1,2,3,4",
    "hydra.launcher.n_jobs=2",
)


def pid_exists(pid: int) -> bool:
    """Whether a process is there (a zombie is not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for_progress(sweeps, process, more: int) -> None:
    """Wait until ``more`` further jobs have finished, or the process has ended."""
    target = (len(sweeps.finished_records()) if sweeps.folders else 0) + more
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if sweeps.folders and len(sweeps.finished_records()) >= target:
            return
        time.sleep(0.05)


@pytest.mark.slow
def test_24_jobs_whose_parent_is_killed_three_times_end_with_24_records_and_nothing_running(sweeps):
    chance = random.Random(7)
    for _ in range(3):
        process = sweeps.start(*GRID)
        wait_for_progress(sweeps, process, chance.randint(1, 6))
        time.sleep(chance.random() * 2)
        process.kill()
        process.communicate()
    last = sweeps.run(*GRID)
    assert last.returncode == 0, last.stdout + last.stderr
    assert sweeps.finished_records() == list(range(24))
    assert [s["status"] for s in sweeps.states()] == ["finished"] * 24
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    others = [(c.info.status, c.data.tags) for c in children if c.info.status not in ("FINISHED", "KILLED")]
    assert others == []
    finished = [c.data.tags["sweep.job"] for c in children if c.info.status == "FINISHED"]
    assert sorted(finished, key=int) == [str(n) for n in range(24)]
    # An attempt that was killed is no second run: every job finished exactly once.
    assert all("test/macro_f1" in c.data.metrics for c in children if c.info.status == "FINISHED")


@pytest.mark.slow
def test_a_killed_parent_takes_its_jobs_with_it_and_sweep_resume_goes_on(sweeps):
    process = sweeps.start("model=faulty", "model.seconds=0,5,0.1", "seed=1,2")
    wait_for_progress(sweeps, process, 2)
    time.sleep(1)
    children = {p.pid for p in psutil.Process(process.pid).children(recursive=True)}
    assert len(children) >= 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(pid_exists(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(pid_exists(pid) for pid in children)
    name = sweeps.folder.name
    done = sweeps.project.run("-m", f"sweep.resume={name}", env=sweeps.env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sweeps.finished_records() == list(range(6))
    (parent,), _ = sweeps.runs()
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_terminated_sweep_ends_its_jobs_marks_them_killed_and_exits_143(sweeps):
    process = sweeps.start("model=faulty", "model.seconds=0,60")
    wait_for_progress(sweeps, process, 1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert [s["status"] for s in sweeps.states()] == ["finished", "killed"]
    assert sweeps.info()["status"] == "killed"
    (parent,), children = sweeps.runs()
    assert parent.info.status == "KILLED"
    assert sorted(c.info.status for c in children) == ["FINISHED", "KILLED"]


@pytest.mark.slow
def test_a_killed_job_is_one_failure_and_the_rest_goes_on(sweeps):
    process = sweeps.start("model=faulty", "model.seconds=0,60,0.1", "hydra.launcher.n_jobs=1")
    wait_for_progress(sweeps, process, 1)
    deadline = time.monotonic() + 60
    pid = None
    while pid is None and time.monotonic() < deadline:
        status = sweeps.folder / "1" / "status.json"
        if status.is_file() and (status.parent / "tracking.json").is_file():
            pid = json.loads(status.read_text())["pid"]
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed", "finished"]
    assert "SIGKILL" in sweeps.states()[1]["reason"]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FAILED"
    assert sorted(c.info.status for c in children) == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.slow
def test_two_calls_of_the_same_sweep_at_once_are_refused(sweeps):
    process = sweeps.start("model=faulty", "model.seconds=30,31")
    deadline = time.monotonic() + 60
    while not sweeps.folders and time.monotonic() < deadline:
        time.sleep(0.05)
    second = sweeps.run("model=faulty", "model.seconds=30,31")
    process.terminate()
    process.communicate(timeout=60)
    assert second.returncode == 2
    assert f"worked on by process {process.pid}" in second.stderr


@pytest.mark.slow
def test_resuming_an_unknown_sweep_names_the_nearest(sweeps):
    done = sweeps.run("model=dummy", "seed=1,2", "sweep.name=seeds")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = sweeps.project.run("-m", "sweep.resume=sedes")
    assert wrong.returncode == 2
    assert "Did you mean 'seeds'?" in wrong.stderr
