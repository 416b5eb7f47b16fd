"""Sweeps through submitit: its local executor stands for SLURM, whose jobs it starts in the same way."""

from __future__ import annotations

import importlib.util
import json
import os
import time

import pytest

from agnews_exp.core.errors import ConfigError, MissingDependencyError
from agnews_exp.sweeps.clusters import SubmititLauncher, Task
from agnews_exp.sweeps.state import note_path, wait_until_gone

INSTALLED = importlib.util.find_spec("submitit") is not None
needs_submitit = pytest.mark.skipif(
    not INSTALLED, reason="submitit is not installed: pip install 'agnews-exp[submitit]'"
)
LOCAL = ("hydra/launcher=submitit_local", "hydra.launcher.n_jobs=2")


@pytest.mark.slow
@needs_submitit
def test_failures_nesting_and_repeats_are_the_same_through_submitit(sweeps, tmp_path):
    flag = tmp_path / "flag"
    words = ("model=faulty", f"model.fault=a,exit,unless:{flag},7", *LOCAL, "sweep.name=other")
    first = sweeps.run(*words)
    assert first.returncode == 1, first.stdout + first.stderr
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed", "failed", "failed"]
    reasons = [s["reason"] for s in sweeps.states()]
    assert "ended without a result" in reasons[1]
    assert "is missing" in reasons[2]
    assert "'fault' parameter" in reasons[3]
    flag.touch()
    again = sweeps.run(*words)
    assert again.returncode == 1
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed", "finished", "failed"]
    assert [s["attempts"] for s in sweeps.states()] == [1, 2, 2, 2]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FAILED"
    assert sorted(c.data.tags["sweep.job"] for c in children if c.info.status == "FINISHED") == ["0", "2"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert not [c for c in children if c.info.status == "RUNNING"]
    assert not list(sweeps.folder.glob("jobs/*.submitted.json"))


@pytest.mark.slow
@needs_submitit
def test_a_job_that_outlives_its_sweep_is_waited_for_and_not_run_twice(sweeps):
    words = ("model=faulty", "model.seconds=20,0.1", *LOCAL, "hydra.launcher.n_jobs=1", "sweep.name=cut")
    process = sweeps.start(*words)
    deadline = time.monotonic() + 120
    while not (sweeps.folders and (sweeps.folder / "0" / "tracking.json").is_file()):
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    process.kill()
    process.wait()
    again = sweeps.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Job 0 of an earlier call is still at work" in again.stdout + again.stderr
    assert [s["status"] for s in sweeps.states()] == ["finished", "finished"]
    assert sweeps.states()[0]["attempts"] == 1
    (parent,), children = sweeps.runs()
    assert [c.info.status for c in (parent, *children)] == ["FINISHED"] * 3


@pytest.mark.parametrize("saved", [False, True])
@needs_submitit
def test_a_job_that_ran_out_of_time_goes_on_at_its_checkpoint(tmp_path, saved):
    if saved:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "resume.json").write_text("{}")
    delayed = Task(None).checkpoint(["seed=1"], str(tmp_path), 3, "state")
    assert delayed.args == (["seed=1", "resume=auto"] if saved else ["seed=1"], str(tmp_path), 3, "state")


def test_without_submitit_the_launcher_names_the_extra(hide):
    hide("submitit", "hydra_plugins.hydra_submitit_launcher")
    with pytest.raises(MissingDependencyError, match=r"agnews-exp\[submitit\]"):
        SubmititLauncher("local").setup(hydra_context=None, task_function=None, config=None)


@pytest.mark.parametrize(("settings", "text"), [({"cluster": "pbs"}, "slurm, local"), ({"n_jobs": 0}, "at least 1")])
def test_settings_that_make_no_sense_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        SubmititLauncher(**{"cluster": "local"} | settings)


def test_a_job_whose_process_is_gone_is_not_waited_for(tmp_path):
    (tmp_path / "jobs").mkdir()
    note = {"cluster": "local", "id": str(os.getpid()), "host": os.uname().nodename, "submitted": 1.0}
    note_path(tmp_path, 0).write_text(json.dumps(note))  # the process that has this number now began later
    wait_until_gone(tmp_path, 0)
    assert not note_path(tmp_path, 0).exists()
