"""Sweeps through submitit: its local executor stands for SLURM, whose jobs it starts in the same way."""

from __future__ import annotations

import importlib.util
import json
import platform
import time

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.sweeps.clusters import InFolder, refuse_missing_launcher, wait_until_gone
from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking.record import RunFolder

INSTALLED = importlib.util.find_spec("submitit") is not None
needs_submitit = pytest.mark.skipif(
    not INSTALLED, reason="submitit is not installed: pip install 'agnews-exp[submitit]'"
)
LOCAL = "hydra/launcher=submitit_local"


@pytest.mark.slow
@needs_submitit
def test_failures_nesting_and_repeats_are_the_same_through_submitit(sweeps, tmp_path):
    flag = tmp_path / "flag"
    words = ("model=faulty", f"model.fault=a,exit,unless:{flag},7", LOCAL, "sweep.name=other")
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


@pytest.mark.slow
@needs_submitit
def test_a_job_that_outlives_its_sweep_is_waited_for_and_not_run_twice(sweeps):
    words = ("model=faulty", "model.seconds=20,0.1", LOCAL, "sweep.name=cut")
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


@pytest.mark.slow
@needs_submitit
def test_parameters_that_submitit_refuses_are_an_error_before_any_job(sweeps):
    done = sweeps.run("model=dummy", "seed=1,2", LOCAL, "+hydra.launcher.partition=gpu")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "LocalLauncher started no job" in done.stderr


def test_without_its_package_a_launcher_names_the_extra(hide):
    for choice, package, extra in (
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher", "submitit"),
        ("ray", "hydra_plugins.hydra_ray_launcher", "ray"),
    ):
        hide(package)
        config = compose_config([f"hydra/launcher={choice}"], hydra_node=True)
        with pytest.raises(MissingDependencyError, match=rf"agnews-exp\[{extra}\]"):
            refuse_missing_launcher(config)


def test_a_job_whose_process_is_gone_is_not_waited_for(tmp_path):
    run = RunFolder(tmp_path / "0")
    run.path.mkdir()
    run.start({"a": 1}, {"hostname": platform.node()})
    status = json.loads((run.path / "status.json").read_text())
    began = "2020-01-01T00:00:00.000+00:00"  # the process that has this number now began later
    (run.path / "status.json").write_text(json.dumps(status | {"updated": began, "born": status["born"] - 3600}))
    wait_until_gone(SweepFolder(tmp_path), 0)


def test_a_task_runs_in_the_folder_that_relative_paths_mean(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "data.txt").write_text("rows")
    task = InFolder(lambda name: open(name).read(), tmp_path)  # noqa: PTH123, SIM115
    assert task("data.txt") == "rows"
