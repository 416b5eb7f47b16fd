"""A drop-in replacement of scikit-learn's TfidfVectorizer that counts in compiled code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.feature_extraction import text as sklearn_text
from sklearn.utils.validation import check_is_fitted

from agnews_exp.features.fast.count_vectorizer import CountVectorizer, as_sparse, sorted_rows
from agnews_exp.features.fast.fitting import Learned, learn, learn_part
from agnews_exp.features.fast.matrix import Part, Weighting
from agnews_exp.features.fast.signatures import constraints_with_jobs, init_with_jobs, usable_jobs
from agnews_exp.features.fast.symbols import KeyTooWideError


class TfidfVectorizer(sklearn_text.TfidfVectorizer, CountVectorizer):  # type: ignore[misc]
    """TF-IDF of word or character n-grams: scikit-learn's TfidfVectorizer, many times as fast.

    Everything said of :class:`CountVectorizer` holds. A value differs from scikit-learn's by rounding at most,
    because a row's norm is summed in the order of its columns.

    Args:
        n_jobs: Number of threads, None or -1 for all cores; the result does not depend on it. The other arguments
            are scikit-learn's; ``ngram_range`` may also be a list.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints_with_jobs(sklearn_text.TfidfVectorizer)

    __init__ = init_with_jobs(sklearn_text.TfidfVectorizer)

    def _weighting(self, idf: NDArray[np.float64] | None, factor: float = 1.0) -> Weighting:
        inner = self._tfidf
        return Weighting(bool(self.binary), True, bool(inner.sublinear_tf), idf, inner.norm, factor)

    def _inverse_frequencies(self, df: NDArray[np.int64], n_rows: int) -> NDArray[np.float64] | None:
        """Return ln((1 + n) / (1 + df)) + 1, or ln(n / df) + 1 unsmoothed, or None without idf."""
        if not self.use_idf:
            return None
        smooth = int(self.smooth_idf)
        idf: NDArray[np.float64] = np.log((n_rows + smooth) / (df.astype(np.float64) + smooth)) + 1.0
        return idf

    def fit(self, raw_documents: Iterable[Any], y: Any = None) -> TfidfVectorizer:
        """Learn the vocabulary and the inverse document frequencies.

        Args:
            raw_documents: Texts.
            y: Ignored.
        """
        self._fit_tfidf(raw_documents, want_matrix=False)
        return self

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and the inverse document frequencies, and return TF-IDF, shape (rows, terms).

        Args:
            raw_documents: Texts.
            y: Ignored.
        """
        return self._fit_tfidf(raw_documents, want_matrix=True)

    def makes_parts(self) -> bool:
        """Whether compiled code weighs these features, so that :class:`FeatureUnion` can place them itself."""
        return np.dtype(self.dtype) == np.float64 and self._spec() is not None

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_part(self, documents: Sequence[Any], factor: float) -> Part:
        """Fit, and return what the rows can be built from instead of the rows.

        Args:
            documents: Texts.
            factor: What every value is multiplied with.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        self._start_fit()
        part = self._learn_tfidf(documents, factor, True, learn_part).part
        assert part is not None
        return part

    def rows_part(self, documents: Sequence[Any], factor: float) -> Part:
        """Return what the rows of documents can be built from; arguments and errors as :meth:`fit_part`."""
        weighting = self._weighting(getattr(self._tfidf, "idf_", None), factor)
        return self._finder().part(self._decoded(documents), weighting, usable_jobs(self.n_jobs))

    def _start_fit(self) -> None:
        self._check_params()
        self._tfidf = sklearn_text.TfidfTransformer(
            norm=self.norm, use_idf=self.use_idf, smooth_idf=self.smooth_idf, sublinear_tf=self.sublinear_tf
        )

    def _learn_tfidf(self, documents: Sequence[Any], factor: float, want_rows: bool, how: Any) -> Learned:
        spec = self._spec()
        if spec is None or np.dtype(self.dtype) != np.float64:
            raise KeyTooWideError

        def weigh(df: NDArray[np.int64], n_rows: int) -> Weighting:
            return self._weighting(self._inverse_frequencies(df, n_rows), factor)

        weights = repr((self.norm, self.use_idf, self.smooth_idf, self.sublinear_tf, factor))
        learned = self._learn(documents, spec, weigh, weights, want_rows, how)
        idf = self._inverse_frequencies(learned.df, len(documents))
        if idf is not None:
            self._tfidf.idf_ = idf
        self._tfidf.n_features_in_ = len(learned.df)
        return learned

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _fit_tfidf(self, raw_documents: Iterable[Any], want_matrix: bool) -> Any:
        self._start_fit()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if not isinstance(documents, str) and self.makes_parts():
            try:
                learned = self._learn_tfidf(documents, 1.0, want_matrix, learn)
            except KeyTooWideError:
                counts = sorted_rows(sklearn_text.CountVectorizer.fit_transform(self, documents))
            else:
                return None if learned.matrix is None else as_sparse(learned.matrix, len(learned.df), np.float64)
        else:
            counts = self._fit_counts(documents, want_matrix=True)
        # Other types of matrix, and whatever is left to scikit-learn, are weighed by scikit-learn.
        self._tfidf.fit(counts)
        return self._tfidf.transform(counts, copy=False) if want_matrix else None

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """Return TF-IDF with what fit learned, shape (rows, terms).

        Args:
            raw_documents: Texts.
        """
        check_is_fitted(self, msg="The TF-IDF vectorizer is not fitted")
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if np.dtype(self.dtype) == np.float64 and hasattr(self, "_tfidf"):
            idf = getattr(self._tfidf, "idf_", None)
            rows = self._rows(documents, self._weighting(idf))
            if rows is not None:
                return rows
        counts = CountVectorizer.transform(self, documents)
        return self._tfidf.transform(counts, copy=False)
