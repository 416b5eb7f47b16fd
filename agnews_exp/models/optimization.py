"""The optimisation of networks: losses, optimisers, schedules and averaged weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agnews_exp.core.errors import ConfigError
from agnews_exp.models.recipes import Recipe


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] | str,
    *,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
) -> Tensor:
    """Return the sum of the losses of n rows, shape ().

    The focal loss of a row is ``(1 - p)^gamma`` times its cross-entropy, with p the probability of its class (Lin et
    al. 2017, "Focal Loss for Dense Object Detection").

    Logits have shape (n, K), labels (n,), class weights (K,); a loss is ``cross_entropy``, ``focal`` (with ``gamma``),
    ``supervised_contrastive`` (its cross-entropy), or a function of logits and labels that returns n losses. Labels of
    sets have shape (n, K): the loss of a row is the mean binary cross-entropy, weights are those of its classes.
    """
    if labels.ndim > 1:
        rows = functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), pos_weight=weights, reduction="sum"
        )
        return rows / labels.shape[1]
    if loss in ("cross_entropy", "supervised_contrastive"):
        return functional.cross_entropy(logits, labels, weights, label_smoothing=label_smoothing, reduction="sum")
    if callable(loss):
        rows = loss(logits, labels)
        if rows.shape != labels.shape:
            raise ConfigError(
                f"model.loss returned the shape {tuple(rows.shape)}, not one loss a row: ({len(labels)},)."
            )
        return (rows if weights is None else rows * weights[labels]).sum()
    rows = functional.cross_entropy(logits, labels, weights, label_smoothing=label_smoothing, reduction="none")
    chance = functional.softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    return ((1.0 - chance) ** gamma * rows).sum()


def distillation_loss(
    logits: Tensor, labels: Tensor, soft: Tensor, share: Tensor, temperature: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return the sum over rows of ``share T^2 KL(soft || softmax(logits / T)) + (1 - share) CE(labels, logits)``.

    T^2 keeps the size of the first part's gradient, which falls with 1 / T^2 (Hinton, Vinyals and Dean 2015).

    Logits and ``soft``, the teacher's probabilities at the temperature, have shape (n, K), labels and ``share`` (n,).
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    taught = functional.kl_div(student, soft, reduction="none").sum(1) * temperature**2
    labelled = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (share * taught + (1.0 - share) * labelled).sum()


def contrastive_loss(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss of each of n rows, shape (n,), from their vectors (n, D) and classes (n,).

    A row's loss is the mean over other rows p of its class of ``-log(exp(z p / T) / sum over all others exp(z a / T))``
    with unit vectors (Khosla et al. 2020, "Supervised Contrastive Learning", equation 2); 0 where there are none.
    """
    n = len(labels)
    if n < 2:
        return vectors.new_zeros(n)
    unit = functional.normalize(vectors.float(), dim=1)
    itself = torch.eye(n, dtype=torch.bool, device=vectors.device)
    likeness = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    shares = likeness - likeness.logsumexp(1, keepdim=True)
    positive = (labels.unsqueeze(1) == labels) & ~itself
    return -shares.masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp(min=1)


class SeenByClassifier:
    """Keeps the vectors (n, D) that a network's last linear layer, of K outputs, gets in training."""

    def __init__(self, network: nn.Module, n_classes: int) -> None:
        layers = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == n_classes]
        if not layers:
            raise ConfigError(
                f"model.loss=supervised_contrastive: {type(network).__name__} does not end with a linear layer of "
                f"{n_classes} classes, whose input would be contrasted.",
                fix="model.loss=cross_entropy",
            )
        self._vectors: Tensor | None = None
        layers[-1].register_forward_pre_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._vectors = inputs[0] if layer.training else None

    def take(self) -> Tensor:
        """Return the vectors of the latest batch, and let go of them."""
        vectors, self._vectors = self._vectors, None
        assert vectors is not None, "the network has just answered a batch"
        return vectors


