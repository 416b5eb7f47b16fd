"""Searches: totals, repeats, failed trials, pruning, several goals."""

from __future__ import annotations

import json
import time

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from agnews_exp.core.errors import ConfigError
from agnews_exp.sweeps.search import check_settings, read_space, saved_steps, search_charts
from agnews_exp.sweeps.sweepers import SearchSweeper
from agnews_exp.tracking.intermediate import make_pruner
from tests.sweeps.conftest import Sweeps

SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.plots=false", "sweep.name=search")


def trials(sweeps) -> list:
    """All trials of the only study."""
    (path,) = (sweeps.project.root / "outputs" / "optuna").glob("*.db")
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{path}")
    return optuna.load_study(study_name=summary.study_name, storage=f"sqlite:///{path}").get_trials()


@pytest.mark.slow
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
    records = [json.loads(p.read_text())["metrics"] for p in sweeps.folder.glob("*/result.json")]
    assert len(records) == 5
    assert not any(name.startswith("test/") for metrics in records for name in metrics)
    name = sweeps.folder.name
    shown = sweeps.project.agnews("sweeps", "best", name)
    assert f"agnews sweeps best {name} --run" in shown.stdout
    final = sweeps.project.agnews("sweeps", "best", name, "--run")
    assert final.returncode == 0, final.stdout + final.stderr
    result = sweeps.project.result()
    assert result["metrics"]["val/macro_f1"] == max(t.value for t in after)
    assert 0 < result["metrics"]["test/macro_f1"] <= 1
    assert sweeps.finished_records() == list(range(5))
    best = json.loads((sweeps.folder / "best.json").read_text())["best"][0]
    assert best["values"]["val/macro_f1"] == max(t.value for t in after)
    (parent,), children = sweeps.runs()
    assert parent.info.status == "FINISHED"
    (scored,) = [c for c in children if "test/macro_f1" in c.data.metrics]
    assert len(children) == 6
    assert all("val/macro_f1" in c.data.metrics for c in children)
    assert scored.data.tags["best_of"] == name
    assert "mlflow.parentRunId" not in scored.data.tags


@pytest.mark.slow
def test_30_trials_killed_at_trial_11_and_repeated_are_the_30_of_a_search_that_was_not(sweeps, make_project, tmp_path):
    words = (
        "model=faulty", "model.seconds=interval(0.0,0.2)", "features.blocks.word.max_features=range(100,400)",
        "tracking=none", *SEARCH,
    )  # fmt: skip
    process = sweeps.start(*words, "hydra.sweeper.n_trials=30")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and (not sweeps.folders or len(sweeps.states()) < 12):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    begun = len(trials(sweeps))
    assert begun in (12, 13)  # 11, or on a busy machine one more, and so is what was cut off
    cut_off = [s["num"] for s in sweeps.states() if s["status"] == "running"]
    last = sweeps.run(*words, "hydra.sweeper.n_trials=30")
    assert last.returncode == 0, last.stdout + last.stderr
    cut = trials(sweeps)
    assert [t.state for t in cut] == [TrialState.COMPLETE] * 30
    assert sweeps.finished_records() == list(range(30))
    attempts = {s["num"]: s["attempts"] for s in sweeps.states()}
    assert [n for n in range(30) if attempts[n] > 1 + (n in cut_off)] == []  # one may have ended just before the kill
    whole = type(sweeps)(make_project(tmp_path / "whole"), sweeps.extra)
    assert whole.run(*words, "hydra.sweeper.n_trials=14").returncode == 0
    assert [t.params for t in trials(whole)] == [t.params for t in cut[:14]]


@pytest.mark.slow
def test_two_sweeps_share_one_study_and_its_total(sweeps, tmp_path):
    words = (
        "model=faulty", "model.seconds=interval(0.2,1.0)", "tracking=none", "hydra/sweeper=optuna",
        "hydra.sweeper.plots=false", "hydra.sweeper.study_name=shared", "hydra.sweeper.n_trials=8",
    )  # fmt: skip
    both = [sweeps.start(*words, f"sweep.name={name}") for name in ("one", "two")]
    for process in both:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
    found = trials(sweeps)
    assert [t.state for t in found] == [TrialState.COMPLETE] * 8
    ran = [{int(p.parent.name) for p in folder.glob("*/result.json")} for folder in sweeps.folders]
    assert len(ran) == 2
    assert all(ran)
    assert ran[0] | ran[1] == set(range(8))
    assert not ran[0] & ran[1]


