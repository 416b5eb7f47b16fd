"""The five cleaning pipelines, atom by atom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnews_exp.core.errors import ConfigError
from agnews_exp.features.preprocessing import PIPELINES, clean_text, cleaning, expand_contractions

TEXT = "Read  <b>THIS</b>:\thttps://x.org/a?b=1, or ask Jo@mail.co.uk &amp; pay $3.50 \n caf\u00e9 \u2014 we won't"

EXPECTED = {
    "basic": "Read <b>THIS</b>: https://x.org/a?b=1, or ask Jo@mail.co.uk &amp; pay $3.50 caf\u00e9 \u2014 we won't",
    "aggressive": "read this or ask amp pay <NUM> caf\u00e9 we won t",
    "moderate": "read <b>this</b>: <URL> or ask <EMAIL> &amp; pay $3.50 caf\u00e9 \u2014 we won't",
    "minimal": "Read <b>THIS</b>: https://x.org/a?b=1, or ask Jo@mail.co.uk & pay $3.50 caf we won't",
    "expansion": "read <b>this</b>: <URL> or ask <EMAIL> &amp; pay $3.50 caf\u00e9 \u2014 we will not",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_pipeline_does_exactly_its_atoms(name):
    assert clean_text(TEXT, PIPELINES[name]) == EXPECTED[name]


def test_every_pipeline_but_none_is_in_the_table():
    assert set(PIPELINES) == {*EXPECTED, "none"}
    assert cleaning("none") is None


def test_an_unknown_pipeline_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'moderate'"):
        cleaning("modrate")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b and c > d", "a b and c d"),  # no tag: the words between stay
        ("x <a href='http://u.v'>link</a> y", "x link y"),
        ("x &lt;FONT face=a&gt;y&lt;/FONT&gt; z", "x y z"),
        ("in 1,234.5 or 2004", "in <NUM> or <NUM>"),
        ("word\\word_word", "word word word"),  # a line break of the corpus must not glue two words
        ("nul\x00here 7", "nul here <NUM>"),
    ],
)
def test_aggressive_cleaning_of_awkward_texts(text, expected):
    assert clean_text(text, PIPELINES["aggressive"]) == expected


@given(st.text(max_size=80))
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_cleaned_text_has_single_inner_spaces_whatever_came_in(name, text):
    cleaned = clean_text(text, PIPELINES[name])
    assert cleaned == " ".join(cleaned.split())


@given(st.text(max_size=80))
def test_minimal_cleaning_leaves_only_ascii(text):
    assert clean_text(text, PIPELINES["minimal"]).isascii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sure they're late", "I am sure they are late"),
        ("Can't stop, won't stop", "Cannot stop, will not stop"),
        ("they've said he'd come; it'll do", "they have said he would come; it will do"),
        ("it\u2019s John's dog", "it is John's dog"),
        ("we gotta go", "we got to go"),
        ("wouldn't've", "would not have"),
        ("nothing here", "nothing here"),
    ],
)
def test_contractions_are_expanded_and_possessives_kept(text, expected):
    assert expand_contractions(text) == expected
