"""The LightningModule of every network: loss, optimiser, schedule, freezing, averaged weights, validation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassConfusionMatrix

from agnews_exp.config.targets import resolve_target
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.batching import derive_seed, pool_pieces
from agnews_exp.data.datamodule import Batch
from agnews_exp.evaluation.metrics import METRICS, Choice, margins_of_confusion, score_choice
from agnews_exp.models.answers import predictions_of
from agnews_exp.models.recipes import EncoderRecipe, Recipe

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def parameter_groups(network: Any, recipe: Recipe, *, everything: bool = False) -> list[dict[str, Any]]:
    """Group trainable parameters by weight decay and learning rate.

    Biases, LayerNorm and other vectors have no weight decay. With ``layerwise_lr_decay`` d, layer i of L has the rate
    lr * d^(L - 1 - i), the embeddings lr * d^L, the classifier lr (Howard & Ruder 2018, discriminative fine-tuning).

    ``everything`` includes parameters that are frozen now, as they may be unfrozen later.
    A network says by ``is_head(name)`` what its classifier is; without that, layers alone are told apart.
    """
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad or everything]
    layers = [int(m.group(1)) for n, _ in named if (m := _LAYER.search(n))]
    depth = max(layers, default=-1) + 1
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in named:
        if hasattr(network, "is_head") and network.is_head(name):
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


class MovingAverage:
    """Averages of a network's trainable floating-point weights.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the first, bad weights are soon forgotten.

    Args:
        network: Its present weights are the start.
        decay: In (0, 1).

    Attributes:
        weights: Averages by parameter name.
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
    or a function of logits and labels that returns n losses.
    """
    if loss == "cross_entropy":
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


class NonFiniteLoss(ConfigError):
    """A training step whose loss is no number: nothing is learned from it, nor after it."""


class Lion(torch.optim.Optimizer):
    """Sign of a momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2).

    A weight moves by ``lr (sign(b1 m + (1 - b1) g) + decay w)``, then ``m = b2 m + (1 - b2) g``.

    Args:
        groups: Parameters with their rates and decays.
        betas: b1 and b2.
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


_STEPS = 1 << 16


