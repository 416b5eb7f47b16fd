"""AdamW's parameter groups and the learning-rate schedules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch

from agnews_exp.models.recipes import Recipe

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def parameter_groups(network: Any, recipe: Recipe, *, everything: bool = False) -> list[dict[str, Any]]:
    """Group trainable parameters by weight decay and learning rate.

    Biases, LayerNorm and other vectors have no weight decay. With ``layerwise_lr_decay`` d, layer i of L has the rate
    lr * d^(L - 1 - i), the embeddings lr * d^L, the classifier lr (Howard & Ruder 2018, discriminative fine-tuning).

    Args:
        network: Has ``is_head(name)``.
        recipe: Rates and decays.
        everything: Include parameters that are frozen now (they may be unfrozen later).
    """
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad or everything]
    layers = [int(m.group(1)) for n, _ in named if (m := _LAYER.search(n))]
    depth = max(layers, default=-1) + 1
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in named:
        if network.is_head(name):
            below = 0
        elif match := _LAYER.search(name):
            below = depth - 1 - int(match.group(1))
        else:
            below = depth
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        rate = recipe.learning_rate * recipe.layerwise_lr_decay**below
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def learning_rate_factor(schedule: str, warmup_ratio: float, total_steps: int) -> Callable[[int], float]:
    """Return the factor on the peak learning rate at each optimiser step.

    It rises linearly over the first ``warmup_ratio`` of the steps, then falls to 0 at the last (linear, or half a
    cosine), or stays at 1 (constant).
    """
    warmup = math.ceil(warmup_ratio * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, total_steps - warmup)
        if schedule == "constant":
            return 1.0
        if schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        return max(0.0, 1.0 - done)

    return factor


def make_adamw(groups: list[dict[str, Any]], *, fused: bool) -> torch.optim.AdamW:
    """Return AdamW with betas (0.9, 0.999) and epsilon 1e-8, fused where asked."""
    return torch.optim.AdamW(groups, lr=groups[0]["lr"] if groups else 1e-3, betas=(0.9, 0.999), eps=1e-8, fused=fused)
