"""The rows of the configured data, split as for all runs, and a finished run's model to judge on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.schema import RunConfig
from agnews_exp.config.targets import resolve_target, safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.data.corpus import Corpus, Splits
from agnews_exp.data.stratification import class_counts
from agnews_exp.models.answers import FittedModel
from agnews_exp.models.loading import load_model
from agnews_exp.models.persistence import read_manifest
from agnews_exp.runners.protocol import Stages


def load_judged(folder: Path, settings: Any) -> FittedModel:
    """Load a run's model; a network gets the precision and the batches of the run instead of those of serving.

    A network that was judged in 16-bit floats answers about one text in some thousands differently in 32, and slower.

    Raises:
        StorageError: See :func:`agnews_exp.models.loading.load_model`.
    """
    model = load_model(folder)
    if model.family != "transformer":
        return model
    from dataclasses import replace

    from agnews_exp.models.inference import TextPredictor
    from agnews_exp.models.recipes import read_recipe
    from agnews_exp.runners.devices import choose_precision

    assert isinstance(model, TextPredictor)
    large = read_recipe(read_manifest(folder)["recipe"]).large
    return replace(
        model,
        precision=choose_precision(settings.precision, model.device.type, large=large),
        batch_size=settings.evaluation_batch_size,
        token_budget=settings.token_budget,
    )


def class_weights(
    wanted: str | Mapping[str, float] | None, labels: NDArray[np.int64], class_names: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return the weight of each class, shape (K,); None where all weigh alike.

    ``balanced`` is ``n / (K n_k)``, as in scikit-learn: the mean weight of a row is 1. Of sets of classes it is
    ``(n - n_k) / n_k``, so that the rows with a class weigh as much as those without.

    Weights by class name are 1 for a class without; ``labels``, shape (n,), are those of the training rows.

    Raises:
        ConfigError: A weight is for a class that the data do not have.
    """
    if wanted is None:
        return None
    weights = np.ones(len(class_names))
    if isinstance(wanted, str):
        counts = class_counts(labels, len(class_names))
        present = counts > 0
        others = len(labels) / present.sum() if labels.ndim == 1 else len(labels) - counts[present]
        weights[present] = others / counts[present]
        return weights
    for name, weight in wanted.items():
        if name not in class_names:
            raise unknown_name("class in model.class_weight", name, class_names)
        weights[list(class_names).index(name)] = weight
    return weights


def needs_network(checked: CheckedConfig) -> bool:
    """Return whether the configured data would be downloaded, or are in a cache of downloads."""
    data = checked.plain["data"]
    return _is_of_hub(data) or (bool(data.get("download")) and not data.get("dir"))


def _is_of_hub(data: Mapping[str, Any]) -> bool:
    return str(data["_target_"]).endswith(".load_hf") and not Path(data["path"] or ".").expanduser().is_dir()


def pinned_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data group in which a data set of the hub has the commit that is taken now.

    Raises:
        DataError: See :func:`agnews_exp.data.hub_datasets.ask_for_files`.
    """
    if not _is_of_hub(data):
        return dict(data)
    from agnews_exp.data.hub_datasets import ask_for_files

    commit, _ = ask_for_files(data["path"], data["revision"], Path(data["cache_dir"]), data["hub_timeout"])
    return {**data, "revision": commit}


def drawn_by(run: RunConfig) -> int:
    """Return the seed by which a run's subset of the training rows is drawn."""
    if run.subset_seed is None:
        return run.split_seed
    return run.seed if run.subset_seed == "seed" else run.subset_seed


def load_splits(checked: CheckedConfig, stages: Stages) -> Splits:
    """Load the configured data and make the one split that all runs share."""
    from agnews_exp.data.splits import make_splits

    with stages.stage("load", f"loading {checked.run.data.name}"):
        corpus = safe_instantiate(checked.component("data"), "data")
        if not isinstance(corpus, Corpus):
            target = checked.run.data.target
            raise ConfigError(
                f"data._target_={target} returned {type(corpus).__name__}, which is no Corpus.",
                fix="return agnews_exp.data.corpus.Corpus.from_pairs(...)",
            )
        subset = checked.component("subset")
        return make_splits(
            corpus,
            split=checked.run.split.name,
            split_seed=checked.run.split_seed,
            validation_size=checked.run.data.validation_size,
            test_size=checked.run.data.test_size,
            data_fraction=checked.run.data_fraction,
            subset_seed=drawn_by(checked.run),
            held_out=checked.run.held_out,
            subset=partial(resolve_target(subset.pop("_target_"), "subset._target_"), **subset),
        )
