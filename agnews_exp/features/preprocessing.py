"""The text step of a feature pipeline: cleaning, then tokens, then stems, joined again by single spaces."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions

from agnews_exp.core.errors import MissingDependencyError, needs, unknown_name

_IRREGULAR: Final[dict[str, str]] = {
    "ain't": "are not",
    "can't": "cannot",
    "could've": "could have",
    "cap'n": "captain",
    "c'mon": "come on",
    "'cause": "because",
    "gimme": "give me",
    "gonna": "going to",
    "gotta": "got to",
    "i'm": "i am",
    "lemme": "let me",
    "let's": "let us",
    "ma'am": "madam",
    "ne'er": "never",
    "o'clock": "of the clock",
    "shan't": "shall not",
    "'tis": "it is",
    "'twas": "it was",
    "wanna": "want to",
    "won't": "will not",
    "y'all": "you all",
}
"""Contractions that the suffix rules would get wrong."""

_S_WORDS: Final = "he|she|it|that|this|there|here|what|where|when|who|why|how"
"""Words after which ``'s`` is "is"; after any other word it is taken for a possessive and left alone."""

_SUFFIXES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?<=\w)n't\b", re.IGNORECASE), " not"),
    (re.compile(r"(?<=\w)'re\b", re.IGNORECASE), " are"),
    (re.compile(r"(?<=\w)'ve\b", re.IGNORECASE), " have"),
    (re.compile(r"(?<=\w)'ll\b", re.IGNORECASE), " will"),
    (re.compile(r"(?<=\w)'d\b", re.IGNORECASE), " would"),
    (re.compile(rf"\b({_S_WORDS})'s\b", re.IGNORECASE), r"\1 is"),
)

_IRREGULAR_PATTERN: Final = re.compile(
    r"(?<!\w)(" + "|".join(re.escape(word) for word in sorted(_IRREGULAR, key=len, reverse=True)) + r")(?!\w)",
    re.IGNORECASE,
)


def _spelled_out(match: re.Match[str]) -> str:
    found = match.group(0)
    full = _IRREGULAR[found.lower()]
    return full[0].upper() + full[1:] if found[0].isupper() else full


def expand_contractions(text: str) -> str:
    """Write contractions out: ``"won't"`` becomes ``"will not"``, ``"they're"`` becomes ``"they are"``.

    A possessive ``'s`` stays, and the case of first letters. U+2019, the typographic one, counts as an apostrophe.
    """
    if "'" not in text and "\u2019" not in text and not _IRREGULAR_PATTERN.search(text):
        return text
    expanded = _IRREGULAR_PATTERN.sub(_spelled_out, text.replace("\u2019", "'"))
    for pattern, replacement in _SUFFIXES:
        expanded = pattern.sub(replacement, expanded)
    return expanded


Handling = Literal["keep", "remove", "replace"]

