"""N-gram features at the speed of compiled code: scikit-learn's vectorisers, result for result.

``CountVectorizer`` and ``TfidfVectorizer`` replace scikit-learn's, and :class:`FeatureUnion` puts them side by side.
Within :func:`shared_counts` all of them count a corpus once.
"""

from agnews_exp.ngrams.fitting import shared_counts
from agnews_exp.ngrams.vectorizers import CountVectorizer, FeatureUnion, TfidfVectorizer

__all__ = ["CountVectorizer", "FeatureUnion", "TfidfVectorizer", "shared_counts"]
