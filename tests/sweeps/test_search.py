"""Searches: totals, repeats, failed trials, pruning, several goals."""

from __future__ import annotations

import json
import time

import optuna
import pytest
from optuna.trial import TrialState

SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.plots=false", "sweep.name=search")


def trials(sweeps) -> list:
    """All trials of the only study."""
    (path,) = (sweeps.project.root / "outputs" / "optuna").glob("*.db")
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{path}")
    return optuna.load_study(study_name=summary.study_name, storage=f"sqlite:///{path}").get_trials()


def test_a_search_runs_n_trials_in_all_and_more_only_when_more_are_asked_for(sweeps):
    words = ("model=multinomial_nb", "model.alpha=tag(log,interval(0.001,10))", *SEARCH)
    first = sweeps.run(*words, "hydra.sweeper.n_trials=3")
    assert first.returncode == 0, first.stdout + first.stderr
    before = trials(sweeps)
    assert [t.state for t in before] == [TrialState.COMPLETE] * 3
    assert len({t.params["model.alpha"] for t in before}) == 3
    again = sweeps.run(*words, "hydra.sweeper.n_trials=3")
    assert again.returncode == 0
    assert len(trials(sweeps)) == 3
    more = sweeps.run(*words, "hydra.sweeper.n_trials=5")
    assert more.returncode == 0, more.stdout + more.stderr
    after = trials(sweeps)
    assert len({t.params["model.alpha"] for t in after}) == len(after) == 5
    assert [t.params for t in after[:3]] == [t.params for t in before]
    assert sweeps.finished_records() == list(range(5))
    best = json.loads((sweeps.folder / "best.json").read_text())["best"][0]
    assert best["values"]["val/macro_f1"] == max(t.value for t in after)
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    assert len(children) == 5


@pytest.mark.slow
def test_a_search_that_is_killed_and_repeated_has_the_trials_of_one_that_was_not(sweeps, make_project, tmp_path):
    words = (
        "model=faulty", "model.seconds=interval(0.0,1.0)", "features.blocks.word.max_features=range(100,400)",
        "hydra.sweeper.n_trials=8", *SEARCH,
    )  # fmt: skip
    process = sweeps.start(*words)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not sweeps.folders or len(sweeps.finished_records()) < 3):
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    last = sweeps.run(*words)
    assert last.returncode == 0, last.stdout + last.stderr
    cut = trials(sweeps)
    assert [t.state for t in cut] == [TrialState.COMPLETE] * 8
    assert sweeps.finished_records() == list(range(8))
    whole = type(sweeps)(make_project(tmp_path / "whole"), sweeps.extra)
    assert whole.run(*words).returncode == 0
    assert [t.params for t in trials(whole)] == [t.params for t in cut]


def test_a_failed_trial_is_a_failed_trial_and_not_the_end(sweeps):
    done = sweeps.run(
        "model=faulty", "model.fault=a,raise,b", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3", *SEARCH
    )
    assert done.returncode == 0, done.stdout + done.stderr
    states = sorted(t.state.name for t in trials(sweeps))
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "this estimator raises" in done.stderr
    (parent,), _ = sweeps.runs()
    assert parent.info.status == "FINISHED"


def test_a_search_in_which_most_trials_fail_is_given_up(sweeps):
    done = sweeps.run(
        "model=faulty", "model.fault=raise", "model.seconds=interval(0.0,0.1)", "hydra.sweeper.n_trials=40", *SEARCH
    )
    assert done.returncode == 1
    assert len(trials(sweeps)) == 5
    assert "35 did not run" in done.stderr


def test_two_goals_give_a_pareto_set(sweeps):
    done = sweeps.run(
        "model=multinomial_nb", "model.alpha=tag(log,interval(0.001,10))", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.objectives=[val/macro_f1,model_size_mb]", *SEARCH,
        "features.blocks.word.max_features=20,50,150,199",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    best = json.loads((sweeps.folder / "best.json").read_text())["best"]
    values = [tuple(b["values"].values()) for b in best]
    assert 1 <= len(values) <= 4
    for f1, size in values:  # none is beaten in both
        assert not any(o[0] >= f1 and o[1] <= size and o != (f1, size) for o in values)


def test_test_metrics_are_refused_as_goals(sweeps):
    done = sweeps.run("model.C=interval(0.1,1)", "hydra.sweeper.objectives=[test/macro_f1]", *SEARCH)
    assert done.returncode == 2
    assert "must not see the test set" in done.stderr


def test_another_space_in_the_same_study_is_refused(sweeps):
    base = ("model=multinomial_nb", "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine", *SEARCH[:2])
    assert sweeps.run("model.alpha=interval(0.1,1)", *base).returncode == 0
    other = sweeps.run("model.alpha=interval(0.1,2)", *base)
    assert other.returncode == 2
    assert "searches another space" in other.stderr


def test_the_median_pruner_stops_hopeless_trials_of_a_classical_model_before_their_full_fit(sweeps):
    done = sweeps.run(
        "model=sgd_modified_huber", "model.alpha=1e-4,2e-4,10.0,20.0,40.0", "hydra/sweeper/sampler=grid",
        "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=5", "hydra.sweeper.pruner.name=percentile",
        "hydra.sweeper.pruner.percentile=20.0", "hydra.sweeper.pruner.n_startup_trials=1", *SEARCH,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = trials(sweeps)
    pruned = [t for t in found if t.state is TrialState.PRUNED]
    assert pruned
    assert all(t.intermediate_values for t in found)
    assert {s["status"] for s in sweeps.states()} == {"finished", "pruned"}
    best = max((t for t in found if t.state is TrialState.COMPLETE), key=lambda t: t.value)
    assert all(best.intermediate_values[0] >= t.intermediate_values[0] for t in pruned)
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    assert sorted(c.info.status for c in children) == ["FINISHED"] * (5 - len(pruned)) + ["KILLED"] * len(pruned)
