"""The same sweeps through Hydra's basic launcher and joblib's: nested runs, failures, repeats."""

from __future__ import annotations

import pytest


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


@pytest.mark.slow
def test_jobs_that_speak_to_mlflow_themselves_are_nested_too(sweeps):
    words = ("data=sample", "data_fraction=0.2", "model=dummy,text_cnn", "trainer.max_epochs=1", "sweep.name=other")
    done = sweeps.project.run("-m", *words, "tracking.log_model=false", "hydra/launcher=basic")
    assert done.returncode == 0, done.stdout + done.stderr
    (parent,), children = sweeps.runs()
    assert [c.info.status for c in (parent, *children)] == ["FINISHED"] * 3
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert {c.data.tags["sweep.job"] for c in children} == {"0", "1"}