_WHITESPACE: Final = re.compile(r"\s+")
# A tag opens with a letter, "/" or "!", so "3 < 5 and 7 > 6" is no tag. News feeds escape their tags
# (&lt;b&gt;).
_HTML: Final = re.compile(r"<[A-Za-z/!][^<>]*>|&lt;[A-Za-z/!].*?&gt;")
_URL: Final = re.compile(r"(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_EMAIL: Final = re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_PLACEHOLDER: Final = "\x00"
_PUNCTUATION: Final = re.compile(rf"[^\w\s{_PLACEHOLDER}]|_")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Cleaning:
    """The steps of a cleaning pipeline, which run in the order of the fields; whitespace is normalised last."""

    fix_encoding: bool = False  # undo HTML entities (``&amp;``), then drop the characters outside ASCII
    # Lower-case everything (the tokens ``<URL>``, ``<EMAIL>``, ``<NUM>`` come later and stay upper-case).
    lowercase: bool = False
    contractions: bool = False  # write contractions out
    html_tags: Handling = "keep"  # keep or remove tags, escaped ones too
    urls: Handling = "keep"  # keep, remove, or replace by ``<URL>``
    emails: Handling = "keep"  # keep, remove, or replace by ``<EMAIL>``
    # Replace every punctuation character by a space, so that words do not grow together.
    remove_punctuation: bool = False
    numbers_to_token: bool = False  # replace every number by ``<NUM>``


PIPELINES: Final[dict[str, Cleaning | None]] = {
    "none": None,
    "basic": Cleaning(),
    "aggressive": Cleaning(
        lowercase=True,
        html_tags="remove",
        urls="remove",
        emails="remove",
        remove_punctuation=True,
        numbers_to_token=True,
    ),
    "moderate": Cleaning(lowercase=True, urls="replace", emails="replace"),
    "minimal": Cleaning(fix_encoding=True),
    "expansion": Cleaning(lowercase=True, contractions=True, urls="replace", emails="replace"),
}
"""Choices of ``features.clean``; ``none`` leaves the text as it is, all others also normalise whitespace."""


def cleaning(name: str) -> Cleaning | None:
    """Return the pipeline of that name (None for ``none``)."""
    if name not in PIPELINES:
        raise unknown_name("value for features.clean", name, list(PIPELINES))
    return PIPELINES[name]


def _handle(pattern: re.Pattern[str], handling: Handling, token: str, text: str) -> str:
    if handling == "keep":
        return text
    return pattern.sub(" " if handling == "remove" else f" {token} ", text)


def clean_text(text: str, steps: Cleaning) -> str:
    """Return one text cleaned; it may be empty."""
    if steps.fix_encoding:
        text = html.unescape(text).encode("ascii", "ignore").decode("ascii")
    if steps.lowercase:
        text = text.lower()
    if steps.contractions:
        text = expand_contractions(text)
    text = _handle(_HTML, steps.html_tags, "", text)
    text = _handle(_URL, steps.urls, "<URL>", text)
    text = _handle(_EMAIL, steps.emails, "<EMAIL>", text)
    # Numbers before punctuation, else 3.5 would be two numbers; a placeholder saves the token's brackets.
    if steps.numbers_to_token:
        text = _NUMBER.sub(f" {_PLACEHOLDER} ", text.replace(_PLACEHOLDER, " "))
    if steps.remove_punctuation:
        text = _PUNCTUATION.sub(" ", text)
    if steps.numbers_to_token:
        text = text.replace(_PLACEHOLDER, "<NUM>")
    return _WHITESPACE.sub(" ", text).strip()


Tokenizer = Callable[[str], list[str]]


def _nltk() -> Tokenizer:
    with needs("nltk", "features.tokenizer=nltk", "'agnews-exp[nlp]'"):
        from nltk.tokenize import NLTKWordTokenizer
    # The class itself, not word_tokenize(), which first splits sentences and needs a downloaded model for
    # that.
    tokenizer = NLTKWordTokenizer()
    return lambda text: list(tokenizer.tokenize(text))


def _spacy() -> Tokenizer:
    with needs("spacy", "features.tokenizer=spacy", "spacy"):
        import spacy  # type: ignore[import-not-found, unused-ignore]
    tokenizer = spacy.blank("en").tokenizer
    return lambda text: [token.text for token in tokenizer(text) if not token.is_space]


_TOKENIZERS: Final[dict[str, Callable[[], Tokenizer]]] = {
    "default": lambda: re.compile(r"\b\w\w+\b").findall,
    "whitespace": lambda: str.split,
    "regex_word": lambda: re.compile(r"\w+").findall,
    "regex_word2": lambda: re.compile(r"\b\w\w+\b").findall,
    "nltk": _nltk,
    "spacy": _spacy,
}
TOKENIZERS: Final = tuple(_TOKENIZERS)
"""Choices of ``features.tokenizer``: the vectoriser's own pattern; split at whitespace; ``\\w+``;
scikit-learn's ``\\w\\w+``; NLTK's Penn Treebank rules; spaCy's English rules."""


def tokenizer(name: str) -> Tokenizer:
    """Return the function that splits a text into tokens, one of :data:`TOKENIZERS`; none holds whitespace or is empty.

    Raises:
        MissingDependencyError: Its package is not installed.
    """
    if name not in _TOKENIZERS:
        raise unknown_name("value for features.tokenizer", name, TOKENIZERS)
    return _TOKENIZERS[name]()


Stemmer = Callable[[list[str]], list[str]]

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
    with needs("nltk", f"features.stemmer={name}", "'agnews-exp[nlp]'"):
        import nltk.stem
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


def _spacy_stemming() -> Stemmer:
    install = f"spacy && python -m spacy download {_SPACY_MODEL}   (or features.stemmer=snowball)"
    with needs("spacy", "features.stemmer=spacy", install):
        import spacy  # type: ignore[import-not-found, unused-ignore]
        from spacy.tokens import Doc  # type: ignore[import-not-found, unused-ignore]
    try:
        language = spacy.load(_SPACY_MODEL, exclude=["parser", "ner"])
    except OSError as error:
        raise MissingDependencyError(
            f"features.stemmer=spacy needs the model {_SPACY_MODEL}, which spaCy does not find here.",
            fix=f"pip install {install}",
        ) from error

    def lemmatise(tokens: list[str]) -> list[str]:
        document = Doc(language.vocab, words=tokens)
        for _, step in language.pipeline:
            document = step(document)
        return [token.lemma_ or token.text for token in document]

    return lemmatise


_WORD_STEMMERS: Final[dict[str, Callable[[], Callable[[str], str]]]] = {
    "porter": lambda: _nltk_module("porter").PorterStemmer().stem,
    "snowball": lambda: _nltk_module("snowball").SnowballStemmer("english").stem,
    "lancaster": lambda: _nltk_module("lancaster").LancasterStemmer().stem,
    "wordnet": _wordnet,
}
STEMMERS: Final = ("none", *_WORD_STEMMERS, "spacy")
"""Choices of ``features.stemmer``: three suffix strippers (NLTK, no data), two lemmatisers (need downloaded
data)."""


def stemmer(name: str) -> Stemmer:
    """Return the function that maps a list of tokens to as many stems or lemmas, one of :data:`STEMMERS`.

    Raises:
        MissingDependencyError: Its package or its data are not installed; the fix says how to get them.
    """
    if name not in STEMMERS:
        raise unknown_name("value for features.stemmer", name, STEMMERS)
    if name == "none":
        return lambda tokens: tokens
    if name == "spacy":
        return _spacy_stemming()
    remembered = _Remembered(_WORD_STEMMERS[name]())
    return lambda tokens: [remembered[token] for token in tokens]


TOKEN_PATTERN = r"\S+"  # noqa: S105 - how a vectoriser finds the tokens of a text that was tokenised here
"""Pattern for vectorisers behind a :class:`TextPreprocessor` that tokenises."""


class TextTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer whose input is a list of texts instead of a matrix."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


class FixedTransformer(TextTransformer):
    """A transformer of texts that learns nothing from them."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class TextPreprocessor(FixedTransformer):
    """Clean, tokenise and stem texts. Learns nothing, so it cannot leak.

    The arguments are of :data:`PIPELINES`, :data:`TOKENIZERS` and :data:`STEMMERS`; with the tokeniser ``default``
    the text is only tokenised when a stemmer needs tokens.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "clean": [StrOptions(set(PIPELINES))],
        "tokenizer": [StrOptions(set(TOKENIZERS))],
        "stemmer": [StrOptions(set(STEMMERS))],
    }

    def __init__(self, clean: str = "none", tokenizer: str = "default", stemmer: str = "none") -> None:
        self.clean = clean
        self.tokenizer = tokenizer
        self.stemmer = stemmer

    @property
    def tokenises(self) -> bool:
        """Whether the output is tokens joined by spaces, to be read with :data:`TOKEN_PATTERN`."""
        return self.tokenizer != "default" or self.stemmer != "none"

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Check the parameters; there is nothing to learn.

        Raises:
            MissingDependencyError: The tokeniser's or stemmer's package or data are missing.
        """
        self._validate_params()
        tokenizer(self.tokenizer)
        stemmer(self.stemmer)
        return self

    def transform(self, X: Iterable[str]) -> list[str]:
        """Return one cleaned text for each text."""
        steps = cleaning(self.clean)
        texts = list(X) if steps is None else [clean_text(text, steps) for text in X]
        if not self.tokenises:
            return texts
        split, stem = tokenizer(self.tokenizer), stemmer(self.stemmer)
        return [" ".join(stem(split(text))) for text in texts]

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return one name: the output is one text per row, and the vectoriser names the columns made from it."""
        return np.asarray(["text"], dtype=object)