@pytest.mark.slow
def test_a_trial_whose_process_was_killed_runs_again_once(sweeps, tmp_path):
    words = ("model=faulty", f"model.fault=killed-once:{tmp_path / 'flag'}", "model.seconds=interval(0,0.01)", *SEARCH)
    done = sweeps.run(*words, "hydra.sweeper.n_trials=2", "tracking=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed by SIGKILL (out of memory?)" in done.stdout + done.stderr
    assert [t.state for t in trials(sweeps)] == [TrialState.COMPLETE] * 2
    assert [(s["status"], s["attempts"]) for s in sweeps.states()] == [("finished", 2), ("finished", 1)]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_search_in_which_most_trials_fail_is_given_up(sweeps):
    done = sweeps.run(
        "model=faulty", "model.fault=raise", "model.seconds=interval(0.0,0.1)", "hydra.sweeper.n_trials=40", *SEARCH
    )
    assert done.returncode == 1
    assert len(trials(sweeps)) == 5
    assert "35 did not run" in done.stderr


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ["test/macro_f1"]}, "must not see the test set"),
        ({"objectives": ["val/accuracy", "model_size_mb"], "pruner": {"name": "median"}}, "cannot prune with several"),
        ({"objectives": ["val/log_loss"], "pruner": {"name": "median"}}, r"evaluation\.primary=val/log_loss"),
        ({"pruner": {"name": "medium"}}, "allowed: hyperband, median"),
        ({"n_trials": 0}, "n_trials=0: a whole number of at least 1"),
        ({"direction": ["maximize", "minimize"]}, "does not fit 1 objectives"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    sweeper = SearchSweeper(sampler={"_target_": "optuna.samplers.TPESampler", "seed": 1})
    with pytest.raises(ConfigError, match=message):
        check_settings(sweeper.settings | change, "val/macro_f1")


def test_the_trials_of_a_search_never_score_the_test_set():
    space = read_space(None, ["model.C=interval(0.1,1)", "data=sample", "evaluation.score_test=false"])
    assert space.fixed == {"data": "sample", "++evaluation.score_test": "False"}
    with pytest.raises(ConfigError, match="agnews sweeps best NAME --run"):
        read_space(None, ["model.C=interval(0.1,1)", "++evaluation.score_test=true"])


def test_what_pruning_saved_counts_the_steps_that_were_not_run():
    def trial(state, steps):
        values = dict.fromkeys(range(steps), 0.5)
        return optuna.trial.create_trial(
            state=state, value=0.5 if state is TrialState.COMPLETE else None, intermediate_values=values
        )

    complete, pruned = [trial(TrialState.COMPLETE, 6)] * 2, [trial(TrialState.PRUNED, 1), trial(TrialState.PRUNED, 3)]
    said = saved_steps([*complete, *pruned], "folds")
    assert said == ["2 of 4 trials were pruned: 16 of 24 folds were run, 33% saved"]
    assert saved_steps([*complete, *pruned], None) == ["2 of 4 trials were pruned before their full fit"]
    assert saved_steps(complete, "folds") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model.alpha=interval(0.1,2)",), "space.model.alpha.attributes.high: 1.0 there, 2.0 here"),
        (("model.alpha=interval(0.1,1)", "features=bow"), "features.blocks"),
        (("model.alpha=interval(0.1,1)", "evaluation.primary=val/accuracy"), "objectives"),
        (("model.alpha=interval(0.1,1)", "split_seed=7"), "split_seed: 42 there, 7 here"),
    ],
    ids=["space", "features", "objective", "rows"],
)
def test_a_study_is_gone_on_with_only_by_what_determined_it(searched, change, said):
    base = ("model=multinomial_nb", "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine", *SEARCH[:2])
    other = searched.run(*change, *base)
    assert other.returncode == 2, other.stdout + other.stderr
    assert "The Optuna study 'mine' searches something else" in other.stderr
    assert said in other.stderr


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_project) -> Sweeps:
    """A project with a study of one trial."""
    root = tmp_path_factory.mktemp("searched")
    (root / "extra").mkdir()
    made = Sweeps(make_project(root / "project"), root / "extra")
    words = ("model.alpha=interval(0.1,1)", "model=multinomial_nb", "hydra.sweeper.n_trials=1")
    assert made.run(*words, "hydra.sweeper.study_name=mine", *SEARCH[:2], "tracking=none").returncode == 0
    return made


def test_a_search_ends_with_the_command_that_scores_its_best_trial(searched):
    notes = [
        json.loads(path.read_text())["note"] for path in searched.project.root.glob("outputs/sweeps/*/mlflow.json")
    ]
    assert len(notes) == 1
    assert "`agnews sweeps best " in notes[0]
    assert "--run`" in notes[0]
    assert "--job" not in notes[0], "one goal has one best trial"


