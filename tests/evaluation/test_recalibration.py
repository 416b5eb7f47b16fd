from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax

from agnews_exp.config.errors import ConfigError
from agnews_exp.evaluation.calibrators import softmax
from agnews_exp.evaluation.proper_scores import brier_score, negative_log_likelihood
from agnews_exp.evaluation.recalibration import calibrate


def scored(seed, n):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3)) * 4
    p = scipy_softmax(scores / 3, axis=1)
    return scores, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)


@pytest.mark.parametrize("name", ["platt", "isotonic", "temperature", "vector"])
def test_calibration_is_reported_before_and_after_on_other_rows(name):
    (fit_scores, fit_labels), (scores, labels) = scored(0, 2000), scored(1, 3000)
    calibrator, change = calibrate(name, fit_scores, fit_labels, scores, labels, resamples=500)
    after = calibrator.predict_proba(scores)
    assert (change.calibrator, change.n_fit, change.before.n_items) == (name, 2000, 3000)
    # One class against the rest cannot undo a softmax: Platt and isotonic gain, temperature and vector scaling cure.
    assert change.after.ece < change.before.ece * (0.25 if name in ("temperature", "vector") else 0.8)
    assert change.nll.difference.estimate == pytest.approx(
        negative_log_likelihood(labels, after) - negative_log_likelihood(labels, softmax(scores))
    )
    assert change.brier.difference.estimate == pytest.approx(
        brier_score(labels, after) - brier_score(labels, softmax(scores))
    )
    assert change.nll.difference.percentile[1] < 0
    assert (change.changed_predictions == 0) == (name == "temperature")
    json.dumps(change.to_dict(), allow_nan=False)


def test_the_models_own_probabilities_can_stand_for_before():
    (fit_scores, fit_labels), (scores, labels) = scored(2, 500), scored(3, 500)
    own = scipy_softmax(scores / 3, axis=1)
    _, change = calibrate(
        "temperature", fit_scores, fit_labels, scores, labels, probabilities=own, class_names=("a", "b", "c")
    )
    assert change.before.nll == pytest.approx(negative_log_likelihood(labels, own))
    assert set(change.before.classwise_ece_by_class) == {"a", "b", "c"}


def test_an_unknown_calibrator_names_the_nearest():
    scores, labels = scored(4, 100)
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        calibrate("temprature", scores, labels, scores, labels)
