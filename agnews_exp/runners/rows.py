"""The configured data, split the study's one way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from agnews_exp.config.errors import ConfigError
from agnews_exp.config.targets import resolve_target, safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.data.corpus import Corpus, Splits
from agnews_exp.runners.stages import Stages


def load_splits(checked: CheckedConfig, stages: Stages) -> Splits:
    """Load the configured data and make the study's one split."""
    from agnews_exp.data.splits import make_splits

    with stages.stage("load", f"loading {checked.run.data.name}"):
        corpus = safe_instantiate(checked.component("data"), "data")
        if not isinstance(corpus, Corpus):
            target = checked.run.data.target
            raise ConfigError(
                f"data._target_={target} returned {type(corpus).__name__}, which is no Corpus.",
                fix="return agnews_exp.data.corpus.Corpus.from_pairs(...)",
            )
        return make_splits(
            corpus,
            split_seed=checked.run.split_seed,
            validation_size=checked.run.data.validation_size,
            test_size=checked.run.data.test_size,
            data_fraction=checked.run.data_fraction,
            subset=_subset(checked),
        )


def _subset(checked: CheckedConfig) -> Callable[..., Any]:
    component = checked.component("subset")
    return partial(resolve_target(component.pop("_target_"), "subset._target_"), **component)
