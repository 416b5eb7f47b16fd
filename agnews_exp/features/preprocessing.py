"""The text step of a feature pipeline: cleaning, then tokens, then stems, joined again by single spaces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import StrOptions

from agnews_exp.features.cleaning import PIPELINES, clean_text, cleaning
from agnews_exp.features.stemming import STEMMERS, stemmer
from agnews_exp.features.tokenising import TOKENIZERS, tokenizer

TOKEN_PATTERN = r"\S+"  # noqa: S105 - how a vectoriser finds the tokens of a text that was tokenised here
"""Pattern for vectorisers behind a :class:`TextPreprocessor` that tokenises."""


class TextPreprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clean, tokenise and stem texts. Learns nothing, so it cannot leak.

    Args:
        clean: Cleaning pipeline, a key of :data:`agnews_exp.features.cleaning.PIPELINES`.
        tokenizer: Tokeniser name; with ``default`` the text is only tokenised when a stemmer needs tokens.
        stemmer: Stemmer or lemmatiser name.
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
        """Return one name: what comes out is still one text per row, whose columns the vectoriser names."""
        return np.asarray(["text"], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags
