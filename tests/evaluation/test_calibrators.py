from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.calibrators import (
    CALIBRATORS,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    log_probabilities,
    softmax,
)


class GivenScores(ClassifierMixin, BaseEstimator):
    """A classifier whose decision values are its input, for scikit-learn to calibrate."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X if X.shape[1] > 2 else X[:, 1] - X[:, 0]

    def predict(self, X):
        return X.argmax(axis=1)


def scored(seed=0, n=3000, k=4, temperature=2.5, shift=0.0):
    """Return (scores, labels): labels follow softmax(scores / temperature + shift * class)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, k)) * 4
    p = scipy_softmax(scores / temperature + shift * np.arange(k), axis=1)
    return scores, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(("name", "method"), [("platt", "sigmoid"), ("isotonic", "isotonic"), ("temperature",) * 2])
def test_probabilities_equal_those_of_scikit_learn(name, method, k):
    scores, y = scored(k=k)
    new, _ = scored(1, n=500, k=k)
    if k == 2:  # both read one margin
        scores, new = ((s[:, 1] - s[:, 0]) for s in (scores, new))
        theirs_in = [np.stack([-s / 2, s / 2], axis=1) for s in (scores, new)]
    else:
        theirs_in = [scores, new]
    theirs = CalibratedClassifierCV(FrozenEstimator(GivenScores().fit(theirs_in[0], y)), method=method, cv=2)
    # With a frozen estimator each fold fits its own calibrator and the folds are averaged: close, not equal.
    theirs.fit(theirs_in[0], y)
    expected = theirs.predict_proba(theirs_in[1])
    ours = CALIBRATORS[name]().fit(scores, y).predict_proba(new)
    assert np.abs(ours - expected).mean() < (0.02 if name == "isotonic" else 0.01)


def test_platt_minimises_platts_own_objective():
    scores, y = scored(2, n=400)
    fitted = PlattScaling().fit(scores, y)
    for k in range(4):
        positive = y == k
        n_positive, n_negative = positive.sum(), (~positive).sum()
        # The same optimum by weighted logistic regression: each item counts as t positive and 1 - t negative.
        target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)
        model.fit(
            np.concatenate([scores[:, [k]]] * 2),
            np.repeat([1, 0], 400),
            sample_weight=np.concatenate([target, 1 - target]),
        )
        assert fitted.slopes_[k] == pytest.approx(model.coef_[0, 0], rel=1e-4)
        assert fitted.intercepts_[k] == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-4)


def test_temperature_finds_the_temperature_that_made_the_labels():
    scores, y = scored(3, n=20_000, temperature=2.5)
    assert TemperatureScaling().fit(scores, y).temperature_ == pytest.approx(2.5, rel=0.05)
    assert TemperatureScaling().fit(scores * 1000, y).temperature_ == pytest.approx(2500, rel=0.05)


def test_vector_scaling_finds_the_scale_and_the_shift():
    scores, y = scored(4, n=20_000, temperature=2.0, shift=0.5)
    fitted = VectorScaling().fit(scores, y)
    assert fitted.weights_ == pytest.approx(np.full(4, 0.5), abs=0.03)
    assert fitted.biases_ == pytest.approx(0.5 * (np.arange(4) - 1.5), abs=0.1)


@pytest.mark.parametrize("name", ["temperature", "vector"])
def test_no_small_change_of_the_parameters_lowers_the_loss(name):
    scores, y = scored(5, n=800, shift=0.3)
    fitted = CALIBRATORS[name]().fit(scores, y)
    best = log_loss(y, fitted.predict_proba(scores))
    attributes = ("temperature_",) if name == "temperature" else ("weights_", "biases_")
    for attribute in attributes:
        kept = getattr(fitted, attribute)
        for change in (-1e-2, 1e-2):
            for index in range(np.size(kept)):
                moved = np.array(kept, dtype=float, copy=True).reshape(-1)
                moved[index] += change
                setattr(fitted, attribute, moved if np.ndim(kept) else float(moved[0]))
                assert log_loss(y, fitted.predict_proba(scores)) > best
        setattr(fitted, attribute, kept)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_each_calibrator_improves_overconfident_scores_on_unseen_rows(name):
    scores, y = scored(6)
    new, new_y = scored(7, n=5000)
    before, after = softmax(new), CALIBRATORS[name]().fit(scores, y).predict_proba(new)
    assert after.sum(axis=1) == pytest.approx(np.ones(5000))
    assert log_loss(new_y, after) < log_loss(new_y, before) - 0.05


