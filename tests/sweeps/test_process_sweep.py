"""Grids through the process launcher: nesting, failures, snapshots, repeats."""

from __future__ import annotations

import csv
import time

import pytest


def test_a_grid_gives_one_parent_run_with_a_child_for_every_job_and_a_table_that_the_same_command_shows_again(sweeps):
    words = ("model=dummy,multinomial_nb", "data_fraction=0.5,1.0", "hydra.launcher.n_jobs=2")
    done = sweeps.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [s["status"] for s in sweeps.states()] == ["finished"] * 4
    assert sweeps.finished_records() == [0, 1, 2, 3]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    assert [c.info.status for c in children] == ["FINISHED"] * 4
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert sorted(c.data.tags["sweep.job"] for c in children) == ["0", "1", "2", "3"]
    assert "model=multinomial_nb" in parent.data.tags["mlflow.note.content"]
    best = max(s["objective"] for s in sweeps.states())
    assert parent.data.metrics["best_objective"] == pytest.approx(best)
    assert sweeps.states()[int(parent.data.metrics["best_job"])]["objective"] == best
    assert [s["attempts"] for s in sweeps.states()] == [1] * 4
    assert "sets of evaluation rows" not in done.stdout
    assert (sweeps.folder / "learning_curve.png").stat().st_size > 1000
    with (sweeps.folder / "jobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["model"], r["data_fraction"]) for r in rows] == [
        ("dummy", "0.5"), ("dummy", "1.0"), ("multinomial_nb", "0.5"), ("multinomial_nb", "1.0"),
    ]  # fmt: skip
    again = sweeps.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [s["attempts"] for s in sweeps.states()] == [1] * 4
    assert "val/macro_f1" in again.stdout
    assert [len(runs) for runs in sweeps.runs()] == [1, 4]


@pytest.mark.slow
def test_ten_jobs_of_which_four_fail_in_four_ways_give_six_results_and_four_reasons(sweeps):
    done = sweeps.run(
        "model=faulty", "model.fault=a,b,c,d,e,f,exit,raise,hang,7",  # 7 is no text: an invalid configuration
        "hydra.launcher.n_jobs=2", "hydra.launcher.timeout=15",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    *good, exits, raises, hangs, invalid = sweeps.states()
    assert [s["status"] for s in good] == ["finished"] * 6
    reasons = ("exit code 1", "this estimator raises", "timeout of 15 s", "'fault' parameter")
    for state, text in zip((exits, raises, hangs, invalid), reasons, strict=True):
        assert state["status"] == "failed"
        assert text in state["reason"]
        assert text in done.stderr
        assert (sweeps.folder / "logs" / f"{state['num']}.log").is_file()
    assert "RuntimeError" in raises["traceback"]
    assert "4 of 10 jobs failed" in done.stderr
    assert done.stderr.count("repeat  python run.py") == 4
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FAILED"
    assert sorted(c.info.status for c in children) == ["FAILED"] * 2 + ["FINISHED"] * 6 + ["KILLED"]
    assert parent.data.metrics["jobs_failed"] == 4
    rows = (sweeps.folder / "jobs.csv").read_text().splitlines()
    assert len(rows) == 11


@pytest.mark.slow
def test_a_killed_check_of_the_configuration_is_not_called_an_invalid_configuration(sweeps):
    killed = sweeps.run("model=faulty", "seed=1,2", FAULTS_KILL="import")
    assert killed.returncode == 3, killed.stderr
    assert "killed by SIGKILL (out of memory?)" in killed.stderr
    assert "valid configuration" not in killed.stderr


@pytest.mark.slow
def test_the_same_command_after_a_failure_runs_only_the_failed_job(sweeps, tmp_path):
    flag = tmp_path / "flag"
    words = ("model=faulty", f"model.fault=none,unless:{flag}")
    first = sweeps.run(*words)
    assert first.returncode == 1
    assert [s["status"] for s in sweeps.states()] == ["finished", "failed"]
    flag.touch()
    again = sweeps.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [(s["status"], s["attempts"]) for s in sweeps.states()] == [("finished", 1), ("finished", 2)]
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    assert sorted(c.info.status for c in children) == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.slow
def test_a_crashed_job_is_tried_again_when_retries_allow_it(sweeps, tmp_path):
    flag = tmp_path / "flag"
    done = sweeps.run("model=faulty", f"model.fault=once:{flag}", "seed=1,2", "hydra.launcher.retries=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [s["attempts"] for s in sweeps.states()] == [2, 1]


@pytest.mark.slow
def test_a_mistake_that_spoils_every_job_is_refused_before_anything_starts(sweeps):
    done = sweeps.run("model=linear_svc,logreg", "model.C=-1")
    assert done.returncode == 2
    assert "None of the 2 jobs has a valid configuration" in done.stderr
    assert "model.C=-1" in done.stderr
    assert [s["attempts"] for s in sweeps.states()] == [0, 0]


@pytest.mark.slow
def test_jobs_are_composed_from_the_configuration_as_it_was_at_the_start(sweeps, tmp_path):
    yaml = sweeps.extra / "model" / "faulty.yaml"
    process = sweeps.start("model=faulty", "model.seconds=8", "seed=1,2")
    deadline = time.monotonic() + 120
    while not any(s["status"] == "running" for s in (sweeps.states() if sweeps.folders else [])):
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    yaml.write_text(yaml.read_text().replace("most_frequent", "stratified"))
    assert process.wait(200) == 0, process.communicate()
    names = {(sweeps.folder / str(n) / "config.yaml").read_text().count("most_frequent") for n in (0, 1)}
    assert names == {1}


@pytest.mark.slow
def test_jobs_on_failure_stop_starts_no_more_jobs(sweeps):
    done = sweeps.run("model=faulty", "model.fault=raise,a,b", "hydra.launcher.on_failure=stop")
    assert done.returncode == 1
    assert [s["status"] for s in sweeps.states()] == ["failed", "waiting", "waiting"]
    assert "2 did not run" in done.stderr
