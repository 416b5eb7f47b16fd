"""Costs of errors: matrices from what users write, the rule chosen on validation rows, and what it is worth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.costs import choose_decision, cost_matrix, judge_costs
from agnews_exp.evaluation.predictions import Predictions

NAMES = ("ham", "spam", "7")


def answers(probabilities: np.ndarray) -> Predictions:
    return Predictions(probabilities.argmax(axis=1), None, probabilities)


def test_costs_are_written_by_class_by_class_and_answer_or_as_a_matrix() -> None:
    assert cost_matrix({"spam": 5}, NAMES).tolist() == [[0, 1, 1], [5, 0, 5], [1, 1, 0]]
    assert cost_matrix({7: {"ham": 3}}, NAMES).tolist() == [[0, 1, 1], [1, 0, 1], [3, 1, 0]]
    assert cost_matrix([[0, 1], [4, -0.0]], ("a", "b")).tolist() == [[0, 1], [4, 0]]
    with pytest.raises(ConfigError, match="'spam'"):
        cost_matrix({"spaam": 5}, NAMES)
    with pytest.raises(ConfigError, match="3 rows of 3"):
        cost_matrix([[0, 1], [1, 0]], NAMES)


def test_a_threshold_of_two_classes_is_as_good_as_the_one_that_scikit_learn_tunes() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import TunedThresholdClassifierCV

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1500)
    x = rng.normal(size=(1500, 3)) + 0.5 * y[:, None]
    model = LogisticRegression(C=0.01).fit(x[:500], y[:500])  # too unsure of itself
    val, test = (answers(model.predict_proba(x[part])) for part in (slice(500, 1000), slice(1000, 1500)))
    for costs in ({"b": 5}, {"a": 3}, [[0.0, 1.0], [20.0, 2.0]], [[1.0, 0.0], [1.0, 0.0]]):
        matrix = cost_matrix(costs, ("a", "b"))
        scorer = make_scorer(lambda t, p, matrix=matrix: -matrix[t, p].mean())
        thresholds = np.append(np.unique(val.probabilities[:, 1]), 1.1)
        tuned = TunedThresholdClassifierCV(model, scoring=scorer, thresholds=thresholds, cv="prefit", refit=False)
        theirs = matrix[y[500:1000], tuned.fit(x[500:1000], y[500:1000]).predict(x[500:1000])].mean()
        decision = choose_decision(y[500:1000], val, matrix)
        ours = matrix[y[500:1000], decision.answers(val)].mean()
        assert ours == pytest.approx(theirs), costs
        found = judge_costs(costs, {"val": y[500:1000], "test": y[1000:]}, {"val": val, "test": test}, ("a", "b"))
        at_test = matrix[y[1000:], decision.answers(test)].mean()
        assert found["splits"]["test"]["chosen"]["estimate"] == pytest.approx(at_test)


def test_several_classes_get_the_answers_of_least_expected_cost_only_where_validation_rows_gain() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.6, 0.6, 0.6], 2000)
    labels = np.array([rng.choice(3, p=row) for row in probabilities])  # calibrated
    given = answers(probabilities)
    parts = {"val": np.arange(1000), "test": np.arange(1000, 2000)}
    truth, split_answers = ({k: of(v) for k, v in parts.items()} for of in (labels.__getitem__, given.take))
    found = judge_costs({"spam": 10}, truth, split_answers, NAMES)
    assert found["rule"] == "expected cost"
    assert found["splits"]["test"]["difference"]["high"] < 0
    assert choose_decision(given.labels, given, cost_matrix({"spam": 10}, NAMES)).rule == "argmax"  # never wrong


@pytest.mark.slow
def test_a_run_with_costs_tells_them_in_the_terminal_and_the_result_and_refuses_unknown_classes(project) -> None:
    words = ("data=sample", "model=multinomial_nb", "evaluation.latency_repeats=0", "tracking.enabled=false")
    done = project.run(*words, "evaluation.costs={Sports: 5}")
    assert done.returncode == 0, done.stderr
    assert "errors cost" in " ".join(done.stdout.split())
    result = project.result(project.run_folders[0])
    test = result["decision"]["splits"]["test"]
    assert result["metrics"]["test/cost"] == test["default"]["estimate"]
    assert test["chosen"]["low"] <= test["chosen"]["estimate"] <= test["chosen"]["high"]
    (project.root / "new.txt").write_text("the team won the match\nshares fell at the bank\n")
    assert result["decision"]["rule"] == "argmax" or (project.run_folders[0] / "model" / "decision.json").is_file()
    sets = project.agnews("predict", str(project.run_folders[0]), "new.txt", "--sets", "0.9")
    assert sets.returncode == 0, sets.stderr
    assert all(
        set(json.loads(json.loads(line)["set"])) <= set(result["class_names"]) for line in sets.stdout.splitlines()
    )
    refused = project.run(*words, "evaluation.costs={Sport: 5}")
    assert refused.returncode == 2
    assert "Did you mean 'Sports'" in refused.stderr
