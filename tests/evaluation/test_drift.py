"""Drift: the index against its definition; what stays is stable, what moves is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agnews_exp.evaluation.drift import (
    KEPT,
    describe,
    known_share,
    model_reference,
    reference_of,
    shifts,
    split_words,
    stability_index,
    vocabulary_of,
)
from agnews_exp.evaluation.predictions import Predictions


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


def test_a_model_reference_is_bounded_and_finds_its_own_rows_stable():
    rng = np.random.default_rng(0)
    train, texts = (
        [" ".join(f"w{i}" for i in rng.integers(0, 20_000, rng.integers(5, 60))) for _ in range(6000)] for _ in range(2)
    )
    answers = Predictions(np.arange(6000) % 4, None, rng.dirichlet(np.ones(4) / 4, 6000))
    reference = json.loads(json.dumps(model_reference(train, texts, answers, 4)))
    assert len(reference["words"]) == 10_000
    assert {len(values) for values in reference["values"].values()} == {KEPT}
    assert reference["classes"] == [1500] * 4
    found = shifts(reference, describe(texts, answers, frozenset(reference["words"])), answers.labels)
    assert {s.name: s.verdict for s in found} == dict.fromkeys(
        ("words", "known_words", "confidence", "class_share"), "stable"
    )


def test_vocabulary_keeps_the_most_frequent_words_whatever_their_case():
    assert vocabulary_of(["Oil oil RISES", "rises"]) == ["oil", "rises"]
    texts = ["zebra " + " ".join(f"rare{i}" for i in range(start, start + 100)) for start in range(0, 12_000, 100)]
    words = vocabulary_of(texts)
    assert len(words) == 10_000
    assert "zebra" in words


def test_confidence_of_a_model_that_gives_scores_is_their_softmax_and_of_labels_nothing():
    scores = np.array([[2.0, 0.0], [0.0, 1.0]])
    values = describe(["a", "b c"], Predictions(np.array([0, 1]), scores), frozenset("ab"))
    assert values["confidence"] == pytest.approx(1 / (1 + np.exp([-2.0, -1.0])))
    assert values["known_words"].tolist() == [1.0, 0.5]
    assert "confidence" not in describe(["a"], Predictions(np.array([0])), frozenset())


def test_numbers_are_compared_in_ten_bins_of_equally_many_old_texts():
    values, classes = sample(0)
    reference = reference_of(values, classes, 4)
    new = np.full(50, max(values["words"]) + 1)  # all in the last bin
    old = np.asarray(reference["values"]["words"])
    counts = np.histogram(old, np.quantile(old, np.linspace(0, 1, 11)))[0]
    (words, _) = shifts(reference, {"words": new}, classes)
    assert words.psi == pytest.approx(stability_index(counts, [0] * 9 + [50]))


def test_known_share_counts_words_of_training():
    words = [split_words(text) for text in ("OIL cup zzz prices!", "zzz", "...")]
    assert known_share(words, set(split_words("Oil prices the Cup"))).tolist() == [0.75, 0.0, 0.0]
