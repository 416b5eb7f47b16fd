"""Answers have the study's shape whatever the estimator offers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC

from agnews_exp.models.answers import predict_matrix

RNG = np.random.default_rng(0)


def data(n_classes):
    y = np.arange(60) % n_classes
    return RNG.normal(size=(60, 3)) + y[:, None], y


@pytest.mark.parametrize("model", [LogisticRegression(), LinearSVC(), RidgeClassifier(), DummyClassifier()])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_shapes_and_order(model, n_classes):
    x, y = data(n_classes)
    answers = predict_matrix(model.fit(x, y), x, n_classes)
    assert answers.labels.shape == (60,)
    for values in (answers.scores, answers.probabilities):
        if values is not None:
            assert values.shape == (60, n_classes)
            np.testing.assert_array_equal(values.argmax(axis=1), answers.labels)
    assert answers.scores is not None or answers.probabilities is not None


def test_class_that_training_never_saw_gets_probability_zero_and_the_lowest_score():
    x, y = data(3)
    keep = y != 1
    answers = predict_matrix(LogisticRegression().fit(x[keep], y[keep]), x, 4)
    assert answers.probabilities[:, [1, 3]].max() == 0.0
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1.0)
    assert (answers.scores[:, [1, 3]].max(axis=1) < answers.scores[:, [0, 2]].min(axis=1)).all()


def test_pairwise_scores_are_not_mistaken_for_class_scores():
    x, y = data(4)
    answers = predict_matrix(SVC(decision_function_shape="ovo").fit(x, y), x, 4)
    assert answers.scores is None
