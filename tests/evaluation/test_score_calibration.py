from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax

from agnews_exp.core.errors import DataError, StorageError
from agnews_exp.evaluation.calibrators import CALIBRATORS
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.score_calibration import (
    ScoreCalibration,
    calibrator_from_json,
    calibrator_to_json,
    load_calibrator,
    save_calibrator,
    score_source,
    scores_for_calibration,
    uncalibrated,
)

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(400, 3)) * 3
LABELS = (RNG.random((400, 1)) > scipy_softmax(SCORES / 2, axis=1).cumsum(axis=1)).sum(axis=1).clip(0, 2)
ANSWER = SCORES.argmax(axis=1)
OWN = scipy_softmax(SCORES, axis=1)
SQUEEZED = (OWN + 0.1) / 1.3


def test_the_source_is_decision_scores_unless_probabilities_say_the_same_or_all():
    assert score_source(Predictions(ANSWER, SCORES)) == "decision_scores"
    assert score_source(Predictions(ANSWER, None, OWN)) == "log_probabilities"
    assert score_source(Predictions(ANSWER, SCORES, OWN)) == "log_probabilities"  # a softmax model's logits
    assert score_source(Predictions(ANSWER, SCORES, SQUEEZED)) == "decision_scores"
    with pytest.raises(DataError, match="labels only"):
        score_source(Predictions(ANSWER))


def test_probabilities_before_are_the_models_own_or_named_as_a_softmax():
    own, name = uncalibrated(Predictions(ANSWER, SCORES, SQUEEZED))
    assert own == pytest.approx(SQUEEZED)
    assert name == "the model's probabilities"
    made, name = uncalibrated(Predictions(ANSWER, SCORES))
    assert made == pytest.approx(OWN)
    assert name == "softmax of decision scores"
    with pytest.raises(DataError, match="labels only"):
        uncalibrated(Predictions(ANSWER))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_calibrator_comes_back_from_json_with_the_same_probabilities(name, tmp_path):
    fitted = CALIBRATORS[name]().fit(SCORES, LABELS)
    restored = calibrator_from_json(json.loads(json.dumps(calibrator_to_json(fitted), allow_nan=False)))
    assert type(restored) is type(fitted)
    assert np.array_equal(restored.predict_proba(SCORES), fitted.predict_proba(SCORES))
    path = tmp_path / "calibrator.json"
    save_calibrator(path, ScoreCalibration(name, "decision_scores", fitted, ("a", "b", "c")))
    loaded = load_calibrator(path)
    applied = loaded.apply(Predictions(ANSWER, SCORES))
    assert (loaded.name, loaded.class_names) == (name, ("a", "b", "c"))
    assert np.array_equal(applied.probabilities, fitted.predict_proba(SCORES))
    assert np.array_equal(applied.labels, fitted.predict_proba(SCORES).argmax(axis=1))
    assert applied.scores is not None


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_calibrator_that_missed_a_class_comes_back_too(name):
    kept = LABELS != 1
    fitted = CALIBRATORS[name]().fit(SCORES[kept], LABELS[kept])
    stored = json.loads(json.dumps(calibrator_to_json(fitted)))
    assert np.array_equal(calibrator_from_json(stored).predict_proba(SCORES), fitted.predict_proba(SCORES))
    stored["parameters"]["seen_"] = [0, 7]
    with pytest.raises(StorageError):
        calibrator_from_json(stored)


def test_log_probabilities_are_taken_where_the_calibrator_was_fitted_on_them():
    answers = Predictions(ANSWER, SCORES, OWN)
    fitted = CALIBRATORS["vector"]().fit(np.log(OWN), LABELS)
    chosen = ScoreCalibration("vector", "log_probabilities", fitted, ("a", "b", "c"))
    assert chosen.probabilities(answers) == pytest.approx(fitted.predict_proba(np.log(OWN)))
    with pytest.raises(DataError, match="takes log_probabilities, but the model's answers have none"):
        chosen.probabilities(Predictions(ANSWER, SCORES))
    with pytest.raises(DataError, match="takes decision_scores"):
        scores_for_calibration(Predictions(ANSWER, None, OWN), "decision_scores")


def test_no_calibrator_leaves_answers_as_they_are(tmp_path):
    path = tmp_path / "calibrator.json"
    save_calibrator(path, ScoreCalibration("none", "decision_scores", None, ("a", "b", "c")))
    other = (ANSWER + 1) % 3
    applied = load_calibrator(path).apply(Predictions(other, SCORES, SQUEEZED))
    assert np.array_equal(applied.labels, other)
    assert applied.probabilities == pytest.approx(SQUEEZED)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 9},
        {"source": "margins"},
        {"class_names": ["a", "b"]},
        {"calibrator": {"name": "temperature", "n_classes": 3, "parameters": {"temperature_": -1.0}}},
        {"calibrator": {"name": "temperature", "n_classes": 3, "parameters": {}}},
        {
            "calibrator": {
                "name": "vector",
                "n_classes": 3,
                "parameters": {"weights_": [1, 1, float("inf")], "biases_": [0, 0, 0]},
            }
        },
        {"calibrator": {"name": "vector", "n_classes": 3, "parameters": {"weights_": [1, 1], "biases_": [0, 0, 0]}}},
        {"calibrator": {"name": "magic", "n_classes": 3, "parameters": {}}},
    ],
)
def test_a_damaged_file_is_refused_with_its_name(change, tmp_path):
    path = tmp_path / "calibrator.json"
    fitted = CALIBRATORS["temperature"]().fit(SCORES, LABELS)
    save_calibrator(path, ScoreCalibration("temperature", "decision_scores", fitted, ("a", "b", "c")))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StorageError, match=r"calibrator\.json is damaged"):
        load_calibrator(path)
    path.write_text("{")
    with pytest.raises(StorageError, match="is damaged"):
        load_calibrator(path)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(StorageError, match="agnews calibrate"):
        load_calibrator(tmp_path / "calibrator.json")


def test_only_our_calibrators_can_be_stored():
    class Other(CALIBRATORS["temperature"]):
        pass

    with pytest.raises(DataError, match="Other is not one of platt"):
        calibrator_to_json(Other().fit(SCORES, LABELS))
