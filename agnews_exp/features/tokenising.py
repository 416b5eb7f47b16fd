"""Tokenisers that a configuration may name; the default leaves the work to the vectoriser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

from agnews_exp.config.errors import MissingDependencyError, unknown_name

Tokenizer = Callable[[str], list[str]]
TokenizerName = Literal["default", "whitespace", "regex_word", "regex_word2", "nltk", "spacy"]

TOKENIZERS: Final[tuple[str, ...]] = ("default", "whitespace", "regex_word", "regex_word2", "nltk", "spacy")
"""Choices of ``features.tokenizer``: the vectoriser's own pattern; split at whitespace; ``\\w+``;
scikit-learn's ``\\w\\w+``; NLTK's Penn Treebank rules; spaCy's English rules."""


def _nltk() -> Tokenizer:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "features.tokenizer=nltk needs the package nltk.", fix="pip install 'agnews-exp[nlp]'"
        ) from error
    # The class itself, not word_tokenize(), which first splits sentences and needs a downloaded model for
    # that.
    tokenizer = NLTKWordTokenizer()
    return lambda text: list(tokenizer.tokenize(text))


def _spacy() -> Tokenizer:
    try:
        import spacy  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingDependencyError(
            "features.tokenizer=spacy needs the package spacy.", fix="pip install spacy"
        ) from error
    tokenizer = spacy.blank("en").tokenizer
    return lambda text: [token.text for token in tokenizer(text) if not token.is_space]


def tokenizer(name: str) -> Tokenizer:
    """Return the function that splits a text into tokens; no token holds whitespace or is empty.

    Args:
        name: One of :data:`TOKENIZERS`. ``default`` gives ``regex_word2``, what a word vectoriser does by
            itself.

    Raises:
        ConfigError: There is no such tokeniser.
        MissingDependencyError: Its package is not installed.
    """
    if name == "whitespace":
        return str.split
    if name == "regex_word":
        return re.compile(r"\w+").findall
    if name in ("default", "regex_word2"):
        return re.compile(r"\b\w\w+\b").findall
    if name == "nltk":
        return _nltk()
    if name == "spacy":
        return _spacy()
    raise unknown_name("value for features.tokenizer", name, TOKENIZERS)
