"""The LightningModule of every network, which trains and validates it, and a faster dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from agnews_exp.config.targets import resolve_target
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.batching import derive_seed, pool_pieces
from agnews_exp.data.datamodule import Batch
from agnews_exp.evaluation.metrics import METRICS, Choice, Margins, find_metric, margins_of_confusion, score_choice
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.models.answers import predictions_of
from agnews_exp.models.optimization import (
    MovingAverage,
    SeenByClassifier,
    classification_loss,
    contrastive_loss,
    distillation_loss,
    make_optimizer,
    make_schedule,
    parameter_groups,
)
from agnews_exp.models.recipes import EncoderRecipe, Recipe


class NonFiniteLoss(ConfigError):
    """A training step whose loss is no number: nothing is learned from it, nor after it."""


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
        self._seen = SeenByClassifier(network, len(class_names)) if recipe.loss == "supervised_contrastive" else None
        self._class_weights = class_weights
        self.network = network
        self.recipe = recipe
        self.class_names = class_names
        self.validation_logits: np.ndarray[Any, np.dtype[np.float32]] | None = None
        self.batch_shape: tuple[int, int] | None = None
        self._latest: tuple[Tensor, int, int, tuple[int, int] | None] | None = None
        self.total_steps = total_steps
        self.monitor_key = monitor.stored_as("val", class_names)
        self._task = task_of(validation_labels)
        watched = (find_metric(name, task=self._task) for name in self._task.watched)
        self._watched = {choice.stored_as("val", class_names): choice for choice in (*watched, monitor)}
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
            labels, recipe = batch["labels"], self.recipe
            weights = None if self._class_weights is None else logits.new_tensor(self._class_weights)
            loss = classification_loss(
                logits, labels, self._loss, weights=weights, label_smoothing=smoothing, gamma=recipe.focal_gamma
            )
            if self._seen is not None:
                vectors = self._seen.take().float()
                if windows is not None:
                    vectors = torch.segment_reduce(vectors, "mean", lengths=windows, axis=0)
                rows = contrastive_loss(vectors, labels, recipe.contrastive_temperature)
                contrast = (rows if weights is None else rows * weights[labels]).sum()
                loss = loss + recipe.contrastive_weight * (contrast - loss)
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
        half = None if self._task.one_answer else np.full(n_classes, 0.5)
        labels, answers = self._validation_labels[seen], predictions_of(everything[seen], half)
        margins = self._margins(labels, answers.labels)
        for key, choice in self._watched.items():
            value = score_choice(choice, margins, labels, answers, self.class_names)
            self.log(key, value, prog_bar=key == self.monitor_key, logger=False)

    def _margins(self, labels: Any, given: Any) -> Margins:
        if not self._task.one_answer:
            return Margins(*self._task.counts(labels, given, len(self.class_names)))
        counts = self._counts[0]
        counts.reset()
        counts.update(torch.from_numpy(given), torch.from_numpy(labels))
        return margins_of_confusion(counts.compute().numpy())

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
        # A fused step cannot be unscaled for clipping, which 16-bit floats with a gradient scaler need.
        fused = self.device.type in ("cuda", "cpu") and self.trainer.precision != "16-mixed"
        optimizer = make_optimizer(recipe.optimizer, groups, fused=fused)
        scheduler = make_schedule(optimizer, recipe, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights to a checkpoint."""
        if self._average is not None:
            checkpoint["average"] = self._average.weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights from a checkpoint."""
        if self._average is not None:
            self._average.load(checkpoint["average"])