def test_temperature_changes_no_prediction():
    scores, y = scored(8)
    assert np.array_equal(
        TemperatureScaling().fit(scores, y).predict_proba(scores).argmax(axis=1), scores.argmax(axis=1)
    )


def test_isotonic_is_monotone_and_interpolates():
    scores, y = scored(9, k=2)
    margin = scores[:, 1] - scores[:, 0]
    fitted = IsotonicCalibration().fit(margin, y)
    p = fitted.predict_proba(np.linspace(margin.min() - 5, margin.max() + 5, 400))[:, 1]
    assert np.all(np.diff(p) >= -1e-12)
    assert all(np.all(np.diff(thresholds) > 0) for thresholds in fitted.thresholds_)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_binary_margin_is_read_the_same_in_each_shape(name):
    scores, y = scored(10, k=2)
    margin = scores[:, 1] - scores[:, 0]
    flat, column = (CALIBRATORS[name]().fit(m, y).predict_proba(m) for m in (margin, margin[:, None]))
    assert np.array_equal(flat, column)
    assert flat.shape == (3000, 2)
    assert np.corrcoef(flat[:, 1], margin)[0, 1] > 0.8


@pytest.mark.parametrize("name", CALIBRATORS)
def test_separated_classes_and_absent_classes_give_finite_probabilities(name):
    y = np.array([0, 1] * 20)
    scores = np.eye(3)[y] * 6
    p = CALIBRATORS[name]().fit(scores, y).predict_proba(np.vstack([scores, np.zeros((1, 3))]))
    assert np.isfinite(p).all()
    assert p.sum(axis=1) == pytest.approx(np.ones(41))
    assert np.array_equal(p[:40].argmax(axis=1), y)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrators_follow_scikit_learns_conventions_and_skops_keeps_them(name):
    io = pytest.importorskip("skops.io")
    scores, y = scored(11)
    unfitted = CALIBRATORS[name]()
    fitted = clone(unfitted).fit(scores, y)
    assert fitted.get_params() == unfitted.get_params()
    assert fitted.classes_.tolist() == [0, 1, 2, 3]
    stored = io.dumps(fitted)
    own = [kind for kind in io.get_untrusted_types(data=stored) if kind.startswith("agnews_exp.")]
    assert len(own) == 1  # nothing but the class itself needs trust
    restored = io.loads(stored, trusted=own)
    assert np.array_equal(restored.predict_proba(scores), fitted.predict_proba(scores))


def test_probabilities_become_scores_through_their_logarithm():
    scores, y = scored(12)
    p = softmax(scores)
    assert softmax(log_probabilities(p)) == pytest.approx(p, abs=1e-9)
    by_scores, by_probabilities = (TemperatureScaling().fit(s, y) for s in (scores, log_probabilities(p, 1e-300)))
    assert by_scores.temperature_ == pytest.approx(by_probabilities.temperature_, rel=1e-4)


def test_what_cannot_be_calibrated_is_refused():
    scores, y = scored(13, n=50)
    with pytest.raises(DataError, match="50 rows, but there are 49 labels"):
        PlattScaling().fit(scores, y[:-1])
    with pytest.raises(DataError, match="two classes or more"):
        PlattScaling().fit(scores, np.zeros(50, dtype=int))
    with pytest.raises(DataError, match="class index 3, but scores has 2 columns"):
        PlattScaling().fit(scores[:, :2], np.full(50, 3))
    with pytest.raises(DataError, match="fitted on 4 classes, got 3"):
        PlattScaling().fit(scores, y).predict_proba(scores[:, :3])
    with pytest.raises(DataError, match="not finite"):
        TemperatureScaling().fit(np.where(scores > 0, -np.inf, scores), y)
