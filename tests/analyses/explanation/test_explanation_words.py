import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnews_exp.analyses.explanation.words import Explanation, from_characters, keep_words, word_spans


@given(st.text(max_size=80))
def test_words_cover_everything_but_white_space(text):
    covered = np.zeros(len(text), dtype=int)
    for begin, end in word_spans(text):
        covered[begin:end] += 1
    assert [bool(c) for c in covered] == [not c.isspace() for c in text]
    assert covered.max(initial=0) <= 1


@given(st.text(max_size=80))
def test_keeping_all_words_keeps_the_text_and_keeping_none_empties_it(text):
    m = len(word_spans(text))
    assert keep_words(text, np.ones(m, dtype=bool)) == (text.strip() if m else "")
    assert keep_words(text, np.zeros(m, dtype=bool)) == ""


def test_removed_word_leaves_one_gap():
    text = "Oil prices rise, again"
    kept = np.array([True, False, True, True, True])
    assert keep_words(text, kept) == "Oil rise, again"
    assert keep_words(text, np.array([False, True, True, False, True])) == "prices rise again"
    assert keep_words("Sixers-Wizards", np.array([True, False, True])) == "Sixers Wizards"


def test_character_weights_are_summed_by_word_and_nothing_is_lost():
    text = "it's  up."
    weights = np.arange(1.0, len(text) + 1)
    explanation = from_characters("m", text, 0, weights, elsewhere=0.5, base=2.0)
    assert explanation.words == ["it's", "up", "."]
    np.testing.assert_allclose(explanation.weights, [1 + 2 + 3 + 4, 7 + 8, 9])
    assert explanation.elsewhere == pytest.approx(0.5 + 5 + 6)
    assert explanation.weights.sum() + explanation.elsewhere == pytest.approx(0.5 + weights.sum())


def test_order_goes_from_support_to_opposition():
    explanation = Explanation("m", "a b c", 0, np.array([-3.0, 2.0, 0.1]))
    assert explanation.order.tolist() == [1, 2, 0]