@pytest.mark.parametrize(("objectives", "first"), [(["val/f1"], "history"), (["val/f1", "size"], "pareto_front")])
def test_a_search_is_drawn_with_what_matters_first(objectives, first):
    study = optuna.create_study(directions=["maximize", "minimize"][: len(objectives)])
    for number in range(8):
        trial = study.ask()
        c, model = trial.suggest_float("model.C", 0.1, 10, log=True), trial.suggest_categorical("model", ["a", "b"])
        values = [c + 100 * (model == "a"), float(number)]
        study.tell(trial, values[: len(objectives)])
    charts = {chart.name: chart for chart in search_charts(study, objectives)}
    assert next(iter(charts)) == first
    ending = "" if len(objectives) == 1 else "_val-f1"
    (bars,) = charts[f"importances{ending}"].series
    assert set(bars.y) == {"model.C", "model"}
    assert charts[f"slice_model.C{ending}"].log_x
    (dots,) = charts[f"slice_model{ending}"].series
    assert set(dots.y) <= {"a", "b"}


@pytest.mark.slow
def test_a_function_of_the_users_own_adds_to_the_space_once_its_module_is_trusted(sweeps, tmp_path):
    (tmp_path / "my_space.py").write_text(
        "def wider(config, trial):\n"
        "    if trial.params['model.alpha'] > 0.5:\n"
        "        trial.suggest_categorical('model.fit_prior', ['false'])\n"
    )
    words = ("model=multinomial_nb", "model.alpha=choice(0.1,1.0)", "hydra/sweeper/sampler=grid", *SEARCH)
    words += ("hydra.sweeper.n_trials=2", "hydra.sweeper.custom_search_space=my_space.wider")
    path = f"{sweeps.env['PYTHONPATH']}:{tmp_path}"
    refused = sweeps.run(*words, PYTHONPATH=path)
    assert refused.returncode == 2
    assert "AGNEWS_COMPONENTS=my_space" in refused.stderr
    done = sweeps.run(*words, PYTHONPATH=path, AGNEWS_COMPONENTS="my_space")
    assert done.returncode == 0, done.stdout + done.stderr
    configs = [yaml.safe_load(p.read_text())["model"] for p in sorted(sweeps.folder.glob("[0-9]*/config.yaml"))]
    assert {(c["alpha"], c["fit_prior"]) for c in configs} == {(0.1, True), (1.0, False)}


@pytest.mark.slow
def test_a_search_whose_trials_all_failed_has_failed_whatever_rate_is_allowed(sweeps):
    words = ("model=faulty", "model.fault=choice(raise)", *SEARCH, "hydra.sweeper.n_trials=2")
    done = sweeps.run(*words, "hydra.sweeper.max_failure_rate=1.0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "giving up" not in done.stdout + done.stderr
    assert [t.state for t in trials(sweeps)] == [TrialState.FAIL] * 2


@pytest.mark.parametrize(
    ("settings", "attribute", "value"),
    [({"name": "median", "n_startup_trials": 7}, "_n_startup_trials", 7),
     ({"name": "median", "n_warmup_steps": 3}, "_n_warmup_steps", 3),
     ({"name": "median", "interval_steps": 2}, "_interval_steps", 2),
     ({"name": "percentile", "percentile": 10.0}, "_percentile", 10.0),
     ({"name": "hyperband", "min_resource": 2}, "_min_resource", 2),
     ({"name": "hyperband", "max_resource": 9}, "_max_resource", 9),
     ({"name": "successive_halving", "reduction_factor": 5}, "_reduction_factor", 5),
     ({"name": "threshold", "lower": 0.25}, "_lower", 0.25), ({"name": "threshold", "upper": 0.75}, "_upper", 0.75)],
)  # fmt: skip
def test_a_pruners_settings_reach_optuna(settings, attribute, value):
    assert getattr(make_pruner(settings), attribute) == value


@pytest.mark.slow
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
    # A pruned trial ended as it was decided: FINISHED, with a tag that says so.
    assert [c.info.status for c in children] == ["FINISHED"] * 5
    stopped = {int(c.data.tags["sweep.job"]): c for c in children if c.data.tags.get("pruned") == "true"}
    assert sorted(stopped) == sorted(t.number for t in pruned)
    for trial in pruned:
        (step, value), *_ = sorted(trial.intermediate_values.items(), reverse=True)
        assert stopped[trial.number].data.metrics["pruned/val_macro_f1"] == pytest.approx(value)
        assert stopped[trial.number].data.tags["pruned.step"] == str(step)


@pytest.mark.slow
def test_a_search_chooses_among_losses(project, tmp_path):
    done = project.run(
        "-m", "model=tiny", "loss=cross_entropy,focal", "optimizer=adafactor", "data=sample", "trainer=cpu",
        "data_fraction=0.05", "trainer.max_epochs=1", "tracking=none", "evaluation.latency_repeats=0",
        "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=2", *SEARCH,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sweeps = Sweeps(project, tmp_path)
    assert {t.params["loss"] for t in trials(sweeps)} == {"cross_entropy", "focal"}
    stored = [yaml.safe_load(p.read_text())["model"] for p in sweeps.folder.glob("[0-9]*/config.yaml")]
    assert {(m["loss"], m["optimizer"]) for m in stored} == {("cross_entropy", "adafactor"), ("focal", "adafactor")}
