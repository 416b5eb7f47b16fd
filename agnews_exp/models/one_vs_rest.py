"""Sets of classes from any classifier: one for each class against all others, with a threshold of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.multiclass import OneVsRestClassifier

from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.answers import offers


class OneVsRest(OneVsRestClassifier):  # type: ignore[misc]
    """Scikit-learn's one-vs-rest, whose answer holds the classes with a confidence of at least their threshold.

    Confidences are probabilities, or decision scores through the logistic function. ``thresholds_``, shape (K,), are .5
    after a fit.
    """

    def fit(self, X: Any, y: NDArray[np.int64], **more: Any) -> Self:
        """Fit one classifier for each of the K columns of ``y``, shape (n, K)."""
        super().fit(X, y, **more)
        self.thresholds_ = np.full(y.shape[1], 0.5)
        return self

    def answer(self, X: Any) -> Predictions:
        """Return sets, scores and probabilities of n rows, shape (n, K) each, as far as there are any."""
        scores = np.asarray(self.decision_function(X)) if offers(self, "decision_function") else None
        probabilities = np.asarray(self.predict_proba(X)) if offers(self, "predict_proba") else None
        every = np.ones((X.shape[0] if hasattr(X, "shape") else len(X), len(self.thresholds_)), dtype=np.int64)
        found = Predictions(every, scores, probabilities)
        return replace(found, labels=(found.confidences >= self.thresholds_).astype(np.int64))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the sets of n rows, shape (n, K), of 0 and 1."""
        return self.answer(X).labels
