"""Words, vocabulary laws and n-grams against slow definitions, scikit-learn and cases worked by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from agnews_exp.analyses.exploration import vocabulary as laws
from agnews_exp.analyses.exploration.corpus import index_words
from agnews_exp.analyses.exploration.lengths import describe_lengths, text_lengths
from agnews_exp.analyses.exploration.ngrams import chi2_scores, count_ngrams, weighted_log_odds

WORDS = ["oil", "prices", "rise", "the", "of", "a", "in", "Iraq", "U", "game", "win", "team's", "x"]


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    made = [" ".join(rng.choice(WORDS, rng.integers(0, 15))) for _ in range(300)]
    return [*made, "", "one"]


@pytest.fixture(scope="module")
def labels(texts):
    return np.random.default_rng(1).integers(0, 3, len(texts))


def test_class_counts_are_each_class_words(texts, labels):
    words = index_words(texts)
    counts = words.class_counts(labels, 3)
    for k in range(3):
        expected = Counter(
            w for t, c in zip(texts, labels, strict=True) if c == k for w in t.lower().replace("'", " ").split()
        )
        assert {words.terms[i]: n for i, n in enumerate(counts[k].tolist()) if n} == dict(expected)


def test_taken_rows_have_their_own_words_only(texts):
    words = index_words(texts)
    part = words.take(np.array([5, 2]))
    listed = [words.terms[i] for i in part.ids]
    assert listed == [w for i in (5, 2) for w in texts[i].lower().replace("'", " ").split()]
    assert part.frequencies.sum() == len(listed)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ngrams_are_those_of_scikit_learn(texts, labels, size):
    vectorizer = CountVectorizer(ngram_range=(size, size), stop_words="english")
    matrix = vectorizer.fit_transform(texts)
    counted = count_ngrams(texts, labels, 3, size)
    ours = dict(zip(counted.terms, counted.counts.T.tolist(), strict=True))
    names = vectorizer.get_feature_names_out()
    theirs = {n: [int(matrix[labels == k][:, i].sum()) for k in range(3)] for i, n in enumerate(names)}
    assert ours == theirs


def test_rare_ngrams_are_left_out_and_the_rest_keeps_its_counts(texts, labels):
    every, frequent = count_ngrams(texts, labels, 3, 2), count_ngrams(texts, labels, 3, 2, min_count=15)
    expected = {t: tuple(c) for t, c in zip(every.terms, every.counts.T.tolist(), strict=True) if sum(c) >= 15}
    assert {t: tuple(c) for t, c in zip(frequent.terms, frequent.counts.T.tolist(), strict=True)} == expected
    assert 0 < len(expected) < len(every.terms)
    ranked = [n for _, n in frequent.top(5)]
    assert ranked == sorted(frequent.counts.sum(axis=0).tolist(), reverse=True)[:5]


@pytest.mark.parametrize("window", [1, 3, 10, 1000])
def test_mattr_is_the_mean_over_all_windows(window):
    ids = np.random.default_rng(2).integers(0, 6, 60)
    size = min(window, len(ids))
    expected = np.mean([len(set(ids[i : i + size].tolist())) / size for i in range(len(ids) - size + 1)])
    assert laws.mattr(ids, window) == pytest.approx(expected)


def test_vocabulary_growth_counts_first_occurrences():
    assert laws.growth(np.array([4, 4, 1, 4, 0, 1])).tolist() == [1, 1, 2, 2, 3, 3]


def test_power_law_is_found_again():
    x = laws.log_spaced(1, 10_000, 50)
    law = laws.fit_power_law(x, 3.0 * x**0.6)
    assert (law.exponent, law.constant, law.r_squared) == pytest.approx((0.6, 3.0, 1.0))
    assert law.at(np.array([100])) == pytest.approx([3.0 * 100**0.6])


def test_entropy_of_equal_shares_is_the_logarithm_and_the_correction_adds_to_it():
    counts = np.array([5, 5, 5, 5, 0])
    assert laws.entropy_bits(counts) == pytest.approx(2.0)
    assert laws.corrected_entropy_bits(counts) == pytest.approx(2.0 + 3 / (2 * 20 * np.log(2)))


def test_jaccard_matrix_of_sets():
    used = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    assert laws.jaccard_matrix(used) == pytest.approx(np.array([[1, 0.25, 0], [0.25, 1, 0], [0, 0, 0]]))


def test_log_odds_follow_monroe_term_by_term():
    counts = np.array([[30, 5, 10], [10, 25, 10], [2, 2, 50]])
    prior = 100 * counts.sum(axis=0) / counts.sum()
    found = weighted_log_odds(counts, 100.0)
    for k in range(3):
        for w in range(3):
            a, b = counts[k, w] + prior[w], counts[:, w].sum() - counts[k, w] + prior[w]
            n_a, n_b = counts[k].sum() + 100, counts.sum() - counts[k].sum() + 100
            delta = np.log(a / (n_a - a)) - np.log(b / (n_b - b))
            assert found[k, w] == pytest.approx(delta / np.sqrt(1 / a + 1 / b))
    assert found.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_rare_term_of_one_class_is_not_first():
    counts = np.array([[400, 3, 500], [100, 0, 500]])
    assert weighted_log_odds(counts, 500.0)[0].argmax() == 0  # without a prior the pure one would be infinitely strong


def test_chi2_of_a_constant_column_is_no_nan():
    scores = chi2_scores(np.array([[1.0, 0.0, 3.0], [1.0, 0.0, 0.0]]), np.array([0, 1]))
    assert scores[1] == 0
    assert scores[2] == pytest.approx(3.0)


def test_lengths_of_texts():
    characters, words = text_lengths(["two words", "", "and  three more"])
    assert words.tolist() == [2, 0, 3]
    assert characters.tolist() == [9, 0, 15]
    described = describe_lengths(np.arange(1, 102))
    assert [described[name] for name in ("mean", "median", "p99", "maximum")] == [51, 51, 100, 101]
    assert described["std"] == pytest.approx(np.arange(1, 102).std(ddof=1))


def test_no_words_have_no_richness():
    assert laws.mattr(np.array([], dtype=np.int64), 10) == 0.0


def test_the_top_holds_ngrams_that_occur_once():
    grams = count_ngrams(["red fox", "red fox", "big dog"], np.zeros(3, dtype=np.int64), 1, 2)
    assert grams.top(5) == [("red fox", 2), ("big dog", 1)]
    assert count_ngrams(["the"], np.zeros(1, dtype=np.int64), 1, 2).top(5) == []
