"""N-gram features at the speed of compiled code: scikit-learn's vectorisers, result for result.

``CountVectorizer`` and ``TfidfVectorizer`` replace scikit-learn's, and :class:`FeatureUnion` puts them side by side.
Within :func:`shared_counts` all of them count a corpus once; within :func:`cached_matrices` finished matrices are
kept on disk.
"""

from agnews_exp.features.fast.count_vectorizer import CountVectorizer
from agnews_exp.features.fast.matrices import cached_matrices
from agnews_exp.features.fast.shared import SharedCounts, shared_counts
from agnews_exp.features.fast.union import FeatureUnion
from agnews_exp.features.fast.vectorizers import TfidfVectorizer

__all__ = ["CountVectorizer", "FeatureUnion", "SharedCounts", "TfidfVectorizer", "cached_matrices", "shared_counts"]
