"""The model folder of the transformer family: safetensors weights, JSON beside them, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agnews_exp.models import recipes
from agnews_exp.models.inference import TextPredictor
from agnews_exp.models.manifest import read_manifest, write_manifest
from agnews_exp.models.recipes import Recipe, read_recipe

_WEIGHTS = "model.safetensors"


def save_predictor(predictor: TextPredictor, recipe: Recipe, folder: Path) -> None:
    """Write config.json, model.safetensors, the tokenizer's files and manifest.json.

    A network with its architecture's own head can be loaded by ``AutoModelForSequenceClassification.from_pretrained``
    too.

    Args:
        predictor: What to save; LoRA adapters must be merged.
        recipe: How the network was built.
        folder: Created if needed.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    network: Any = predictor.network
    encoder = getattr(network, "encoder", None)
    standard = isinstance(recipe, recipes.EncoderRecipe) and recipe.pooling == "head"
    if encoder is not None:
        encoder.config.save_pretrained(folder)
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": type(recipe).__name__}) + "\n", encoding="utf-8")
    weights = (encoder if standard and encoder is not None else network).state_dict()
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / _WEIGHTS, {"format": "pt"})
    predictor.tokenizer.save_pretrained(folder)
    write_manifest(
        folder,
        "transformer",
        predictor.class_names,
        max_length=predictor.max_length,
        vocabulary=len(predictor.tokenizer),
        recipe=recipe.as_dict(),
    )


def load_predictor(folder: Path, device: str = "auto") -> TextPredictor:
    """Load what :func:`save_predictor` wrote; needs no network and no hub.

    Args:
        folder: The model folder.
        device: A torch device, or ``auto`` for the first GPU if there is one.

    Raises:
        StorageError: A file is missing or was changed.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import PreTrainedTokenizerFast

    manifest = read_manifest(folder, "transformer", needs=[_WEIGHTS])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    recipe = read_recipe(manifest["recipe"])
    class_names = tuple(manifest["class_names"])
    network = _empty_network(recipe, folder, tokenizer, class_names)
    standard = isinstance(recipe, recipes.EncoderRecipe) and recipe.pooling == "head"
    (network.encoder if standard else network).load_state_dict(load_file(folder / _WEIGHTS))
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return TextPredictor(network, tokenizer, class_names, int(manifest["max_length"]), torch.device(chosen))


def _empty_network(recipe: Recipe, folder: Path, tokenizer: Any, class_names: tuple[str, ...]) -> Any:
    from agnews_exp.models.encoders import build_network

    if not isinstance(recipe, recipes.EncoderRecipe):
        return build_network(recipe, tokenizer, class_names)
    from transformers import AutoConfig

    from agnews_exp.models.networks import HeadClassifier, MeanPoolClassifier

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return (HeadClassifier if recipe.pooling == "head" else MeanPoolClassifier).from_config(config, recipe.dropout)
