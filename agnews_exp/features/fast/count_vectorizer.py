"""A drop-in replacement of scikit-learn's CountVectorizer that counts in compiled code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.feature_extraction import text as sklearn_text

from agnews_exp.features.fast.compiled import kernels_available
from agnews_exp.features.fast.fitting import Arrays, FitRequest, Learned, Lookup, learn
from agnews_exp.features.fast.matrix import Weighting
from agnews_exp.features.fast.selection import Limits
from agnews_exp.features.fast.signatures import constraints_with_jobs, init_with_jobs, usable_jobs
from agnews_exp.features.fast.symbols import KeyTooWideError, NgramSpec
from agnews_exp.features.fast.terms import pack_terms, unpack_terms

_DTYPES = ("int64", "int32", "float64", "float32")
_TRANSIENT = ("_vocabulary", "_lookup")


def as_sparse(arrays: Arrays, n_columns: int, dtype: Any) -> Any:
    """Return a canonical CSR matrix of the kind that this scikit-learn returns."""
    values, indices, indptr = arrays
    shape = (len(indptr) - 1, n_columns)
    matrix: Any
    try:
        from sklearn.utils._sparse import _align_api_if_sparse
    except ImportError:
        matrix = sp.csr_matrix((values.astype(dtype, copy=False), indices, indptr), shape=shape)
    else:
        matrix = _align_api_if_sparse(sp.csr_array((values.astype(dtype, copy=False), indices, indptr), shape=shape))
    matrix.has_canonical_format = True
    return matrix


def sorted_rows(matrix: Any) -> Any:
    """Sort the columns of each row of scikit-learn's matrix in place.

    scikit-learn renumbers the columns of a sorted matrix without telling it, so its own flag cannot be believed.
    """
    matrix.has_sorted_indices = False
    matrix.sort_indices()
    return matrix


class CountVectorizer(sklearn_text.CountVectorizer):  # type: ignore[misc]
    """Counts of word or character n-grams: scikit-learn's CountVectorizer, many times as fast.

    Parameters, attributes, results and exceptions are those of ``sklearn.feature_extraction.text.CountVectorizer``,
    and columns ascend within each row. Whatever compiled code does not cover (a callable analyzer, tokenizer or
    preprocessor, a given vocabulary, n-grams that do not fit into 64 bits, no numba) scikit-learn itself does.

    Args:
        n_jobs: Number of threads, None or -1 for all cores; the result does not depend on it. The other arguments
            are scikit-learn's; ``ngram_range`` may also be a list.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints_with_jobs(sklearn_text.CountVectorizer)

    __init__ = init_with_jobs(sklearn_text.CountVectorizer)

    # The vocabulary is kept as two arrays: small, quick to save, and free of pickles. The dict is made when asked for.
    @property
    def vocabulary_(self) -> dict[Any, int]:
        """Column of each term."""
        if "_vocabulary" not in self.__dict__:
            if "_term_text" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no vocabulary_ before it is fitted")
            terms = unpack_terms(self._term_text, self._term_lengths)
            self._vocabulary: dict[Any, int] = {term: column for column, term in enumerate(terms)}
        return self._vocabulary

    @vocabulary_.setter
    def vocabulary_(self, value: dict[Any, int]) -> None:
        self._set_terms(*pack_terms(sorted(value, key=value.__getitem__)))
        self._vocabulary = value

    def _set_terms(self, text: NDArray[np.uint8], lengths: NDArray[np.int32]) -> None:
        for name in _TRANSIENT:
            self.__dict__.pop(name, None)
        self._term_text, self._term_lengths = text, lengths

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in _TRANSIENT}

    def _spec(self) -> NgramSpec | None:
        """Return what compiled code would count, or None where scikit-learn has to do it."""
        covered = (
            self.input == "content"
            and self.preprocessor is None
            and self.vocabulary is None
            and self.analyzer in ("char", "char_wb", "word")
            and self.strip_accents in (None, "ascii", "unicode")
            and np.dtype(self.dtype).name in _DTYPES
            and 1 <= self.ngram_range[0] <= self.ngram_range[1]
        )
        words: dict[str, Any] = {}
        if covered and self.analyzer == "word":
            covered = self.tokenizer is None and self.token_pattern is not None
            words["token_pattern"] = self.token_pattern
            words["stop_words"] = tuple(sorted(self.get_stop_words() or ()))
        if not covered or not kernels_available():
            return None
        return NgramSpec(
            analyzer=self.analyzer,
            min_n=int(self.ngram_range[0]),
            max_n=int(self.ngram_range[1]),
            lowercase=bool(self.lowercase),
            strip_accents=self.strip_accents,
            **words,
        )

    def _decoded(self, documents: Sequence[Any]) -> list[str]:
        texts = [text if type(text) is str else self.decode(text) for text in documents]
        if not all(isinstance(text, str) for text in texts):
            # scikit-learn raises what it raises for such documents.
            raise KeyTooWideError
        return texts

    def _learn(
        self,
        documents: Sequence[Any],
        spec: NgramSpec,
        weigh: Any,
        weights: str,
        want_rows: bool,
        how: Callable[[Sequence[str], FitRequest, int, bool], Learned] = learn,
    ) -> Learned:
        """Fit in compiled code; KeyTooWideError says that scikit-learn has to do it."""
        self._validate_ngram_range()
        self._warn_for_unused_params()
        self._validate_vocabulary()
        self.build_analyzer()  # checks pattern and stop words, and warns as scikit-learn does
        request = FitRequest(
            spec,
            Limits(self.min_df, self.max_df, self.max_features),
            np.dtype(self.dtype),
            bool(self.binary),
            weigh,
            weights,
        )
        learned = how(self._decoded(documents), request, usable_jobs(self.n_jobs), want_rows)
        self._set_terms(learned.term_text, learned.term_lengths)
        self._lookup = learned.lookup
        return learned

    def _finder(self) -> Lookup:
        """Return what finds the fitted vocabulary; KeyTooWideError says that scikit-learn has to do it."""
        spec = self._spec()
        if spec is None or "_term_text" not in self.__dict__:
            raise KeyTooWideError
        lookup: Lookup | None = self.__dict__.get("_lookup")
        if lookup is None or lookup.spec != spec:
            lookup = self._lookup = Lookup(spec, self._term_text, self._term_lengths)
        return lookup

    def _rows(self, documents: str | Sequence[Any], weighting: Weighting) -> Any:
        """Return the rows of documents in a fitted vocabulary, or None where scikit-learn has to make them."""
        if isinstance(documents, str):
            return None
        try:
            arrays = self._finder().matrix(self._decoded(documents), weighting, usable_jobs(self.n_jobs))
        except KeyTooWideError:
            return None
        return as_sparse(arrays, len(self._term_lengths), self.dtype)

    def fit(self, raw_documents: Iterable[Any], y: Any = None) -> CountVectorizer:
        """Learn the vocabulary.

        Args:
            raw_documents: Texts.
            y: Ignored.
        """
        self._fit_counts(raw_documents, want_matrix=False)
        return self

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and return the counts, shape (rows, terms).

        Args:
            raw_documents: Texts.
            y: Ignored.
        """
        return self._fit_counts(raw_documents, want_matrix=True)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _fit_counts(self, raw_documents: Iterable[Any], want_matrix: bool) -> Any:
        spec = self._spec()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if spec is not None and not isinstance(documents, str):
            weighting = Weighting(binary=bool(self.binary))
            try:
                learned = self._learn(documents, spec, lambda df, n: weighting, "counts", want_matrix)
            except KeyTooWideError:
                pass
            else:
                if learned.matrix is None:
                    return None
                return as_sparse(learned.matrix, len(learned.df), self.dtype)
        return sorted_rows(sklearn_text.CountVectorizer.fit_transform(self, documents))

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """Return the counts of the vocabulary's terms, shape (rows, terms).

        Args:
            raw_documents: Texts.
        """
        self._check_vocabulary()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        rows = self._rows(documents, Weighting(binary=bool(self.binary)))
        return sorted_rows(sklearn_text.CountVectorizer.transform(self, documents)) if rows is None else rows
