"""Early answers of classical models: what is tried, and that the model itself is not touched."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from agnews_exp.core.errors import Pruned
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import find_metric
from agnews_exp.models.answers import predict_matrix
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.sklearn_runner import report_rungs

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def rows():
    """400 training and 120 validation rows of four classes that overlap."""
    rng = np.random.default_rng(0)
    labels = np.arange(520) % 4
    matrix = np.abs(rng.normal(size=(520, 6)) + np.eye(4, 6)[labels] * 4)
    return matrix[:400], labels[:400], matrix[400:], labels[400:]


def reported(model, rows, heard=None, stop_at=None, metric="macro_f1"):
    """What a search hears of a model: one score a step."""
    matrix, labels, held_out, truth = rows
    heard = [] if heard is None else heard

    def listen(step, value):
        heard.append((step, value))
        if step == stop_at:
            raise Pruned(step, value)

    validation = TextRows(tuple(map(str, range(len(truth)))), truth, np.arange(len(truth)))
    report_rungs(
        model, matrix, labels, validation, lambda texts: held_out[[int(t) for t in texts]],
        lambda fitted, x: predict_matrix(fitted, x, 4), CLASSES, find_metric(metric), Stages(quiet=True, report=listen),
    )  # fmt: skip
    return heard


def test_gradient_descent_reports_its_first_three_epochs_over_all_rows(rows):
    matrix, labels, held_out, truth = rows
    model = SGDClassifier(loss="log_loss", random_state=3)
    expected, copy = [], clone(model)
    for _ in range(3):
        copy.partial_fit(matrix, labels, classes=np.arange(4))
        expected.append(f1_score(truth, copy.predict(held_out), average="macro"))
    heard = reported(model, rows)
    assert [step for step, _ in heard] == [0, 1, 2]
    assert [score for _, score in heard] == pytest.approx(expected)
    assert len(set(expected)) > 1
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"class_weight": "balanced"}, {"average": True}])
def test_gradient_descent_can_be_tried_whatever_its_options(rows, options):
    model = SGDClassifier(random_state=3, **options)
    assert [step for step, _ in reported(model, rows)] == [0, 1, 2]
    assert {k: model.get_params()[k] for k in options} == options


@pytest.mark.parametrize("model", [LogisticRegression(), MultinomialNB()])
def test_other_models_report_fits_on_a_tenth_and_three_tenths_of_the_rows(rows, model):
    heard = reported(model, rows)
    assert [step for step, _ in heard] == [0, 1]
    assert all(0.3 < score <= 1 for _, score in heard)
    assert not hasattr(model, "classes_")


def test_a_trial_that_is_given_up_does_no_further_epoch(rows):
    heard = []
    with pytest.raises(Pruned):
        reported(SGDClassifier(random_state=3), rows, heard, stop_at=1)
    assert [step for step, _ in heard] == [0, 1]


def test_a_share_that_lacks_a_class_is_left_out(rows):
    matrix, labels, held_out, truth = rows
    order = np.random.default_rng(0).permutation(400)
    rare = np.where(labels == 3, 2, labels)
    rare[order[100]] = 3  # behind the first tenth, among the first three tenths
    assert [step for step, _ in reported(LogisticRegression(), (matrix, rare, held_out, truth))] == [1]


def global_random_state() -> list[int]:
    """Key and position of numpy's global generator."""
    _, key, position, *_ = np.random.get_state()  # noqa: NPY002
    return [*key.tolist(), position]


@pytest.mark.parametrize("model", [SGDClassifier(max_iter=1), RandomForestClassifier(2)])
def test_the_real_fit_finds_the_global_random_state_and_the_warnings_as_without_a_search(rows, model):
    before = global_random_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert reported(model, rows)
    assert global_random_state() == before
    assert caught == []


def test_a_metric_that_the_model_cannot_give_is_not_reported(rows):
    assert reported(LinearSVC(), rows, metric="log_loss") == []