_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def parameter_groups(network: Any, recipe: Recipe, *, everything: bool = False) -> list[dict[str, Any]]:
    """Group trainable parameters by weight decay and learning rate, and for Muon by what it may have.

    Biases, LayerNorm and other vectors have no weight decay. With ``layerwise_lr_decay`` d, layer i of L has the rate
    lr * d^(L - 1 - i), the embeddings lr * d^L, the classifier lr (Howard & Ruder 2018, discriminative fine-tuning).

    ``everything`` includes parameters that are frozen now, as they may be unfrozen later.
    Muon has the matrices below the classifier that are no tables of vectors: such a group is ``hidden``.
    A network says by ``is_head(name)`` what its classifier is; without that, layers alone are told apart.
    """
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad or everything]
    layers = [int(m.group(1)) for n, _ in named if (m := _LAYER.search(n))]
    depth = max(layers, default=-1) + 1
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if head := hasattr(network, "is_head") and network.is_head(name):
            below = 0
        elif match := _LAYER.search(name):
            below = depth - 1 - int(match.group(1))
        else:
            below = depth
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        rate = recipe.learning_rate * recipe.layerwise_lr_decay**below
        hidden = recipe.optimizer == "muon" and parameter.ndim == 2 and not head and id(parameter) not in tables
        groups.setdefault((rate, decay, hidden), []).append(parameter)
    return [
        {"params": members, "lr": rate, "weight_decay": decay} | ({"hidden": True} if hidden else {})
        for (rate, decay, hidden), members in groups.items()
    ]


class Lion(torch.optim.Optimizer):
    """Sign of a momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2).

    A weight moves by ``lr (sign(b1 m + (1 - b1) g) + decay w)``, then ``m = b2 m + (1 - b2) g``.
    ``betas`` are b1 and b2.
    """

    def __init__(self, groups: Any, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(groups, {"lr": 1e-4, "weight_decay": 0.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all parameters that have a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                update = torch.lerp(weight.grad, momentum, first).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1 - second)
        return loss


class MuonAndAdamW(torch.optim.Optimizer):
    """torch's Muon for the groups that are ``hidden``, its AdamW for all others, as one optimiser.

    Muon's steps are scaled so that AdamW's rates and decays fit (Liu et al. 2025, "Muon is Scalable for LLM Training").
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self._parts: list[tuple[bool, torch.optim.Optimizer]] = []
        if hidden := [group for group in groups if group.get("hidden")]:
            self._parts.append((True, torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw")))
        if others := [group for group in groups if not group.get("hidden")]:
            self._parts.append((False, torch.optim.AdamW(others, betas=(0.9, 0.999), eps=1e-8)))
        super().__init__([group for _, part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all parameters that have a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for hidden, part in self._parts:  # a checkpoint has put others in place of both
            part.param_groups = [group for group in self.param_groups if bool(group.get("hidden")) == hidden]
            part.state = self.state
            part.step()
        return loss


def make_optimizer(name: str, groups: list[dict[str, Any]], *, fused: bool) -> torch.optim.Optimizer:
    """Return the optimiser that ``model.optimizer`` names; AdamW's step may be ``fused``."""
    if name == "adafactor":
        return torch.optim.Adafactor(groups)
    if name == "lion":
        return Lion(groups)
    if name == "muon":
        return MuonAndAdamW(groups)
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=fused)


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


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, total_steps: int) -> Any:
    """Return the learning rate's way over all steps of a run."""
    if recipe.schedule in ("linear", "cosine", "constant"):
        factor = learning_rate_factor(recipe.schedule, recipe.warmup_ratio, total_steps)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    from transformers import get_scheduler

    warmup, decay = math.ceil(recipe.warmup_ratio * total_steps), math.ceil(total_steps / 5)
    more = {"num_decay_steps": decay} if recipe.schedule == "warmup_stable_decay" else None
    return get_scheduler(recipe.schedule, optimizer, warmup, max(total_steps, warmup + decay), more)


class MovingAverage:
    """Averages of a network's trainable floating-point weights.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the first, bad weights are soon forgotten.

    A network's present weights are the start; ``decay`` is in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._updates = torch.zeros((), dtype=torch.int64)
        self._averages = {n: p.detach().clone() for n, p in network.named_parameters() if p.is_floating_point()}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Averages by parameter name, and the number of updates; plain tensors for a checkpoint."""
        return {**self._averages, "": self._updates}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Restore the averages from :attr:`weights`."""
        self._updates = weights[""].clone().cpu()
        self._averages = {n: w.clone() for n, w in weights.items() if n}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the averages towards the network's weights."""
        self._updates += 1
        t = int(self._updates)
        decay = min(self._decay, (1 + t) / (10 + t))
        for name, parameter in network.named_parameters():
            if name in self._averages:
                average = self._averages[name] = self._averages[name].to(parameter.device)
                average.lerp_(parameter.detach(), 1.0 - decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange averages and weights; the second call undoes the first."""
        for name, parameter in network.named_parameters():
            if name in self._averages:
                average = self._averages[name] = self._averages[name].to(parameter.device)
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)
