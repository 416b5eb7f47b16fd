"""The calibration analysis on a real, small model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from agnews_exp.analyses.calibration import CALIBRATOR, analyse
from agnews_exp.analyses.findings import to_markdown
from agnews_exp.core.errors import DataError
from agnews_exp.drawing import Chart, vega
from agnews_exp.evaluation.calibrators import softmax
from agnews_exp.evaluation.conformal import prediction_sets
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.score_calibration import load_calibrator

FAST = {"resamples": 200, "simulations": 100}


@pytest.fixture(scope="module")
def svc(fit, tmp_path_factory):
    context = fit(tmp_path_factory.mktemp("calibration"), "features=word_tfidf", "model=linear_svc")
    return context, analyse(context, **FAST)


def test_a_model_with_scores_only_is_reported_before_as_softmax_and_after(svc):
    context, findings = svc
    assert context.answers["test"].probabilities is None
    said = to_markdown(findings.blocks)
    assert "before: softmax of decision scores" in said
    assert "no claim that the model makes" in said
    assert findings.metrics["test/nll_after"] < findings.metrics["test/nll_before"]
    assert findings.metrics["test/ece_after"] < findings.metrics["test/ece_before"]
    assert {f"test/nll_{name}" for name in ("platt", "isotonic", "temperature", "vector")} <= set(findings.metrics)
    assert all(np.isfinite(value) for value in findings.metrics.values())
    charts = {block.name: block for block in findings.blocks if isinstance(block, Chart)}
    assert set(charts) == {"reliability_before", "reliability_after", "confidences", "reliability_by_class"}
    right = [series for series in charts["confidences"].series if series.name == "right"]
    assert sum(right[0].y) == (context.answers["test"].labels == context.splits.test.labels).sum()
    assert all(vega(chart) for chart in charts.values())
    json.dumps(findings.details, allow_nan=False)


def test_the_stored_calibrator_gives_the_reported_numbers(svc):
    context, findings = svc
    chosen = load_calibrator(context.folder / CALIBRATOR)
    assert chosen.class_names == context.splits.class_names
    p = chosen.probabilities(context.answers["test"])
    assert log_loss(context.splits.test.labels, p) == pytest.approx(findings.metrics["test/nll_after"])
    table = next(block for block in findings.blocks if block.name == "calibration")
    assert [row[0] for row in table.rows if row[1] == "chosen"] == [chosen.name]
    assert findings.details["chosen"] == chosen.name


def test_prediction_sets_are_measured_on_test_and_their_thresholds_are_stored(svc):
    context, findings = svc
    labels = context.splits.test.labels
    stored = findings.details["sets"]["lac"]
    sets = prediction_sets(softmax(context.answers["test"].scores), stored["thresholds"], "lac")
    assert findings.metrics["test/set_coverage_lac"] == pytest.approx(sets[np.arange(len(labels)), labels].mean())
    assert findings.metrics["test/set_size_lac"] == pytest.approx(sets.sum(axis=1).mean())
    assert 0.9 < findings.metrics["test/set_coverage_lac"] < 1
    table = next(block for block in findings.blocks if getattr(block, "name", "") == "prediction_sets")
    assert [row[0] for row in table.rows] == ["lac", "class", "aps"]


def test_rows_of_validation_are_divided_by_split_seed_and_not_by_seed(svc):
    context, findings = svc
    assert findings.details["seed"] == context.checked.run.split_seed
    n = len(context.splits.validation)
    assert findings.details["n_fit"] + findings.details["n_choose"] == n
    assert abs(findings.details["n_fit"] - n / 2) <= len(context.splits.class_names)


def test_a_models_own_probabilities_are_the_before(fit, tmp_path):
    context = fit(tmp_path, "features=word_tfidf", "model=multinomial_nb")
    findings = analyse(context, **FAST, calibrators=("temperature",), sets=None)
    own = log_loss(context.splits.test.labels, context.answers["test"].probabilities)
    assert findings.metrics["test/nll_before"] == pytest.approx(own)
    assert findings.details["before_is"] == "the model's probabilities"
    assert "test/nll_platt" not in findings.metrics
    assert "test/set_size_lac" not in findings.metrics


def test_a_model_with_labels_only_is_refused_with_a_way_out(svc, tmp_path):
    context = replace(svc[0], folder=tmp_path)
    bare = {name: Predictions(answer.labels) for name, answer in context.answers.items()}
    with pytest.raises(DataError, match="labels only") as refused:
        analyse(replace(context, answers=bare), **FAST)
    assert "model=logreg" in str(refused.value)
    assert not list(tmp_path.iterdir())
