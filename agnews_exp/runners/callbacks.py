"""Callbacks of Lightning's training loop: curves, the best weights, checkpoints to resume from, signals."""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from agnews_exp.core.errors import StorageError, first_line
from agnews_exp.core.files import atomic_path
from agnews_exp.core.paths import CHECKPOINT_LOCK, CHECKPOINTS, HISTORY, RESUME_FILE
from agnews_exp.data.datamodule import Batch
from agnews_exp.models.transformer import TextClassifier

log = logging.getLogger(__name__)


class CurveLogger(Logger):
    """Appends points to history.jsonl, where MLflow's worker finds them.

    It opens and closes no tracking run and logs no hyperparameters: both belong to the experiment flow, which goes on
    after the training.

    Points after ``start_step`` are dropped from an existing history: a resumed run makes them again.
    """

    def __init__(self, folder: Path, start_step: int | None = None) -> None:
        super().__init__()
        self._path = folder / HISTORY
        self._trim(start_step)

    def _trim(self, start_step: int | None) -> None:
        kept: list[str] = []
        if start_step is not None and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
                try:
                    if json.loads(line)["step"] <= start_step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of a killed run may be cut
        self._path.write_text("".join(kept), encoding="utf-8")

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "curves"

    @property
    def version(self) -> str:
        """One version: the run's folder."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one point of every metric; Lightning's names ``val/macro_f1`` become ``curve/val_macro_f1``."""
        values = {f"curve/{k.replace('/', '_')}": float(v) for k, v in metrics.items() if math.isfinite(float(v))}
        now = int(time.time() * 1000)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": int(step or 0), "time": now, **values}) + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the experiment flow logs the whole configuration, once."""

    def finalize(self, status: str) -> None:
        """Do nothing: the run goes on after the training."""


_BEST, _AGAIN = "best.safetensors", "again.json"
_WEIGHTS, _ANSWERS = "weights.", "validation_answers"
_CHECKSUM = "crc32"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically and reads them with ``weights_only=True``: plain types and tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to a temporary file, flush it, and move it to its place."""
        target = Path(path)
        with atomic_path(target) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint, onto the CPU unless told otherwise, without unpickling objects."""
        try:
            # PyTorch's reader does not look at the archive's checksums: a flipped bit would be a weight.
            with zipfile.ZipFile(path) as archive:
                if (bad := archive.testzip()) is not None:
                    raise ValueError(f"{bad} does not match its checksum")
            loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # what a made-up file raises is in no list
            raise _damaged(Path(path), error) from error
        return loaded


def _damaged(path: Path, error: Exception) -> StorageError:
    return StorageError(f"{path} is damaged: {first_line(error)}", fix="delete its folder, or run without resume=auto")


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of names and bytes of tensors on the CPU."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


