"""Stemmers and lemmatisers that a configuration may name. Nothing here downloads anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from agnews_exp.config.errors import MissingDependencyError, unknown_name

Stemmer = Callable[[list[str]], list[str]]
StemmerName = Literal["none", "porter", "snowball", "lancaster", "wordnet", "spacy"]

STEMMERS: Final[tuple[str, ...]] = ("none", "porter", "snowball", "lancaster", "wordnet", "spacy")
"""Choices of ``features.stemmer``: three suffix strippers (NLTK, no data), two lemmatisers (need downloaded
data)."""

_SPACY_MODEL: Final = "en_core_web_sm"


class _Remembered(dict[str, str]):
    """Word to stem, asked from the slow stemmer once per distinct word."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        super().__init__()
        self._stem = stem

    def __missing__(self, word: str) -> str:
        # An empty stem would lose the token's place in the n-grams.
        found = self._stem(word) or word
        self[word] = found
        return found


def _nltk_module(name: str) -> Any:
    try:
        import nltk.stem
    except ImportError as error:
        raise MissingDependencyError(
            f"features.stemmer={name} needs the package nltk.", fix="pip install 'agnews-exp[nlp]'"
        ) from error
    return nltk.stem


def _wordnet() -> Callable[[str], str]:
    stem = _nltk_module("wordnet")
    lemmatizer = stem.WordNetLemmatizer()
    try:
        lemmatizer.lemmatize("news")
    except LookupError as error:
        raise MissingDependencyError(
            "features.stemmer=wordnet needs the WordNet data, which NLTK does not find on this machine.",
            fix="python -m nltk.downloader wordnet   (or features.stemmer=snowball, which needs no data)",
        ) from error
    return lambda word: str(lemmatizer.lemmatize(word.lower()))


def _spacy() -> Stemmer:
    fix = f"pip install spacy && python -m spacy download {_SPACY_MODEL}   (or features.stemmer=snowball)"
    try:
        import spacy  # type: ignore[import-not-found, unused-ignore]
        from spacy.tokens import Doc  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingDependencyError("features.stemmer=spacy needs the package spacy.", fix=fix) from error
    try:
        language = spacy.load(_SPACY_MODEL, exclude=["parser", "ner"])
    except OSError as error:
        raise MissingDependencyError(
            f"features.stemmer=spacy needs the model {_SPACY_MODEL}, which spaCy does not find here.",
            fix=fix,
        ) from error

    def lemmatise(tokens: list[str]) -> list[str]:
        document = Doc(language.vocab, words=tokens)
        for _, step in language.pipeline:
            document = step(document)
        return [token.lemma_ or token.text for token in document]

    return lemmatise


def stemmer(name: str) -> Stemmer:
    """Return the function that maps a list of tokens to as many stems or lemmas.

    Args:
        name: One of :data:`STEMMERS`.

    Raises:
        ConfigError: There is no such stemmer.
        MissingDependencyError: Its package or its data are not installed; the fix says how to get them.
    """
    if name == "none":
        return lambda tokens: tokens
    if name == "spacy":
        return _spacy()
    stem: Callable[[str], str]
    if name == "porter":
        stem = _nltk_module(name).PorterStemmer().stem
    elif name == "snowball":
        stem = _nltk_module(name).SnowballStemmer("english").stem
    elif name == "lancaster":
        stem = _nltk_module(name).LancasterStemmer().stem
    elif name == "wordnet":
        stem = _wordnet()
    else:
        raise unknown_name("value for features.stemmer", name, STEMMERS)
    remembered = _Remembered(stem)
    return lambda tokens: [remembered[token] for token in tokens]
