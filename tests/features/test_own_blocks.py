"""A feature block of one's own whose fit leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from agnews_exp.core.errors import ConfigError
from agnews_exp.features.build import check_fitted
from agnews_exp.ngrams import CountVectorizer, FeatureUnion

TEXTS = ["one two two", "two three three", "three one one"]


class Length(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[float(len(text))] for text in X])


class CarefulLength(Length):
    def fit(self, X, y=None):
        self.n_columns_ = 1
        return self


def fitted(block):
    union = FeatureUnion([("words", CountVectorizer(n_jobs=1)), ("length", block)])
    pipeline = Pipeline([("blocks", union)])
    pipeline.fit_transform(TEXTS)
    return pipeline


def test_block_without_a_fitted_attribute_is_named_with_the_fix():
    with pytest.raises(ConfigError, match=r"features\.blocks\.length: fit of Length") as caught:
        check_fitted(fitted(Length()))
    assert "set one in fit" in str(caught.value)


def test_the_same_as_the_only_block():
    with pytest.raises(ConfigError, match=r"features\.blocks: fit of Length"):
        check_fitted(Pipeline([("blocks", Length().fit(TEXTS))]))


def test_block_with_a_fitted_attribute_passes_and_transforms():
    pipeline = fitted(CarefulLength())
    check_fitted(pipeline)
    assert pipeline.transform(TEXTS).shape == (3, 4)
