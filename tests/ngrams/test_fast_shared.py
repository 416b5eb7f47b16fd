"""One count for many fits: the same results as counting anew, and nothing of a held-out row in any of them."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp import ngrams as fast
from agnews_exp.core.cache import cache_info
from agnews_exp.ngrams import fitting as shared_module

SETTINGS = [
    {"analyzer": "word", "ngram_range": (1, 2), "max_features": 60, "min_df": 2, "stop_words": ["egg"]},
    {"analyzer": "char", "ngram_range": (2, 4), "max_features": 100, "max_df": 0.8, "sublinear_tf": True},
    {"analyzer": "char_wb", "ngram_range": (3, 5), "strip_accents": "unicode", "binary": True},
    {"analyzer": "word", "token_pattern": r"[^\s,]+", "lowercase": False},
]
LEXICON = ["spam", "egg", "Ham", "ham", "a", "x", "über", "ΟΔΟΣ", "İ", "cheese,", "\U0001f600", "e\u0301"]


def corpus(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(LEXICON, rng.integers(0, 12))) for _ in range(n_rows)]


def results(settings_, rows, others):
    vectorizer = fast.TfidfVectorizer(**settings_)
    fitted = vectorizer.fit_transform(rows)
    return vectorizer, fitted, vectorizer.transform(others)


def assert_equal_results(found, expected):
    assert found[0].vocabulary_ == expected[0].vocabulary_
    np.testing.assert_array_equal(found[0].idf_, expected[0].idf_)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.shape == other.shape
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("settings_", SETTINGS)
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_folds_and_fractions_equal_fits_without_sharing(monkeypatch, settings_, n_jobs):
    monkeypatch.setattr("agnews_exp.ngrams.counting.CHUNK_CHARACTERS", 500)
    rows = corpus(120)
    folds = [(rows[:80], rows[80:]), (rows[40:], rows[:40]), (rows[::3], rows[1::3]), (rows[::-1], rows[:5] * 3)]
    expected = [results(settings_, *fold) for fold in folds]
    with fast.shared_counts(rows) as shared:
        for fold, right in zip(folds, expected, strict=True):
            assert_equal_results(results({**settings_, "n_jobs": n_jobs}, *fold), right)
        assert len(shared._counted) == 1
        assert None not in shared._counted.values()


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.text(alphabet="abAB \u0301ßİ,\n", max_size=12), min_size=2, max_size=8),
    cut=st.integers(1, 7),
    analyzer=st.sampled_from(["word", "char", "char_wb"]),
    max_features=st.sampled_from([None, 3]),
)
def test_any_subset_equals_a_fit_without_sharing(rows, cut, analyzer, max_features):
    settings_ = {"analyzer": analyzer, "ngram_range": (1, 3), "max_features": max_features}
    train, held_out = rows[:cut], rows[cut:]

    def outcome():
        try:
            return results(settings_, train, held_out)
        except ValueError as error:
            return str(error)

    expected = outcome()
    with fast.shared_counts(rows):
        found = outcome()
    if isinstance(expected, str):
        assert found == expected
    else:
        assert_equal_results(found, expected)


def test_a_held_out_row_changes_no_document_frequency():
    with fast.shared_counts(["alpha beta", "alpha", "alpha alpha gamma"]):
        vectorizer = fast.TfidfVectorizer(norm=None).fit(["alpha beta", "alpha"])
    # ln((1 + 2) / (1 + df)) + 1 with the two training rows only
    np.testing.assert_allclose(vectorizer.idf_, [np.log(3 / 3) + 1, np.log(3 / 2) + 1])
    assert list(vectorizer.vocabulary_) == ["alpha", "beta"]


def test_texts_outside_the_shared_corpus_are_counted_as_usual():
    rows = corpus(60)
    expected = results(SETTINGS[0], rows, ["spam unseen", "new text"])
    with fast.shared_counts(rows[:30]):
        assert_equal_results(results(SETTINGS[0], rows, ["spam unseen", "new text"]), expected)
    with fast.shared_counts(rows):
        assert_equal_results(results(SETTINGS[0], rows, ["spam unseen", "new text"]), expected)


def test_a_vectorizer_fitted_in_one_context_transforms_in_another_and_outside():
    rows, others = corpus(60), corpus(20, seed=1)
    expected = results(SETTINGS[1], rows, others)[2]
    with fast.shared_counts([*rows, *others]):
        vectorizer = fast.TfidfVectorizer(**SETTINGS[1]).fit(rows)
    outside = vectorizer.transform(others)
    with fast.shared_counts([*others, "first a new text"]):
        elsewhere = vectorizer.transform(others)
    for found in (outside, elsewhere):
        np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_other_settings_after_the_fit_are_not_served_from_old_counts():
    rows = ["Alpha alpha beta", "beta"]
    with fast.shared_counts(rows):
        vectorizer = fast.CountVectorizer().fit(rows)
        vectorizer.set_params(lowercase=False)
        assert vectorizer.transform(rows).toarray().tolist() == [[1, 1], [0, 1]]


def test_counts_on_disk_serve_a_later_context(tmp_path, monkeypatch):
    rows = corpus(80)
    expected = results(SETTINGS[1], rows[:50], rows[50:])
    with fast.shared_counts(rows, cache_dir=tmp_path):
        results(SETTINGS[1], rows[:60], rows[60:])
    assert cache_info(tmp_path).by_kind["ngrams"][0] == 1
    monkeypatch.setattr(shared_module, "count_texts", None)
    with fast.shared_counts(rows, cache_dir=tmp_path):
        assert_equal_results(results(SETTINGS[1], rows[:50], rows[50:]), expected)


def test_damaged_counts_are_counted_again(tmp_path, caplog):
    rows = corpus(80)
    expected = results(SETTINGS[0], rows[:50], rows[50:])
    with fast.shared_counts(rows, cache_dir=tmp_path):
        results(SETTINGS[0], rows[:50], rows[50:])
    (file,) = tmp_path.rglob("stream.npy")
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING), fast.shared_counts(rows, cache_dir=tmp_path):
        assert_equal_results(results(SETTINGS[0], rows[:50], rows[50:]), expected)
    assert "damaged" in caplog.text
