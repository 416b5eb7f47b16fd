"""The choice of the runner for a configured model's family, and work that all fits of a run share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from agnews_exp.config.targets import find_targets, resolve_target
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import Splits
from agnews_exp.models.answers import SourceRun
from agnews_exp.runners.protocol import Runner


def make_runner(
    checked: CheckedConfig,
    *,
    folder: Path | None = None,
    fingerprint: str = "",
    sources: Mapping[str, SourceRun] | None = None,
) -> Runner:
    """Return the runner of the configured model's family.

    Without a folder no checkpoints and curves are kept (folds); ``sources`` are the finished runs that a cascade or a
    student builds on, by the key that names each.
    """
    family = checked.run.model.family
    if "teacher" in checked.plain["model"]:
        from agnews_exp.runners.distil_runner import DistilRunner

        return DistilRunner(checked, sources or {}, folder=folder, fingerprint=fingerprint)
    if family == "classical":
        from agnews_exp.runners.sklearn_runner import SklearnRunner

        return SklearnRunner(checked)
    if family == "transformer":
        from agnews_exp.runners.lightning_runner import LightningRunner

        return LightningRunner(checked, folder=folder, fingerprint=fingerprint)
    if family == "cascade":
        from agnews_exp.runners.cascade_runner import CascadeRunner

        return CascadeRunner(checked, sources or {}, folder)
    if family == "llm":
        from agnews_exp.runners.llm_runner import LlmRunner

        return LlmRunner(checked)
    raise ConfigError(
        f"model={checked.run.model.name} stands for answers that somebody else's model gave: nothing is trained.",
        fix="agnews evaluate answers.csv",
    )


def start_preparing(checked: CheckedConfig) -> Callable[[], None]:
    """Begin to compile the kernels of a classical run while rows are read; return a function that waits for them."""
    if checked.run.model.family != "classical":
        return lambda: None
    counters, models = ({str(path) for _, path in find_targets(checked.plain[g], g)} for g in ("features", "model"))
    counted = any(name.startswith("agnews_exp.ngrams.") for name in counters)
    classes: list[Any] = [resolve_target(name, "model") for name in _WITH_KERNELS if name in models]
    if not counted and not classes:
        return lambda: None
    from agnews_exp.ngrams.vectorizers import start_compiling

    return start_compiling(*(cls.compile_kernel for cls in classes))


_WITH_KERNELS = ("agnews_exp.models.ngram_linear.NgramLinear", "agnews_exp.models.nearest.CosineNeighbors")


def prepared(checked: CheckedConfig, splits: Splits) -> AbstractContextManager[None]:
    """Return a context in which all fits of a run (folds, final fit) share work and, through the cache, all runs.

    For classical models the n-grams of all rows are counted once; each fit still takes its vocabulary and weights
    from its own training rows alone.
    """
    if checked.run.model.family != "classical":
        return nullcontext()
    from agnews_exp.runners.sklearn_runner import shared_features

    return shared_features(checked, splits)
