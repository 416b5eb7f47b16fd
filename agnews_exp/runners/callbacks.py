"""What happens around Lightning's training loop: curves, the best weights, checkpoints to resume from, signals."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from agnews_exp.data.datamodule import Batch
from agnews_exp.models.transformer import TextClassifier
from agnews_exp.runners.checkpoints import CheckpointFolder

log = logging.getLogger(__name__)

MONITOR = "val/macro_f1"


class BestWeights(pl.Callback):
    """Keeps the weights with the highest validation macro-F1.

    Args:
        folder: Where to keep them.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self.score, self.epoch, self.step = -math.inf, -1, -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare and keep."""
        if trainer.sanity_checking or MONITOR not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[MONITOR])
        if not score > self.score:
            return
        assert isinstance(pl_module, TextClassifier)
        self.score, self.epoch, self.step = score, trainer.current_epoch, trainer.global_step
        if trainer.is_global_zero:
            self._folder.save_best(pl_module.network.state_dict(), pl_module.validation_logits)

    def state_dict(self) -> dict[str, float]:
        """Return the best score and when it was."""
        return {"score": self.score, "epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier best."""
        self.score = float(state_dict["score"])
        self.epoch, self.step = int(state_dict["epoch"]), int(state_dict["step"])


class PeriodicCheckpoint(pl.Callback):
    """Writes last.ckpt every so many optimiser steps or seconds.

    Only in the middle of an epoch and never right before a validation: resuming there is exact, and a few batches
    lost are cheaper than resuming inside Lightning's hooks at an epoch's end.

    Args:
        folder: Where to write.
        every_n_steps: Optimiser steps between two checkpoints, or None.
        every_seconds: Seconds between two checkpoints, or None.
    """

    def __init__(self, folder: CheckpointFolder, every_n_steps: int | None, every_seconds: float | None) -> None:
        self._folder = folder
        self._every_n_steps, self._every_seconds = every_n_steps, every_seconds
        self._step = 0
        self._time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from here."""
        self._step, self._time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write when it is time and the moment is right."""
        done = batch_idx + 1
        if trainer.global_step == self._step or done % trainer.accumulate_grad_batches:
            return
        validates = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
        if done >= trainer.num_training_batches or validates:
            return
        if self._due(trainer):
            trainer.save_checkpoint(self._folder.last)
            self._step, self._time = trainer.global_step, time.monotonic()

    def _due(self, trainer: pl.Trainer) -> bool:
        if self._every_n_steps is not None and trainer.global_step - self._step >= self._every_n_steps:
            return True
        if self._every_seconds is None:
            return False
        late = time.monotonic() - self._time >= self._every_seconds
        # Clocks differ between processes, and all of them must save together.
        return bool(trainer.strategy.broadcast(late)) if trainer.world_size > 1 else late


class Throughput(pl.Callback):
    """Logs loss, learning rate, speed, padding and GPU memory every ``log_every_n_steps`` optimiser steps.

    Args:
        total_steps: Optimiser steps of the whole run.

    Attributes:
        totals: Samples, tokens, padded tokens and seconds of training steps since the start (or the resume).
    """

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self.totals = {"samples": 0, "tokens": 0, "padded": 0, "seconds": 0.0}
        self._window = dict(self.totals)
        self._losses: list[torch.Tensor] = []
        self._batch_start = 0.0
        self._logged_step = 0
        self._shown = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from here."""
        self._logged_step = trainer.global_step
        self._batch_start = self._shown = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock of a step (validation between two steps is not training time)."""
        self._batch_start = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up a step; log when it is time."""
        mask = batch["attention_mask"]
        world = trainer.world_size
        self._window["samples"] += mask.shape[0] * world
        self._window["padded"] += mask.numel() * world
        self._window["tokens"] += int(batch["tokens"]) * world
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        due = trainer.global_step - self._logged_step >= trainer.log_every_n_steps  # type: ignore[attr-defined]
        loss = float(torch.stack(self._losses).mean()) if due else math.nan  # waits for the GPU
        self._window["seconds"] += time.monotonic() - self._batch_start
        if due:
            self._log(trainer, loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what is left of the epoch."""
        if self._losses:
            self._log(trainer, float(torch.stack(self._losses).mean()))

    def _log(self, trainer: pl.Trainer, loss: float) -> None:
        window = self._window
        seconds = max(window["seconds"], 1e-9)
        values = {
            "train/loss": loss,
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "samples_per_second": window["samples"] / seconds,
            "tokens_per_second": window["tokens"] / seconds,
            "padding_share": 1.0 - window["tokens"] / max(window["padded"], 1),
            "epoch": float(trainer.current_epoch),
        }
        if trainer.strategy.root_device.type == "cuda":
            values["gpu_memory_mb"] = torch.cuda.max_memory_allocated(trainer.strategy.root_device) / 2**20
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if time.monotonic() - self._shown > 20 and trainer.is_global_zero:
            self._shown = time.monotonic()
            log.info(
                "step %d of %d, loss %.3f, %.0f samples/s, %.0f %% padding",
                trainer.global_step,
                self._total_steps,
                loss,
                values["samples_per_second"],
                100 * values["padding_share"],
            )
        for name, value in window.items():
            self.totals[name] += value
            window[name] = 0
        self._losses, self._logged_step = [], trainer.global_step


class ValidationCurves(pl.Callback):
    """Logs each validation's metrics at the optimiser step where it happened, says them, and reports the score.

    Args:
        report: Takes (number of the validation, score); may raise to stop the run.
    """

    def __init__(self, report: Callable[[int, float], None] | None = None) -> None:
        self._report = report
        self._count = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log, say and report."""
        if trainer.sanity_checking or MONITOR not in trainer.callback_metrics:
            return
        self._count += 1
        if not trainer.is_global_zero:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        said = ", ".join(f"{k} {v:.4f}" for k, v in values.items())
        log.info("epoch %d, step %d: %s", trainer.current_epoch + 1, trainer.global_step, said)
        if self._report is not None:
            self._report(self._count - 1, values[MONITOR])

    def state_dict(self) -> dict[str, int]:
        """Return how many validations there were."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._count = int(state_dict["count"])


class KeepSignals(pl.Callback):
    """Gives SIGTERM back to the handler that was there: it ends the run at once, whatever Lightning would wait for."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take Lightning's handler away."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
