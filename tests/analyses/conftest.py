"""Small models that err, as analyses see them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agnews_exp.analyses.performing import AnalysisContext
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.models.loading import ClassicalModel
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.runners.sklearn_runner import SklearnRunner


@pytest.fixture(scope="session")
def fit():
    """Return ``fit(folder, "model=...", ...)``: the context of a model that was fitted on the sample."""

    def context_of(folder, *words):
        checked = check_config(compose_config(["data=sample", "tracking=none", *words]))
        stages = Stages(quiet=True)
        splits = load_splits(checked, stages)
        runner = SklearnRunner(checked)
        runner.fit(splits, stages)
        model = ClassicalModel(runner.pipeline, splits.class_names)
        answers = {"val": model.predict(splits.validation.texts), "test": model.predict(splits.test.texts)}
        return AnalysisContext(checked, splits, answers, model, folder)

    return context_of


@pytest.fixture(scope="module")
def trained(fit, tmp_path_factory):
    """Return a context whose model was fitted on few rows, so that it errs."""
    root = tmp_path_factory.mktemp("errors")
    words = ("features=word_tfidf", "model=linear_svc", "data_fraction=0.05", f"paths.cache_dir={root}/cache")
    return fit(root, *words)


@pytest.fixture
def context(trained, tmp_path):
    return replace(trained, folder=tmp_path)
