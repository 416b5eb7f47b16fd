"""Drift: the index against its definition; what stays is stable, what moves is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agnews_exp.evaluation.drift import reference_of, shifts, stability_index


def sample(seed, n=3000, shift=0.0):
    rng = np.random.default_rng(seed)
    return {"words": rng.normal(40 + shift, 8, n)}, rng.integers(0, 4, n)


def found(shift=0.0, labels=None):
    values, classes = sample(0)
    reference = json.loads(json.dumps(reference_of(values, classes, 4)))
    new, new_classes = sample(1, shift=shift)
    return {s.name: s for s in shifts(reference, new, new_classes if labels is None else labels)}


def test_the_index_is_its_definition():
    p, q = np.array([10.5, 20.5, 70.5]) / 101.5, np.array([30.5, 30.5, 40.5]) / 101.5
    assert stability_index([10, 20, 70], [30, 30, 40]) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert stability_index([5, 5], [500, 500]) == pytest.approx(0)


def test_texts_from_the_same_source_are_stable():
    result = found()
    assert {s.verdict for s in result.values()} == {"stable"}
    assert result["words"].before == pytest.approx(40, abs=1)


def test_longer_texts_have_moved_and_the_classes_have_not():
    result = found(shift=10)
    assert result["words"].verdict == "moved"
    assert result["words"].p_value < 1e-6
    assert result["class_share"].verdict == "stable"


def test_a_small_shift_is_to_be_watched():
    result = found(shift=3)
    assert 0.1 <= result["words"].psi < 0.25
    assert result["words"].verdict == "watch"


def test_another_mix_of_classes_has_moved_even_when_one_is_missing():
    result = found(labels=np.array([0] * 2000 + [1] * 500 + [2] * 500))
    assert result["class_share"].verdict == "moved"
    assert result["words"].verdict == "stable"


def test_no_texts_are_refused():
    values, classes = sample(0)
    with pytest.raises(ValueError, match="no texts"):
        shifts(reference_of(values, classes, 4), {"words": []}, [])
