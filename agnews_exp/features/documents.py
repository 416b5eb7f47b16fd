"""Twelve numbers per document: lengths, richness, and what kinds of characters it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from agnews_exp.features.preprocessing import TextTransformer

DOCUMENT_FEATURES: Final[tuple[str, ...]] = (
    "char_count",
    "word_count",
    "sentence_count",
    "avg_word_length",
    "avg_sentence_length",
    "ttr",
    "punctuation_density",
    "uppercase_ratio",
    "digit_ratio",
    "has_url",
    "has_email",
    "has_phone",
)
"""Names of the columns, in their order."""

_WORD: Final = re.compile(r"\w+(?:['\u2019-]\w+)*")
# A sentence ends at . ! ? (with closing quotes or brackets) before whitespace and the start of another
# sentence; not after one capital letter (initials, "U.S.") nor after a common abbreviation.
_SENTENCE_END: Final = re.compile(
    r"(?<!\b[A-Z])(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\bInc)(?<!\bCorp)(?<!\bCo)(?<!\bLtd)(?<!\bNo)"
    r"[.!?]+[\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[A-Z0-9])"
)
_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")
_URL: Final = re.compile(r"https?://\S|\bwww\.\w", re.IGNORECASE)
EMAIL: Final = re.compile(r"\b[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
PHONE: Final = re.compile(r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}(?!\w)")


def document_features(text: str) -> list[float]:
    """Return the twelve features of one text, in the order of :data:`DOCUMENT_FEATURES`.

    Words are runs of word characters, joined by inner apostrophes and hyphens; ``avg_word_length`` is in
    characters, ``avg_sentence_length`` in words; ``ttr`` is distinct lower-cased words over words; densities
    and ratios are per character; the last three are 0 or 1. An empty text gives zeros.
    """
    n_chars = len(text)
    words = _WORD.findall(text)
    n_words = len(words)
    n_sentences = len(_SENTENCE_END.split(text.strip())) if text.strip() else 0
    return [
        float(n_chars),
        float(n_words),
        float(n_sentences),
        sum(map(len, words)) / n_words if n_words else 0.0,
        n_words / n_sentences if n_sentences else 0.0,
        len({word.lower() for word in words}) / n_words if n_words else 0.0,
        len(_PUNCTUATION.findall(text)) / n_chars if n_chars else 0.0,
        sum(map(str.isupper, text)) / n_chars if n_chars else 0.0,
        sum(map(str.isdigit, text)) / n_chars if n_chars else 0.0,
        float(_URL.search(text) is not None),
        float(EMAIL.search(text) is not None),
        float(PHONE.search(text) is not None),
    ]


class DocumentFeatures(TextTransformer):
    """Texts to a dense (n, 12) matrix of document features.

    With ``scale=standard`` every column has mean 0 and variance 1 over the texts it was fitted on; with ``none`` it has
    the raw numbers.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"scale": [StrOptions({"standard", "none"})]}

    def __init__(self, scale: str = "standard") -> None:
        self.scale = scale

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Learn mean and variance of each feature on these texts."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Iterable[str], y: object = None, **fit_params: object) -> NDArray[np.float64]:
        """Fit on the texts and return their (n, 12) matrix."""
        self._validate_params()
        raw = self._raw(X)
        self.scaler_ = StandardScaler().fit(raw) if self.scale == "standard" else None
        return raw if self.scaler_ is None else np.asarray(self.scaler_.transform(raw))

    def transform(self, X: Iterable[str]) -> NDArray[np.float64]:
        """Return the (n, 12) matrix of the texts, scaled as fitted."""
        check_is_fitted(self, "scaler_")
        raw = self._raw(X)
        return raw if self.scaler_ is None else np.asarray(self.scaler_.transform(raw))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the twelve columns."""
        return np.asarray(DOCUMENT_FEATURES, dtype=object)

    @staticmethod
    def _raw(texts: Iterable[str]) -> NDArray[np.float64]:
        rows = [document_features(text) for text in texts]
        return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(DOCUMENT_FEATURES))
