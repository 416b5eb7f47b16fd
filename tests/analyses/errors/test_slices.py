"""Slices with too many errors: planted ones are found, noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from agnews_exp.analyses.errors.slices import excess_p_values, find_slices, frequent_words, make_features


def planted(seed: int, n: int = 4000, plant: str = "single"):
    """Return (features, wrong): 60 random words; one word, or one pair of words, with 40 % errors instead of 8 %."""
    rng = np.random.default_rng(seed)
    has = rng.random((n, 60)) < 0.15
    words = [f"word{i:02d}" for i in range(60)]
    texts = [" ".join(word for word, there in zip(words, row, strict=True) if there) or "empty" for row in has]
    affected = {"single": has[:, 7], "pair": has[:, 3] & has[:, 4], "none": np.zeros(n, bool)}[plant]
    wrong = rng.random(n) < np.where(affected, 0.4, 0.08)
    length = {"long": rng.random(n) < 0.5}
    return make_features(texts, {"length": length}, words), wrong


def search(plant: str, **options):
    return find_slices(*planted(0, plant=plant), *planted(1, plant=plant), **options)


def test_p_values_are_fishers_one_sided():
    errors, rows = np.array([3, 12, 0, 12]), np.array([20, 40, 15, 40])
    expected = [
        fisher_exact([[e, r - e], [60 - e, 500 - r - (60 - e)]], alternative="greater").pvalue
        for e, r in zip(errors, rows, strict=True)
    ]
    assert excess_p_values(errors, rows, 60, 500) == pytest.approx(expected)


def test_a_planted_word_is_found_confirmed_and_not_repeated_by_pairs_with_it():
    found = search("single")
    assert found.slices[0].features == ("'word07'",)
    assert found.slices[0].q_confirmed < 1e-6
    assert found.slices[0].confirmed.rate == pytest.approx(0.4, abs=0.08)
    assert len(found.slices) == 1  # the dozens of pairs with the word only repeat it


def test_a_planted_pair_is_found_as_a_pair_and_not_without_pairs():
    best = search("pair").slices[0]
    assert set(best.features) == {"'word03'", "'word04'"}
    assert best.q_confirmed < 1e-3
    assert all(len(s.features) == 1 for s in search("pair", pairs=False).slices)


def test_noise_gives_no_confirmed_slice_though_a_thousand_are_tested():
    found = search("none")
    assert found.n_tested > 1000
    assert not [s for s in found.slices if s.q_confirmed <= 0.05]


def test_false_findings_stay_rare_over_many_searches():
    hits = 0
    for seed in range(40):
        features, wrong = planted(100 + seed, n=1200, plant="none")
        hits += bool(find_slices(features, wrong, features, wrong, min_rows=20, pairs=False).slices)
    assert hits <= 6  # .05 * 40 = 2 expected at most; 7 or more has probability .003


def test_support_is_respected_on_both_sides():
    features, wrong = planted(0)
    found = find_slices(features, wrong, features, wrong, min_rows=500, max_q=0.9)
    assert found.n_tested < 70
    assert all(500 <= s.found.total <= 3500 for s in found.slices)


def test_a_slice_that_no_confirming_row_has_is_kept_unconfirmed():
    features, wrong = planted(0)
    words = [f"word{i:02d}" for i in range(60)]
    empty = make_features(["nothing here"] * 50, {"length": {"long": np.zeros(50, bool)}}, words)
    best = find_slices(features, wrong, empty, np.arange(50) < 5).slices[0]
    assert best.confirmed is None
    assert best.q_confirmed == 1.0


def test_frequent_words_need_enough_texts():
    texts = ["oil prices rise", "Oil falls", "a game"]
    assert frequent_words(texts, 2) == ["oil"]
    assert frequent_words(texts, 3) == []
    assert frequent_words(texts, 4) == []


def test_a_slice_of_just_enough_rows_is_tested():
    texts = ["odd"] * 20 + ["plain"] * 60
    wrong = np.arange(80) < 15
    features = make_features(texts, {}, ["odd", "plain"])
    assert find_slices(features, wrong, features, wrong, min_rows=20).n_tested > 0
    assert find_slices(features, wrong, features, wrong, min_rows=21).n_tested == 0
