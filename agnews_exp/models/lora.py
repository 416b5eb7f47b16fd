"""LoRA adapters (Hu et al. 2021) through peft: the encoder's weights stay, low-rank updates are trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from agnews_exp.config.errors import ConfigError, MissingDependencyError, nearest
from agnews_exp.models.recipes import EncoderRecipe

_QUERY_VALUE = ("query", "value", "q_lin", "v_lin", "query_proj", "value_proj", "q_proj", "v_proj")


def add_adapters(network: Any, recipe: EncoderRecipe) -> nn.Module:
    """Put adapters into the encoder's linear layers and freeze its own weights; the classifier is trained whole.

    Raises:
        MissingDependencyError: peft is not installed.
        ConfigError: A target names no linear layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependencyError(
            f"model.lora_rank={recipe.lora_rank} needs the package 'peft', which is not installed.",
            fix="pip install 'agnews-exp[lora]'",
        ) from error
    linear = {n.rpartition(".")[2] for n, m in network.encoder.named_modules() if isinstance(m, nn.Linear)}
    if recipe.lora_targets == "auto":
        targets = sorted(linear.intersection(_QUERY_VALUE))
    else:
        targets = [recipe.lora_targets] if isinstance(recipe.lora_targets, str) else list(recipe.lora_targets)
    for target in targets or ["auto"]:
        if target not in linear:
            guess = nearest(target, linear)
            raise ConfigError(
                f"model.lora_targets={target}: the encoder has no linear layer of that name.\n"
                f"  allowed: {', '.join(sorted(linear))}",
                fix=f"model.lora_targets=[{guess}]" if guess else None,
            )
    heads = [name for name, _ in network.named_parameters() if network.is_head(name)]
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # any number scales
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        bias="none",
    )
    network = inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name or name in heads)
    return network  # type: ignore[no-any-return]


def merge_adapters(network: Any) -> None:
    """Add the trained updates to the encoder's weights, in place: the saved model needs no peft."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
