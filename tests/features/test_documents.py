"""The twelve document features against values counted by hand."""

import numpy as np
import pytest

from agnews_exp.features.documents import DOCUMENT_FEATURES, DocumentFeatures, document_features


def features_of(text):
    return dict(zip(DOCUMENT_FEATURES, document_features(text), strict=True))


def test_all_twelve_on_a_text_counted_by_hand():
    # 44 characters, two sentences, and the nine words below.
    text = "The cat saw the dog. Ring 212-555-0199 www.x"
    got = features_of(text)
    words = ["The", "cat", "saw", "the", "dog", "Ring", "212-555-0199", "www", "x"]
    assert got == {
        "char_count": 44,
        "word_count": 9,
        "sentence_count": 2,
        "avg_word_length": pytest.approx(sum(map(len, words)) / 9),
        "avg_sentence_length": 4.5,
        "ttr": pytest.approx(8 / 9),  # "The" and "the" are one type
        "punctuation_density": pytest.approx(4 / 44),
        "uppercase_ratio": pytest.approx(2 / 44),
        "digit_ratio": pytest.approx(10 / 44),
        "has_url": 1,
        "has_email": 0,
        "has_phone": 1,
    }


def test_empty_and_blank_texts_give_zeros_but_for_their_length():
    assert document_features("") == [0.0] * 12
    assert document_features("  ") == [2.0] + [0.0] * 11


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three? Four", 4),
        ("Mr. Smith met J. Doe in the U.S. Senate.", 1),
        ("Shares rose 3.5 percent. Oil fell.", 2),
        ("no full stop at all", 1),
        ('He said "Stop." Then he left.', 2),
    ],
)
def test_sentences_are_counted_past_abbreviations_and_numbers(text, count):
    assert features_of(text)["sentence_count"] == count


@pytest.mark.parametrize(
    ("feature", "yes", "no"),
    [
        ("has_url", "see http://a.b", "see http alone"),
        ("has_url", "see WWW.news.com", "see wwwnews"),
        ("has_email", "to jo.do@mail.co.uk now", "to jo @ home"),
        ("has_phone", "call (555) 123-4567", "in 2004-2005"),
        ("has_phone", "+1 555.123.4567", "score 123-456"),
    ],
)
def test_flags(feature, yes, no):
    assert (features_of(yes)[feature], features_of(no)[feature]) == (1.0, 0.0)


def test_scaling_uses_the_fitted_texts_only():
    train = ["Short one.", "A somewhat longer text. With two sentences.", "Mid length text here."]
    step = DocumentFeatures().fit(train)
    scaled = step.transform(train)
    varying = scaled.std(axis=0) > 0
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0)[varying], 1)
    raw = DocumentFeatures(scale="none").fit(train)
    other = ["Completely DIFFERENT 123 text!"]
    expected = (raw.transform(other) - raw.transform(train).mean(axis=0))[:, varying]
    np.testing.assert_allclose(step.transform(other)[:, varying], expected / raw.transform(train).std(axis=0)[varying])


def test_names_match_the_columns():
    step = DocumentFeatures().fit(["a b", "c d e."])
    assert list(step.get_feature_names_out()) == list(DOCUMENT_FEATURES)
    assert step.transform(["x"]).shape == (1, len(DOCUMENT_FEATURES))
