"""The same sweeps through Hydra's basic launcher and joblib's: nested runs, failures, repeats."""

from __future__ import annotations

import time

import psutil
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_failures_nesting_and_repeats_are_the_same_through_other_launchers(sweeps, tmp_path, launcher):
    flag = tmp_path / "flag"
    words = ("model=faulty", f"model.fault=a,7,unless:{flag},b", f"hydra/launcher={launcher}", "sweep.name=other")
    first = sweeps.run(*words)
    assert first.returncode == 1, first.stdout + first.stderr
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed", "failed", "finished"]
    assert "'fault' parameter" in sweeps.states()[1]["reason"]
    assert "is missing" in sweeps.states()[2]["reason"]
    flag.touch()
    again = sweeps.run(*words)
    assert again.returncode == 1
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed", "finished", "finished"]
    assert [s["attempts"] for s in sweeps.states()] == [1, 2, 2, 1]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FAILED"
    finished = [c for c in children if c.info.status == "FINISHED"]
    assert sorted(c.data.tags["sweep.job"] for c in finished) == ["0", "2", "3"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert not [c for c in children if c.info.status == "RUNNING"]


def trackers(sweep: psutil.Process) -> list[psutil.Process]:
    return [p for p in sweep.children() if any(word == "agnews_exp.tracking.worker" for word in p.cmdline())]


def wait_until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_sweep_outlives_its_tracker_and_sync_brings_what_is_missing(sweeps, tmp_path):
    words = ("model=faulty", "model.fault=a,b,c", "model.seconds=3", "sweep.name=other")
    process = sweeps.start(*words)
    wait_until(lambda: trackers(psutil.Process(process.pid)))
    wait_until(lambda: len(sweeps.folders) == 1 and len(sweeps.finished_records()) == 1)
    for tracker in trackers(psutil.Process(process.pid)):
        tracker.kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert [s["status"] for s in sweeps.states()] == ["finished"] * 3
    assert "MLflow is not up to date: its process: killed by SIGKILL" in output
    assert "Traceback" not in output
    sync = sweeps.project.agnews("sync")
    assert sync.returncode == 0, sync.stdout + sync.stderr
    _, children = sweeps.runs()
    assert sorted(c.data.tags["sweep.job"] for c in children if c.info.status == "FINISHED") == ["0", "1", "2"]
    assert not [c for c in children if c.info.status == "RUNNING"]


@pytest.mark.slow
def test_jobs_of_every_family_are_nested_below_their_sweep(sweeps):
    words = ("data=sample", "data_fraction=0.2", "model=dummy,text_cnn", "trainer.max_epochs=1", "sweep.name=other")
    done = sweeps.project.run("-m", *words, "tracking.log_model=false", "hydra/launcher=basic")
    assert done.returncode == 0, done.stdout + done.stderr
    (parent,), children = sweeps.runs()
    assert [c.info.status for c in (parent, *children)] == ["FINISHED"] * 3
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert {c.data.tags["sweep.job"] for c in children} == {"0", "1"}
