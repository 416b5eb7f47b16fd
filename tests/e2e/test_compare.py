"""`agnews compare` on runs made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

FAST = ("data=sample", "features=word_tfidf", "evaluation.latency_repeats=0")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, make_project):
    project = make_project(tmp_path_factory.mktemp("compare") / "project")
    for model in ("multinomial_nb", "dummy"):
        done = project.run(*FAST, f"model={model}", "evaluation=cv", "evaluation.folds=4", "tracking.log_model=false",
                           "tracking.system_metrics=false")  # fmt: skip
        assert done.returncode == 0, done.stderr
    return project


def logged(run, name):
    return (Path(run.info.artifact_uri.removeprefix("file://")) / name).read_text()


def test_two_runs_are_compared_by_name_with_numbers_that_follow_from_their_predictions(two_runs, tmp_path):
    done = two_runs.agnews("compare", "multinomial_nb-word_tfidf", "dummy-word_tfidf", "--resamples", "500",
                           "--output", str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (pair,) = json.loads((tmp_path / "comparison.json").read_text())["pairs"]
    answers = {}
    for folder in two_runs.run_folders:
        table = pq.read_table(folder / "predictions.parquet").to_pandas().query("split == 'test'").sort_values("row_id")
        answers[two_runs.result(folder)["model"]] = table
    bayes, dummy = answers["multinomial_nb"], answers["dummy"]
    right = bayes["prediction"].to_numpy() == bayes["label"].to_numpy()
    chance = dummy["prediction"].to_numpy() == dummy["label"].to_numpy()
    assert pair["counts"]["only_a"] == (right & ~chance).sum()
    assert pair["counts"]["only_b"] == (~right & chance).sum()
    found = pair["metrics"]["macro_f1"]["bootstrap"]["a"]["estimate"]
    assert found == pytest.approx(f1_score(bayes["label"], bayes["prediction"], average="macro"))
    assert "has a higher macro_f1 than" in " ".join(done.stdout.split())
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "McNemar" in (tmp_path / "comparison.md").read_text()


@pytest.mark.slow
def test_runs_are_found_by_mlflow_id_filter_and_folder_and_the_comparison_is_logged(two_runs):
    ids = [run.info.run_id for run in two_runs.mlflow_runs()]
    by_id = two_runs.agnews("compare", *ids, "--resamples", "200", "--mlflow", "--split", "cv")
    assert by_id.returncode == 0, by_id.stderr
    assert "Nadeau-Bengio" in by_id.stdout
    (run,) = (r for r in two_runs.mlflow_runs() if r.info.run_name == "comparison")
    assert run.info.status == "FINISHED"
    by_name = {two_runs.result(f)["name"]: two_runs.result(f)["folds"]["macro_f1"] for f in two_runs.run_folders}
    first, second = (np.array(by_name[r]) for r in json.loads(logged(run, "comparison.json"))["runs"])
    assert run.data.metrics["difference_folds/macro_f1"] == pytest.approx(np.mean(first - second))
    assert {"difference/accuracy", "p_holm", "p_folds/accuracy"} <= set(run.data.metrics)
    by_filter = two_runs.agnews("compare", "metrics.`test/macro_f1` > 0", "--resamples", "200")
    assert by_filter.returncode == 0, by_filter.stderr
    by_folder = two_runs.agnews("compare", *map(str, two_runs.run_folders), "--resamples", "200", "--split", "val")
    assert by_folder.returncode == 0, by_folder.stderr
    assert "600 val rows" in by_folder.stdout


@pytest.mark.parametrize(
    ("change", "reason"), [("split_seed=7", "another split"), ("data.validation_size=0.2", "another split")]
)
def test_runs_on_different_splits_are_refused_with_the_reason(project, change, reason):
    assert project.run(*FAST, "model=dummy", "tracking=none").returncode == 0
    assert project.run(*FAST, "model=dummy", "tracking=none", change, "name=other").returncode == 0
    done = project.agnews("compare", "dummy-word_tfidf", "other")
    assert done.returncode == 2
    assert reason in done.stderr
    assert "do not compare" in done.stderr


def test_unknown_run_suggests_the_nearest_name(two_runs):
    done = two_runs.agnews("compare", "multinomial-word_tfidf", "dummy-word_tfidf")
    assert done.returncode == 2
    assert "Did you mean 'multinomial_nb-word_tfidf'?" in done.stderr


def test_one_run_is_not_a_comparison(two_runs):
    done = two_runs.agnews("compare", "dummy-word_tfidf")
    assert done.returncode == 2
    assert "at least two" in done.stderr
