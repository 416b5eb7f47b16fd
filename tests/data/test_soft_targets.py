"""A teacher's answers as targets: their temperature, and what they are for classifiers that know weights only."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from agnews_exp.data.soft_targets import SoftTargets, takes_soft_targets, tempered, weighted_copies

LOGITS = np.array([[3.0, 1.0, -2.0], [0.0, 0.0, 5.0], [900.0, -900.0, 0.0]])


def test_probabilities_at_a_temperature_are_the_softmax_of_cooler_logits():
    found = tempered(softmax(LOGITS[:2], axis=1), 4.0)
    np.testing.assert_allclose(found, softmax(LOGITS[:2] / 4, axis=1), rtol=1e-6)
    assert found.dtype == np.float32


def test_a_high_inverse_temperature_and_no_rows_give_numbers():
    sharp = tempered(softmax(LOGITS, axis=1), 0.01)
    assert np.isfinite(sharp).all()
    np.testing.assert_allclose(sharp[2], [1, 0, 0])
    assert tempered(np.zeros((0, 3)), 2.0).shape == (0, 3)


def test_copies_weigh_each_class_by_its_part_of_the_target():
    soft = SoftTargets(np.array([[0.7, 0.3], [0.9995, 0.0005]], np.float32), np.array([0.5, 1.0], np.float32), 1.0)
    rows, classes, weights = weighted_copies(np.array([1, 0]), soft)
    assert rows.tolist() == [0, 0, 1]
    assert classes.tolist() == [0, 1, 0]
    np.testing.assert_allclose(weights, [0.35, 0.65, 1.0], rtol=1e-6)


@pytest.mark.parametrize(("probabilities", "share"), [((2, 3), (3,)), ((6,), (6,)), ((2, 3), (2, 1))])
def test_shapes_that_do_not_fit_are_refused(probabilities, share):
    with pytest.raises(ValueError, match="do not fit"):
        SoftTargets(np.zeros(probabilities, np.float32), np.zeros(share, np.float32), 1.0)


def test_only_a_fit_with_an_argument_for_them_takes_soft_targets():
    assert takes_soft_targets(lambda x, y, soft=None: None)
    assert not takes_soft_targets(lambda x, y, sample_weight=None: None)
