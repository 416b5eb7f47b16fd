"""Several fast vectorisers side by side, written straight into one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import FeatureUnion as SklearnFeatureUnion
from sklearn.utils.validation import check_is_fitted

from agnews_exp.features.fast.count_vectorizer import as_sparse
from agnews_exp.features.fast.matrices import active_cache
from agnews_exp.features.fast.matrix import Part, build_matrix
from agnews_exp.features.fast.signatures import usable_jobs
from agnews_exp.features.fast.symbols import KeyTooWideError
from agnews_exp.features.fast.vectorizers import TfidfVectorizer


class FeatureUnion(SklearnFeatureUnion):  # type: ignore[misc]
    """scikit-learn's FeatureUnion; when all members are fast TF-IDF vectorisers, without intermediate matrices.

    Stacking finished matrices holds every value twice for a while: that is most of the memory of a hybrid of word
    and character n-grams, and much of its time. The result is the same. Members of any other kind, metadata, verbose
    output and an open :func:`~agnews_exp.features.fast.cached_matrices` (which keeps each member's matrix) are left
    to scikit-learn.
    """

    def _members(self) -> list[tuple[TfidfVectorizer, float]] | None:
        """Return the vectorisers with their weights, or None when scikit-learn has to do it."""
        if self.verbose or active_cache() is not None or not self.transformer_list:
            return None
        self._validate_transformer_weights()
        weights = {name: weight for name, weight in (self.transformer_weights or {}).items() if weight is not None}
        members = [(member, float(weights.get(name, 1.0))) for name, member in self.transformer_list]
        return members if all(type(m) is TfidfVectorizer and m.makes_parts() for m, _ in members) else None

    def _matrix(self, members: Sequence[tuple[TfidfVectorizer, float]], parts: Sequence[Part]) -> Any:
        arrays = build_matrix(parts, usable_jobs(members[0][0].n_jobs))
        return as_sparse(arrays, sum(part.n_columns for part in parts), np.float64)

    def fit_transform(self, X: Iterable[Any], y: Any = None, **params: Any) -> Any:
        """Fit all members and return their matrices side by side.

        Args:
            X: Texts.
            y: Ignored by the vectorisers.
            **params: As scikit-learn's.
        """
        members = None if params or isinstance(X, str) else self._members()
        if members is None:
            return super().fit_transform(X, y, **params)
        self._validate_transformers()
        documents = list(X)
        try:
            parts = [member.fit_part(documents, weight) for member, weight in members]
        except KeyTooWideError:
            return super().fit_transform(documents, y)
        return self._matrix(members, parts)

    def transform(self, X: Iterable[Any], **params: Any) -> Any:
        """Return the members' matrices side by side.

        Args:
            X: Texts.
            **params: As scikit-learn's.
        """
        members = None if params or isinstance(X, str) else self._members()
        if members is None:
            return super().transform(X, **params)
        documents = list(X)
        for member, _ in members:
            check_is_fitted(member, msg="The TF-IDF vectorizer is not fitted")
        try:
            parts = [member.rows_part(documents, weight) for member, weight in members]
            return self._matrix(members, parts)
        except KeyTooWideError:
            return super().transform(documents)
