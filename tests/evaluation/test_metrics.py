"""Metrics agree with scikit-learn's and survive odd splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from agnews_exp.evaluation.metrics import (
    classification_metrics,
    classification_report_table,
    confusion_matrix,
    macro_f1,
)
from agnews_exp.evaluation.predictions import Predictions

NAMES = ("World", "Sports", "Business", "Sci/Tech")


def test_metrics_equal_scikit_learns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    probabilities = rng.dirichlet(np.ones(4), 500)
    y_pred = probabilities.argmax(axis=1)
    ours = classification_metrics(y, Predictions(y_pred, None, probabilities), NAMES)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, y_pred))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(y, y_pred, average="macro"))
    assert ours["weighted_f1"] == pytest.approx(sk.f1_score(y, y_pred, average="weighted"))
    assert ours["micro_f1"] == pytest.approx(sk.f1_score(y, y_pred, average="micro"))
    assert ours["cohen_kappa"] == pytest.approx(sk.cohen_kappa_score(y, y_pred))
    assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(y, y_pred))
    assert ours["log_loss"] == pytest.approx(sk.log_loss(y, probabilities))
    assert ours["recall/Sci_Tech"] == pytest.approx(sk.recall_score(y, y_pred, average=None)[3])
    np.testing.assert_array_equal(confusion_matrix(y, y_pred, 4), sk.confusion_matrix(y, y_pred))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_every_number_is_the_one_that_scikit_learn_gives(pairs):
    y, y_pred = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    ours = classification_metrics(y, Predictions(y_pred), NAMES)
    labels = range(4)
    parts = sk.precision_recall_fscore_support(y, y_pred, labels=labels, zero_division=0.0)
    for metric, values in zip(("precision", "recall", "f1"), parts, strict=False):
        assert [v for k, v in ours.items() if k.startswith(f"{metric}/")] == values.tolist()
    assert ours["macro_f1"] == sk.f1_score(y, y_pred, labels=labels, average="macro", zero_division=0.0)
    assert macro_f1(y, y_pred, 4) == ours["macro_f1"]
    assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(y, y_pred), abs=1e-12)
    if len(np.unique([y, y_pred])) > 1:
        assert ours["cohen_kappa"] == pytest.approx(sk.cohen_kappa_score(y, y_pred, labels=labels), abs=1e-12)
    else:
        assert ours["cohen_kappa"] == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_metrics_are_finite_and_the_matrix_counts_every_row(pairs):
    y, y_pred = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    values = classification_metrics(y, Predictions(y_pred), NAMES)
    assert all(math.isfinite(v) for v in values.values())
    assert "log_loss" not in values
    assert confusion_matrix(y, y_pred, 4).sum() == len(pairs)


def test_class_without_rows_counts_as_zero_in_macro_f1():
    y = np.array([0, 0, 1, 1])
    values = classification_metrics(y, Predictions(y), NAMES)
    assert values["macro_f1"] == pytest.approx(0.5)
    assert values["f1/Business"] == 0.0


def test_report_has_a_row_a_class_and_the_average():
    y = np.array([0, 1, 2, 3, 3])
    table = classification_report_table(y, Predictions(y), NAMES)
    assert [row["class"] for row in table] == [*NAMES, "macro average"]
    assert [row["support"] for row in table] == [1, 1, 1, 2, 5]
