"""Planted wrong labels are among the candidates."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from agnews_exp.analyses.errors.confusions import find_label_noise
from agnews_exp.core.errors import MissingDependencyError

installed = importlib.util.find_spec("cleanlab") is not None


def good_model(n: int = 600, seed: int = 0):
    """Return (true classes, probabilities) of a model that is nearly always right and mostly sure."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, n)
    scores = rng.normal(size=(n, 3))
    scores[np.arange(n), true] += 4.0
    return true, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@pytest.mark.skipif(not installed, reason="needs the extra errors")
def test_planted_wrong_labels_are_found():
    true, probabilities = good_model()
    labels = true.copy()
    planted = np.random.default_rng(1).choice(600, 40, replace=False)
    labels[planted] = (labels[planted] + 1) % 3
    found = find_label_noise(labels, probabilities)
    hits = np.intersect1d(found.rows, planted)
    assert len(hits) >= 35
    assert len(hits) / len(found.rows) >= 0.8
    assert np.all(np.diff(found.self_confidence) >= 0)
    assert found.share == len(found.rows) / 600


@pytest.mark.skipif(not installed, reason="needs the extra errors")
def test_a_class_that_no_row_has_does_no_harm():
    true, probabilities = good_model()
    kept = true != 1
    found = find_label_noise(true[kept], probabilities[kept])
    assert found.share < 0.05
    only = find_label_noise(np.zeros(5, dtype=np.int64), np.full((5, 3), 1 / 3))
    assert len(only.rows) == 0


def test_a_missing_package_is_named_with_its_extra(hide):
    hide("cleanlab")
    with pytest.raises(MissingDependencyError, match=r"agnews-exp\[errors\]"):
        find_label_noise(np.array([0, 1]), np.full((2, 2), 0.5))
