"""Leaderboard and difference of finished runs, on records written as a run writes them."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.compare.difference import difference
from agnews_exp.compare.leaderboard import rank_runs
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.tracking.record import PREDICTIONS, RunFolder
from agnews_exp.tracking.record_files import write_predictions

NAMES = ("a", "b")
TRUTH = np.array([0, 1, 0, 1, 0, 1])


def finished(folder, score, *, answers=TRUTH, split="s1", seed=42, model="logreg", c=1.0):
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.start({"name": model, "seed": seed, "model": {"name": model, "C": c}}, {"packages": {"numpy": "2"}})
    rows = TextRows(list("abcdef"), TRUTH, np.arange(6))
    parts = {"val": rows, "test": rows}
    given = dict.fromkeys(parts, Predictions(np.asarray(answers)))
    write_predictions(folder / PREDICTIONS, parts, given, NAMES)
    result = {"name": model, "model": model, "seed": seed, "data_fraction": 1.0, "class_names": NAMES}
    result["metrics"] = {"val/macro_f1": score, "val/log_loss": 1 - score}
    result["data"] = {"name": "sample", "source": "sample", "evaluation_checksum": split, "rows": {"val": 6, "test": 6}}
    run.finish(result)
    return run


def names(group):
    return [entry.folder.path.name for entry in group]


def test_the_best_run_stands_first_and_runs_judged_on_other_rows_stand_apart(tmp_path):
    runs = [finished(tmp_path / "1", 0.8), finished(tmp_path / "2", 0.9), finished(tmp_path / "3", 0.99, split="s2")]
    groups = rank_runs(runs, "val/macro_f1")
    assert sorted(map(names, groups)) == [["2", "1"], ["3"]]


def test_the_smallest_loss_stands_first(tmp_path):
    runs = [finished(tmp_path / "1", 0.8), finished(tmp_path / "2", 0.9)]
    assert names(rank_runs(runs, "val/log_loss")[0]) == ["2", "1"]


@pytest.mark.parametrize("filters", [["seed=7"], ["model.C=10"], ["model=nb"], ["seed=7", "model.C=10.0"]])
def test_filters_read_the_result_and_the_configuration(tmp_path, filters):
    finished_runs = [finished(tmp_path / "1", 0.8), finished(tmp_path / "2", 0.7, seed=7, model="nb", c=10)]
    assert [names(g) for g in rank_runs(finished_runs, "val/macro_f1", filters)] == [["2"]]


def test_an_unknown_metric_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="val/macro_f1"):
        rank_runs([finished(tmp_path / "1", 0.8)], "val/macrof1")


def test_a_filter_without_equals_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="key=value"):
        rank_runs([], "val/macro_f1", ["logreg"])


def test_difference_names_settings_metrics_and_answers(tmp_path):
    one = finished(tmp_path / "1", 0.8, answers=[0, 1, 0, 1, 1, 0])
    other = finished(tmp_path / "2", 0.9, answers=[0, 1, 0, 0, 0, 0], c=10.0)
    found = difference(one, other)
    assert found.config == {"model.C": ("1.0", "10.0")}
    assert found.metrics["val/macro_f1"] == (0.8, 0.9)
    assert found.answers["test"] == {
        "both right": 3,
        "only the first": 1,
        "only the second": 1,
        "neither": 1,
        "answers differ": 2,
    }


def test_answers_for_other_rows_are_not_compared(tmp_path):
    one, other = finished(tmp_path / "1", 0.8), finished(tmp_path / "2", 0.9, split="s2")
    assert difference(one, other).answers is None


def test_an_unfinished_run_has_no_difference(tmp_path):
    one = finished(tmp_path / "1", 0.8)
    (tmp_path / "2").mkdir()
    with pytest.raises(ConfigError, match="no finished run"):
        difference(one, RunFolder(tmp_path / "2"))