class FastDropout(nn.Dropout):
    """``nn.Dropout`` whose masks are drawn in bulk; seeded by torch's global generator, once a call."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero each value, in a tensor of any shape, with probability ``p`` and scale the others; only in training."""
        kept = round((1.0 - self.p) * _STEPS)
        if not self.training or self.p == 0 or kept == 0 or input.device.type != "cpu":
            return super().forward(input)
        generator = np.random.SFC64(int(torch.randint(1 << 62, ())))
        raw = generator.random_raw(-(-input.numel() // 4)).view(np.uint16)[: input.numel()]
        noise = torch.from_numpy(raw < kept).view(input.shape).to(input.dtype).mul_(_STEPS / kept)
        return input * noise


def use_fast_dropout(network: nn.Module) -> None:
    """Replace every ``nn.Dropout`` within a network, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, FastDropout(child.p, child.inplace))


MACRO_F1 = Choice(METRICS["macro_f1"])
_WATCHED = (MACRO_F1, Choice(METRICS["accuracy"]), Choice(METRICS["log_loss"]))


class TextClassifier(pl.LightningModule):
    """The training and validation of a network on token batches.

    Randomness of a step (dropout) is drawn from a generator seeded by (seed, epoch, batch, process): a resumed run
    draws what an uninterrupted one does, and validation or logging in between change nothing.

    Args:
        network: (input_ids, attention_mask) -> logits.
        recipe: How to train it.
        class_names: K names.
        validation_labels: Shape (n,), int64, true classes of the validation rows.
        seed: Seed of dropout.
        total_steps: Optimiser steps of the whole run, for the schedule. (Lightning's own estimate would set up the
            batches before a checkpoint is restored, and forget where they stood.)
        monitor: The validation metric that chooses the weights.
        class_weights: K weights of the classes in the loss; None is 1 each.
        validation_starts: Shape (n + 1,), where the windows of each validation row begin; None is one each.

    Attributes:
        monitor_key: The key under which that metric is logged, such as ``val/macro_f1``.
        validation_logits: Shape (n, K), float32, of the latest validation, complete on every process, or None.
        batch_shape: (texts, tokens) of the present batch, or None before the first.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        class_names: tuple[str, ...],
        validation_labels: np.ndarray[Any, np.dtype[np.int64]],
        seed: int,
        total_steps: int,
        monitor: Choice = MACRO_F1,
        class_weights: tuple[float, ...] | None = None,
        validation_starts: np.ndarray[Any, np.dtype[np.int64]] | None = None,
    ) -> None:
        super().__init__()
        self._loss: Any = resolve_target(recipe.loss, "model.loss") if "." in recipe.loss else recipe.loss
        self._class_weights = class_weights
        self.network = network
        self.recipe = recipe
        self.class_names = class_names
        self.validation_logits: np.ndarray[Any, np.dtype[np.float32]] | None = None
        self.batch_shape: tuple[int, int] | None = None
        self._latest: tuple[Tensor, int, int, tuple[int, int] | None] | None = None
        self.total_steps = total_steps
        self.monitor_key = monitor.stored_as("val", class_names)
        self._watched = {choice.stored_as("val", class_names): choice for choice in (*_WATCHED, monitor)}
        # In a list, so that it is no submodule and stays on the CPU: every process counts the gathered rows there.
        self._counts = [MulticlassConfusionMatrix(len(class_names), sync_on_compute=False)]
        self._validation_labels = validation_labels
        self._starts = np.arange(len(validation_labels) + 1) if validation_starts is None else validation_starts
        self._seed = seed
        self._average = MovingAverage(network, recipe.ema_decay) if recipe.ema_decay is not None else None
        self._answers: list[tuple[Tensor, Tensor]] = []
        self._own_step = self._own_optimizers = False
        if isinstance(network, pl.LightningModule):
            self._own_step = type(network).training_step is not pl.LightningModule.training_step
            self._own_optimizers = type(network).configure_optimizers is not pl.LightningModule.configure_optimizers
            self.automatic_optimization = network.automatic_optimization
            network.log, network.log_dict = self.log, self.log_dict  # type: ignore[method-assign]
        ignored = class_weights or recipe.loss != "cross_entropy" or recipe.label_smoothing
        if self._own_step and (ignored or recipe.long_texts == "windows"):
            raise ConfigError(
                f"{type(network).__name__} has a training_step of its own, which knows nothing of model.loss, "
                "model.label_smoothing, model.class_weight and windows.",
                fix="leave them out, or leave out its training_step",
            )
        # Not a registered submodule: checkpoints keep the plain network's names.
        object.__setattr__(self, "_compiled", torch.compile(network, dynamic=True) if recipe.compile else network)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        network: Any = self._compiled
        logits: Tensor = network(input_ids, attention_mask)
        return logits

    def on_train_start(self) -> None:
        """Freeze the encoder where the recipe says so; after a resume, too."""
        self._freeze()

    def on_train_epoch_start(self) -> None:
        """Unfreeze the encoder in the epoch that the recipe names."""
        self._freeze()

    def _freeze(self) -> None:
        recipe = self.recipe
        if not isinstance(recipe, EncoderRecipe) or not recipe.freeze_encoder:
            return
        thawed = recipe.unfreeze_at_epoch is not None and self.current_epoch >= recipe.unfreeze_at_epoch
        for name, parameter in self.network.named_parameters():
            if not self.network.is_head(name):  # type: ignore[operator]
                parameter.requires_grad_(thawed)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed this step's dropout."""
        self._check_loss()
        self.batch_shape = (batch["input_ids"].shape[0], batch["input_ids"].shape[1])
        torch.manual_seed(derive_seed("step", self._seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this process's part of the whole batch's mean loss, shape (): the recipe's, or distillation's."""
        if self._own_step:
            step: Any = self.network.training_step(batch, batch_idx)  # type: ignore[operator]
            own: Tensor = step["loss"] if isinstance(step, Mapping) else step
            return self._watched_loss(own, batch_idx)
        logits = self(batch["input_ids"], batch["attention_mask"]).float()
        if (windows := batch.get("windows")) is not None:
            logits = torch.segment_reduce(logits, self.recipe.window_pooling, lengths=windows, axis=0)
        smoothing = self.recipe.label_smoothing
        if "soft" in batch:
            loss = distillation_loss(
                logits, batch["labels"], batch["soft"], batch["share"], batch["temperature"], smoothing
            )
        else:
            weights = None if self._class_weights is None else logits.new_tensor(self._class_weights)
            gamma = self.recipe.focal_gamma
            loss = classification_loss(
                logits, batch["labels"], self._loss, weights=weights, label_smoothing=smoothing, gamma=gamma
            )
        return self._watched_loss(loss * batch["weight"], batch_idx)

    def _watched_loss(self, loss: Tensor, batch_idx: int) -> Tensor:
        self._latest = (loss.detach(), self.current_epoch + 1, batch_idx + 1, self.batch_shape)
        if loss.device.type == "cpu" and self.trainer.world_size == 1:
            self._check_loss()
        return loss

    def _check_loss(self) -> None:
        """Refuse to go on after a loss that is no number.

        A GPU is asked when the next step begins, so that it need not wait for us; of several processes all learn of it.
        """
        if self._latest is None:
            return
        loss, epoch, number, shape = self._latest
        self._latest = None
        if self.trainer.world_size > 1:
            loss = self.trainer.strategy.reduce(loss, reduce_op="sum")
        if not torch.isfinite(loss).all():
            what = f"{shape[0]} texts x {shape[1]} tokens" if shape else "its texts"
            raise NonFiniteLoss(
                f"The loss is {float(loss)} in epoch {epoch}, batch {number} ({what}).",
                fix=f"model.learning_rate={self.recipe.learning_rate / 10:g}, or trainer.precision=32",
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make an optimiser step and update the averaged weights (here, because checkpoints are saved right after)."""
        super().optimizer_step(*args, **kwargs)
        if self._average is not None:
            self._average.update(self.network)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by norm or value.

        Lightning refuses to with a fused optimiser, though only a gradient scaler is in its way.
        """
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_validation_epoch_start(self) -> None:
        """Put the averaged weights, where there are some, into the network for the validation."""
        self._check_loss()
        self._answers = []
        if self._average is not None and not self.trainer.sanity_checking:
            self._average.swap(self.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of this process's rows."""
        self.batch_shape = (batch["input_ids"].shape[0], batch["input_ids"].shape[1])
        logits = self(batch["input_ids"], batch["attention_mask"]).float()
        # A process without rows of its own answers one that does not count.
        self._answers.append((batch["rows"].cpu(), logits[: len(batch["rows"])].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Gather every process's rows and log the validation metrics of all of them."""
        rows = torch.cat([r for r, _ in self._answers]) if self._answers else torch.zeros(0, dtype=torch.int64)
        n_classes = len(self.class_names)
        logits = torch.cat([x for _, x in self._answers]) if self._answers else torch.zeros((0, n_classes))
        gathered = self._gather(rows.numpy(), logits.numpy())
        n = sum(len(r) for r, _ in gathered)
        everything = np.full((self._starts[-1], n_classes), np.nan, dtype=np.float32)
        for some, values in gathered:
            everything[some] = values
        assert n == int((~np.isnan(everything[:, 0])).sum()), "a validation row was answered twice"
        everything = pool_pieces(everything, self._starts, self.recipe.window_pooling)
        seen = ~np.isnan(everything[:, 0])
        self.validation_logits = everything if bool(seen.all()) else None
        labels, answers = self._validation_labels[seen], predictions_of(everything[seen])
        counts = self._counts[0]
        counts.reset()
        counts.update(torch.from_numpy(answers.labels), torch.from_numpy(labels))
        margins = margins_of_confusion(counts.compute().numpy())
        for key, choice in self._watched.items():
            value = score_choice(choice, margins, labels, answers, self.class_names)
            self.log(key, value, prog_bar=key == self.monitor_key, logger=False)

    def _gather(self, rows: Any, logits: Any) -> list[tuple[Any, Any]]:
        if self.trainer.world_size == 1:
            return [(rows, logits)]
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, (rows, logits))
        return gathered

    def on_validation_end(self) -> None:
        """Put the trained weights back into the network; callbacks have seen the averaged ones by now."""
        if self._average is not None and not self.trainer.sanity_checking:
            self._average.swap(self.network)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule over all steps of the run."""
        if self._own_optimizers:
            return self.network.configure_optimizers()  # type: ignore[operator]
        self._freeze()
        recipe = self.recipe
        later = isinstance(recipe, EncoderRecipe) and recipe.unfreeze_at_epoch is not None
        groups = parameter_groups(self.network, recipe, everything=later)
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adafactor":
            optimizer = torch.optim.Adafactor(groups)
        elif recipe.optimizer == "lion":
            optimizer = Lion(groups)
        else:
            # A fused step cannot be unscaled for clipping, which 16-bit floats with a gradient scaler need.
            fused = self.device.type in ("cuda", "cpu") and self.trainer.precision != "16-mixed"
            optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=fused)
        if recipe.schedule in ("linear", "cosine", "constant"):
            factor = learning_rate_factor(recipe.schedule, recipe.warmup_ratio, self.total_steps)
            scheduler: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        else:
            from transformers import get_scheduler

            warmup = math.ceil(recipe.warmup_ratio * self.total_steps)
            decay = {"num_decay_steps": math.ceil(self.total_steps / 5)}
            scheduler = get_scheduler(
                recipe.schedule,
                optimizer,
                warmup,
                max(self.total_steps, warmup + decay["num_decay_steps"]),
                decay if recipe.schedule == "warmup_stable_decay" else None,
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights to a checkpoint."""
        if self._average is not None:
            checkpoint["average"] = self._average.weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights from a checkpoint."""
        if self._average is not None:
            self._average.load(checkpoint["average"])