class CheckpointFolder:
    """One run's checkpoints."""

    def __init__(self, run_folder: Path, fingerprint: str) -> None:
        self.path = run_folder / CHECKPOINTS
        self.fingerprint = fingerprint

    @property
    def last(self) -> Path:
        """The file with the state to resume from."""
        return self.path / "last.ckpt"

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Hold the folder for this process; what lies there from another run, or is not to be resumed, is removed."""
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / CHECKPOINT_LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StorageError(
                f"{self.path}: another process is training in this folder.", fix="wait for it, or drop resume=auto"
            ) from error
        try:
            if not resume or self._read(RESUME_FILE).get("fingerprint") != self.fingerprint:
                for path in self.path.iterdir():
                    if path.name != CHECKPOINT_LOCK:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._write(RESUME_FILE, {"fingerprint": self.fingerprint})
            yield
        finally:
            lock.release()

    def save_best(self, weights: Mapping[str, torch.Tensor], answers: NDArray[np.float32] | None) -> None:
        """Keep weights that beat all earlier ones, with their validation logits (n, K), float32."""
        from safetensors.torch import save_file

        tensors = {_WEIGHTS + k: v.detach().cpu().contiguous() for k, v in weights.items()}
        if answers is not None:  # in the same file, so that a kill never leaves the answers of other weights
            tensors[_ANSWERS] = torch.from_numpy(np.ascontiguousarray(answers))
        with atomic_path(self.path / _BEST) as temporary:
            save_file(tensors, temporary, metadata={_CHECKSUM: _checksum(tensors)})

    def best(self) -> tuple[dict[str, torch.Tensor], NDArray[np.float32] | None] | None:
        """Return the weights and the validation logits (n, K) that :meth:`save_best` kept, or None."""
        from safetensors import safe_open

        path = self.path / _BEST
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                noted = (file.metadata() or {}).get(_CHECKSUM)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            if noted != _checksum(tensors):
                raise ValueError("the weights do not match their checksum")
            answers = tensors.pop(_ANSWERS, None)
            weights = {name.removeprefix(_WEIGHTS): tensor for name, tensor in tensors.items()}
            return weights, None if answers is None else answers.numpy()
        except Exception as error:  # as above
            raise _damaged(path, error) from error

    def finish(self, summary: Mapping[str, float]) -> None:
        """Store the summary of a training that is over."""
        self._write("done.json", dict(summary))

    def finished(self) -> dict[str, float] | None:
        """Return the summary of a training that is over, else None."""
        return self._read("done.json") or None

    def begin_again(self, changes: Mapping[str, Any]) -> None:
        """Forget the training so far; the next one differs from what was configured by some values."""
        for path in (self.last, self.path / _BEST):
            path.unlink(missing_ok=True)
        self._write(_AGAIN, changes)

    def changes(self) -> dict[str, Any]:
        """Return what :meth:`begin_again` was given, also by a process that was killed; empty without."""
        return self._read(_AGAIN)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _read(self, name: str) -> dict[str, Any]:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
        return {}


class BestWeights(pl.Callback):
    """Keeps the weights that the validation rows judge best by a metric, such as ``val/macro_f1`` (``max``)."""

    def __init__(self, folder: CheckpointFolder, monitor: str, mode: Literal["max", "min"]) -> None:
        self._folder, self._monitor = folder, monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self.score, self.epoch, self.step = -self._sign * math.inf, -1, -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights where their validation score is the best so far."""
        if trainer.sanity_checking or self._monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self._monitor])
        if not self._sign * score > self._sign * self.score:
            return
        assert isinstance(pl_module, TextClassifier)
        self.score, self.epoch, self.step = score, trainer.current_epoch, trainer.global_step
        if trainer.is_global_zero:
            self._folder.save_best(pl_module.network.state_dict(), pl_module.validation_logits)

    def state_dict(self) -> dict[str, float]:
        """Return the best score and when it was."""
        return {"score": self.score, "epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and when it was."""
        self.score = float(state_dict["score"])
        self.epoch, self.step = int(state_dict["epoch"]), int(state_dict["step"])


class PeriodicCheckpoint(pl.Callback):
    """Writes last.ckpt every so many optimiser steps or seconds.

    Only in the middle of an epoch and never right before a validation: resuming there is exact, and a few batches
    lost are cheaper than resuming inside Lightning's hooks at an epoch's end.
    """

    def __init__(self, folder: CheckpointFolder, every_n_steps: int | None, every_seconds: float | None) -> None:
        self._folder = folder
        self._every_n_steps, self._every_seconds = every_n_steps, every_seconds
        self._step = 0
        self._time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the counters."""
        self._step, self._time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write a checkpoint where one is due and the batch is in the middle of an epoch."""
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
        totals: Samples, tokens, padded tokens, seconds and processor seconds (of all threads of this process) of
            training steps since the start (or the resume).
    """

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self.totals = {"samples": 0, "tokens": 0, "padded": 0, "seconds": 0.0, "processor_seconds": 0.0}
        self._window = dict(self.totals)
        self._losses: list[torch.Tensor] = []
        self._batch_start = self._processor_start = 0.0
        self._logged_step = 0
        self._shown = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the counters."""
        self._logged_step = trainer.global_step
        self._batch_start = self._shown = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clocks of a step (validation between two steps is not training time)."""
        self._batch_start, self._processor_start = time.monotonic(), time.process_time()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up a step, and log where a point is due."""
        mask = batch["attention_mask"]
        world = trainer.world_size
        self._window["samples"] += len(batch["labels"]) * world
        self._window["padded"] += mask.numel() * world
        self._window["tokens"] += int(batch["tokens"]) * world
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        due = trainer.global_step - self._logged_step >= trainer.log_every_n_steps  # type: ignore[attr-defined]
        loss = float(torch.stack(self._losses).mean()) if due else math.nan  # waits for the GPU
        self._window["seconds"] += time.monotonic() - self._batch_start
        self._window["processor_seconds"] += time.process_time() - self._processor_start
        if due:
            self._log(trainer, loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the steps of the epoch that are not logged yet."""
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
            "epoch": float(trainer.current_epoch + 1),
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


class EpochBar(TQDMProgressBar):
    """Progress bar that counts epochs from 1, as the log does."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Name the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")


class ValidationCurves(pl.Callback):
    """Logs each validation's metrics, as curves and as a log line, and reports its score, which may stop the run."""

    def __init__(self, monitor: str, report: Callable[[int, float], None] | None = None) -> None:
        self._monitor, self._report = monitor, report
        self._count = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation's metrics and report the score."""
        if trainer.sanity_checking or self._monitor not in trainer.callback_metrics:
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
            self._report(self._count - 1, values[self._monitor])

    def state_dict(self) -> dict[str, int]:
        """Return how many validations there were."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of validations."""
        self._count = int(state_dict["count"])


class KeepSignals(pl.Callback):
    """Keeps the handler of SIGTERM that was there before Lightning's, so that the signal ends the run at once."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler by the one that was there before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
