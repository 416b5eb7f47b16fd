"""A small model that errs, as analyses see it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from agnews_exp.analyses.performing import AnalysisContext
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits
from agnews_exp.runners.sklearn_runner import SklearnRunner


@dataclass
class Model:
    """A fitted runner with what analyses ask of a loaded model."""

    runner: Any
    class_names: tuple[str, ...]
    family: str = "classical"

    def predict(self, texts):
        return self.runner.predict(texts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a context whose model was fitted on few rows, so that it errs."""
    root = tmp_path_factory.mktemp("errors")
    words = ["data=sample", "features=word_tfidf", "model=linear_svc", "tracking=none", "data_fraction=0.05"]
    checked = check_config(compose_config([*words, f"paths.cache_dir={root}/cache"]))
    stages = Stages(quiet=True)
    splits = load_splits(checked, stages)
    runner = SklearnRunner(checked)
    runner.fit(splits, stages)
    answers = {"val": runner.predict(splits.validation.texts), "test": runner.predict(splits.test.texts)}
    return AnalysisContext(checked, splits, answers, Model(runner, splits.class_names), root)


@pytest.fixture
def context(trained, tmp_path):
    return replace(trained, folder=tmp_path)
