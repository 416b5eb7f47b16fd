"""The recipe "Adding a metric" of CONTRIBUTING.md: one function, and every reader of a metric knows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agnews_exp.evaluation.metrics import METRICS
from agnews_exp.sweeps.search import check_settings
from agnews_exp.sweeps.sweepers import SearchSweeper

RECIPE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a metric")[2]
LOSS = """

@metric(title="share of misses", greater_is_better=False)
def misses(y_true, y_pred, probabilities):
    return float((y_true != y_pred).mean())
"""
WORDS = ("data=sample", "features=word_tfidf", "evaluation.latency_repeats=0", "tracking.enabled=false")


@pytest.fixture
def environment(tmp_path):
    """The recipe's module in a folder of its own, trusted and found by the environment alone."""
    (source,) = re.findall(r"```python\n# my_metrics.py\n(.*?)```", RECIPE.partition("\n## ")[0], re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(source + LOSS)
    return {"AGNEWS_COMPONENTS": "my_metrics", "PYTHONPATH": str(tmp_path)}


@pytest.mark.slow
def test_a_metric_of_ones_own_is_in_the_result_the_leaderboard_the_comparison_and_the_report(project, environment):
    metrics = "evaluation.metrics=[my_metrics.worst_recall,my_metrics.misses]"
    for name in ("logreg", "linear_svc"):
        words = (f"model={name}", f"name={name}", "evaluation.primary=val/misses", metrics)
        done = project.run(*WORDS, *words, env=environment)
        assert done.returncode == 0, done.stderr
        assert "worst_recall" in done.stdout
    results = {result["name"]: result for result in map(project.result, project.run_folders)}
    for result in results.values():
        values = result["metrics"]
        recalls = [v for k, v in values.items() if k.startswith("test/recall/")]
        assert values["test/worst_recall"] == min(recalls)
        assert values["val/misses"] == pytest.approx(1 - values["val/accuracy"])
        assert result["objective"] == values["val/misses"]
    ranked = project.agnews("top", "--metric", "val/misses", "--json")  # without the module: the record says enough
    shown = [entry["metrics"]["val/misses"] for entry in json.loads(ranked.stdout)]
    assert len(shown) == 2
    assert shown == sorted(shown)
    words = ("logreg", "linear_svc", "--metric", "worst_recall", "--metric", "log_loss", "--resamples", "200")
    refused = project.agnews("compare", *words, env=environment)
    assert "needs probabilities, and one of the models gives none" in refused.stderr
    done = project.agnews("compare", *words[:4], *words[6:], env=environment)
    assert done.returncode == 0, done.stderr
    (found,) = (project.root / "outputs" / "comparisons").glob("*/comparison.json")
    difference = json.loads(found.read_text())["pairs"][0]["metrics"]["worst_recall"]["bootstrap"]["difference"]
    expected = [results[name]["metrics"]["test/worst_recall"] for name in ("logreg", "linear_svc")]
    assert difference["estimate"] == pytest.approx(expected[0] - expected[1])
    assert project.agnews("report").returncode == 0
    (page,) = (project.root / "outputs" / "reports").glob("*/report.html")
    assert "share of misses" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_search_goes_the_way_that_the_metric_says(project, environment):
    words = ("model=multinomial_nb", "model.alpha=tag(log,interval(0.001,1000))", "sweep.name=search")
    search = ("hydra/sweeper=optuna", "hydra.sweeper.plots=false", "hydra.sweeper.n_trials=3")
    goal = ("evaluation.primary=val/misses", "evaluation.metrics=[my_metrics.misses]")
    done = project.run("-m", *WORDS, *words, *search, *goal, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.root / "outputs" / "sweeps" / "search"
    values = [json.loads(p.read_text())["metrics"]["val/misses"] for p in folder.glob("*/result.json")]
    assert len(values) == 3
    (best,) = json.loads((folder / "best.json").read_text())["best"]
    assert best["values"] == {"val/misses": min(values)}


@pytest.mark.parametrize(
    ("objective", "direction"),
    [("val/misses", "minimize"), ("val/f1/Greece", "maximize"), ("val/log_loss", "minimize"), ("time/fit", "minimize")],
)
def test_the_direction_of_an_objective_comes_from_the_register(objective, direction):
    sweeper = SearchSweeper(sampler={"_target_": "optuna.samplers.TPESampler", "seed": 1})
    settings = check_settings(sweeper.settings | {"objectives": [objective]}, "val/macro_f1", {"misses": False})
    assert settings.directions == [direction]


def test_every_metric_of_the_register_is_told_completely():
    for name, entry in METRICS.items():
        assert (entry.name, bool(entry.title)) == (name, True)
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
