"""Tokenisers, stemmers and the transformer that applies them."""

import importlib.util

import pytest
from sklearn.base import clone

from agnews_exp.core.errors import ConfigError, MissingDependencyError
from agnews_exp.features.preprocessing import TOKENIZERS, TextPreprocessor, stemmer, tokenizer

needs_nltk = pytest.mark.skipif(importlib.util.find_spec("nltk") is None, reason="nltk (extra nlp) is not installed")
TEXT = "Don't stop: U.S. shares fell 3%"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("whitespace", ["Don't", "stop:", "U.S.", "shares", "fell", "3%"]),
        ("regex_word", ["Don", "t", "stop", "U", "S", "shares", "fell", "3"]),
        ("regex_word2", ["Don", "stop", "shares", "fell"]),
        ("default", ["Don", "stop", "shares", "fell"]),
        pytest.param("nltk", ["Do", "n't", "stop", ":", "U.S.", "shares", "fell", "3", "%"], marks=needs_nltk),
    ],
)
def test_tokenizers_split_as_they_say(name, expected):
    assert tokenizer(name)(TEXT) == expected


@needs_nltk
@pytest.mark.parametrize(
    ("name", "expected"),
    [("porter", ["run", "fairli"]), ("snowball", ["run", "fair"]), ("lancaster", ["run", "fair"])],
)
def test_stemmers_give_the_stems_of_their_algorithm(name, expected):
    assert stemmer(name)(["running", "fairly"]) == expected


def test_no_stemmer_leaves_tokens_alone():
    assert stemmer("none")(["Running", "fairly"]) == ["Running", "fairly"]


@pytest.mark.parametrize("lookup", [tokenizer, stemmer])
def test_an_unknown_name_lists_what_is_allowed(lookup):
    with pytest.raises(ConfigError, match="allowed: "):
        lookup("no such thing")


@needs_nltk
def test_missing_wordnet_data_gives_the_command_to_get_it(monkeypatch, tmp_path):
    import nltk

    if nltk.corpus.wordnet.__class__.__name__ != "LazyCorpusLoader":
        pytest.skip("WordNet is already loaded in this process")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(MissingDependencyError) as raised:
        stemmer("wordnet")
    assert "nltk.downloader wordnet" in str(raised.value)


@pytest.mark.parametrize(("lookup", "name"), [(tokenizer, "spacy"), (stemmer, "spacy")])
def test_missing_spacy_gives_the_command_to_get_it(lookup, name, hide):
    hide("spacy")
    with pytest.raises(MissingDependencyError) as raised:
        lookup(name)
    assert "pip install spacy" in str(raised.value)


@needs_nltk
def test_cleaning_then_tokens_then_stems_joined_by_spaces():
    step = TextPreprocessor(clean="aggressive", tokenizer="whitespace", stemmer="porter")
    assert step.fit_transform(["Running, <b>DOGS</b> 12", ""]) == ["run dog <num>", ""]


def test_texts_pass_untouched_by_default():
    texts = ["  Some\tText ", ""]
    assert TextPreprocessor().fit(texts).transform(texts) == texts


def test_bad_parameter_is_named():
    with pytest.raises(ValueError, match="'tokenizer' parameter"):
        TextPreprocessor(tokenizer="nope")._validate_params()


def test_clone_keeps_the_parameters():
    assert clone(TextPreprocessor("basic", "regex_word")).get_params() == {
        "clean": "basic",
        "tokenizer": "regex_word",
        "stemmer": "none",
    }


def test_every_tokenizer_that_needs_no_package_never_gives_an_empty_token():
    for name in set(TOKENIZERS) - {"nltk", "spacy"}:
        assert all(tokenizer(name)("  a  bb , \u00e9\u00e9 \n"))
