"""A finished run's model, loaded to answer as it did in the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agnews_exp.models.loading import FittedModel, load_model
from agnews_exp.models.manifest import read_manifest


def load_judged(folder: Path, settings: Any) -> FittedModel:
    """Load a run's model; a network gets the precision and the batches of the run instead of those of serving.

    A network judged in 16-bit floats answers a text in some thousands otherwise in 32, and takes longer for it.

    Args:
        folder: The run's model folder.
        settings: The run's trainer group; ``auto`` means what this machine does best.

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
