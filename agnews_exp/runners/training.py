"""The training of a network in one process, which leaves the best weights in the checkpoint folder."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
import re
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers.logger import Logger

from agnews_exp.config.schema import TrainerConfig
from agnews_exp.config.targets import check_arguments, resolve_target
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError, first_line, unknown_name
from agnews_exp.data.batching import BatchPlan, derive_seed, evaluation_batches
from agnews_exp.data.datamodule import EncodedRows, TextDataModule
from agnews_exp.evaluation.metrics import Choice
from agnews_exp.models.encoders import build_network, choose_attention, pack_encoder
from agnews_exp.models.inference import AUTOCAST
from agnews_exp.models.recipes import EncoderRecipe, Recipe
from agnews_exp.models.transformer import MACRO_F1, TextClassifier, use_fast_dropout
from agnews_exp.runners.callbacks import (
    BestWeights,
    CheckpointFolder,
    CurveLogger,
    EpochBar,
    KeepSignals,
    PeriodicCheckpoint,
    SafeCheckpointIO,
    Throughput,
    ValidationCurves,
)
from agnews_exp.runners.devices import Hardware, set_threads
from agnews_exp.runners.preflight import check_batches


@dataclass(frozen=True, eq=False)
class Job:
    """The rows, network and settings that one process trains with."""

    recipe: Recipe  # the network and its optimisation
    settings: TrainerConfig  # the trainer group
    hardware: Hardware  # from :func:`agnews_exp.runners.devices.choose_hardware`
    tokenizer: Any  # a fast tokenizer
    class_names: tuple[str, ...]  # K names
    train: EncodedRows  # training rows
    validation: EncodedRows  # validation rows
    checkpoints: CheckpointFolder  # where checkpoints go; the caller holds the folder's lock
    seed: int  # seed of weights, order and dropout
    monitor: Choice = MACRO_F1  # the validation metric that chooses the weights and ends the training early
    class_weights: tuple[float, ...] | None = None  # K weights of the classes in the loss; None is 1 each
    callbacks: tuple[str | Mapping[str, Any], ...] = ()  # more callbacks, as the key ``callbacks`` gives them
    logger: Mapping[str, Any] | None = None  # one more logger, as the group ``logger`` gives it; None is none


def new_network(job: Job) -> Any:
    """Build the network; its random parts depend on the seed alone."""
    torch.manual_seed(derive_seed("network", job.seed))
    network: Any = build_network(job.recipe, job.tokenizer, job.class_names)
    recipe = job.recipe
    if isinstance(recipe, EncoderRecipe) and recipe.packing:
        pack_encoder(
            network.encoder,
            accelerator=job.hardware.accelerator,
            precision=job.hardware.precision,
            attention_dropout=recipe.attention_dropout,
        )
    elif isinstance(recipe, EncoderRecipe):
        choose_attention(network.encoder, recipe.attention, job.hardware.accelerator)
    if job.hardware.accelerator == "cpu" and not recipe.compile:
        use_fast_dropout(network)
    # Loading pretrained weights leaves a network in evaluation mode, without dropout.
    return network.train()


@dataclass(frozen=True)
class Listeners:
    """The receivers of a training's progress; rank 0 alone has any."""

    # Takes (number of the validation, the job's metric); may raise to stop the run.
    report: Callable[[int, float], None] | None = None
    progress: bool = False  # whether to show a progress bar


def train(job: Job, listeners: Listeners, environment: Any = None) -> dict[str, float]:
    """Train, from last.ckpt where there is one, leave the best weights in the checkpoint folder, and return numbers.

    Raises:
        ConfigError: Memory ran out; names the batch and what to set.
    """
    settings = job.settings
    set_threads(settings.n_jobs, job.hardware.world_size)
    network = new_network(job)
    plan = _plan(job)
    total_steps = planned_steps(settings, plan.n_batches(job.train.lengths))
    module = TextClassifier(
        network, job.recipe, job.class_names, job.validation.labels, job.seed, total_steps, job.monitor,
        job.class_weights, job.validation.pieces[1],
    )  # fmt: skip
    monitor = module.monitor_key
    mode: Literal["max", "min"] = "max" if job.monitor.metric.greater_is_better else "min"
    data = TextDataModule(
        job.train,
        job.validation.apart(),
        plan,
        evaluation_batch_size=settings.evaluation_batch_size,
        token_budget=settings.token_budget,
        num_workers=settings.num_workers,
        pin_memory=job.hardware.accelerator == "cuda",
    )
    resumed = job.checkpoints.last if job.checkpoints.last.is_file() else None
    best = BestWeights(job.checkpoints, monitor, mode)
    speed = Throughput(total_steps)
    callbacks: list[pl.Callback] = [KeepSignals(), speed, ValidationCurves(monitor, listeners.report), best]
    if settings.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping(
                monitor,
                mode=mode,
                patience=settings.early_stopping_patience,
                min_delta=settings.early_stopping_min_delta,
                check_on_train_epoch_end=False,
            )
        )
    callbacks.append(
        PeriodicCheckpoint(job.checkpoints, settings.checkpoint_every_n_steps, settings.checkpoint_every_seconds)
    )
    known = {"monitor": monitor, "mode": mode, "swa_lrs": job.recipe.learning_rate / 2}
    callbacks += [build_part(one, "callbacks", known) for one in job.callbacks]
    rank = environment.global_rank() if environment is not None else 0
    loggers: list[Any] = []
    if rank == 0:
        step = int(SafeCheckpointIO().load_checkpoint(resumed)["global_step"]) if resumed else None
        folder = job.checkpoints.path.parent
        loggers = [CurveLogger(folder, step)]
        if job.logger is not None:
            loggers.append(build_part(job.logger, "loggers", {"save_dir": str(folder / "logs")}))
            loggers[-1].log_hyperparams({**job.recipe.as_dict(), **job.settings.model_dump(), "seed": job.seed})
    start = time.perf_counter()
    trainer = _trainer(job, callbacks, loggers, environment, progress=listeners.progress)
    _fit(trainer, module, data, resumed, job)
    if job.callbacks:  # one may have changed the weights when all validations were over, such as averaged them
        trainer.validate(module, datamodule=data, verbose=False)
    if best.step < 0 and rank == 0:  # no validation was reached: the last weights are the best there are
        job.checkpoints.save_best(network.state_dict(), None)
    totals = speed.totals
    seconds = max(totals["seconds"], 1e-9)
    summary = {
        "train_steps": float(trainer.global_step),
        "train_epochs": float(trainer.current_epoch),
        "best_epoch": float(best.epoch + 1),
        "best_step": float(best.step),
        "train_samples_per_second": totals["samples"] / seconds,
        "train_tokens_per_second": totals["tokens"] / seconds,
        "padding_share": 1.0 - totals["tokens"] / max(totals["padded"], 1),
        "n_parameters": float(sum(p.numel() for p in network.parameters())),
        "n_trainable": float(sum(p.numel() for p in network.parameters() if p.requires_grad)),
        "train_seconds": time.perf_counter() - start,
        "train_processor_seconds": totals["processor_seconds"],
    }
    if job.hardware.accelerator == "cuda":
        summary["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return summary


_ALSO = {"swa": "stochastic_weight_averaging", "ema": "ema_weight_averaging"}
_PACKAGES = {
    "TensorBoardLogger": "tensorboard",
    "WandbLogger": "wandb",
    "NeptuneLogger": "neptune",
}


def part_class(part: str | Mapping[str, Any], kind: Literal["callbacks", "loggers"]) -> tuple[Any, dict[str, Any]]:
    """Return the class of a callback or logger and the arguments that its configuration gives it.

    Args:
        part: A name of Lightning's own (``early_stopping``), the dotted path of a class, or either as ``_target_``
            beside arguments.
        kind: Which of Lightning's packages is meant.

    Raises:
        ConfigError: There is none of that name, it may not be built, or it does not take an argument.
        MissingDependencyError: A package that it needs is not installed.
    """
    key = kind if kind == "callbacks" else "logger"
    values = {"_target_": part} if isinstance(part, str) else dict(part)
    word = values.pop("_target_", None)
    module = importlib.import_module(f"pytorch_lightning.{kind}")
    base: type = pl.Callback if kind == "callbacks" else Logger
    classes = {
        name: found for name, found in vars(module).items() if inspect.isclass(found) and issubclass(found, base)
    }
    named = {re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower(): name for name in classes}
    if not isinstance(word, str):
        raise ConfigError(f"{key}: {part} lacks _target_.", fix=f"{key}=[early_stopping]")
    own = word.removeprefix(f"pytorch_lightning.{kind}.")
    own = named.get(_ALSO.get(own, own), own)
    if own in classes:
        found: Any = classes[own]
    elif "." in own:
        found = resolve_target(own, key)
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise ConfigError(f"{key}: {word} is no {base.__name__} of pytorch_lightning.")
    else:
        raise unknown_name(f"name in {key}", word, sorted([*named, *_ALSO]))
    package = _PACKAGES.get(own)
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(f"{key}: {own} needs the package {package}.", fix=f"pip install {package}")
    return found, values


def build_part(part: str | Mapping[str, Any], kind: Literal["callbacks", "loggers"], known: Mapping[str, Any]) -> Any:
    """Return a callback or logger.

    Args:
        part: See :func:`part_class`.
        kind: Likewise.
        known: Values of this training for arguments that its configuration leaves out or leaves null.
    """
    found, values = part_class(part, kind)
    takes = inspect.signature(found).parameters
    values |= {name: value for name, value in known.items() if name in takes and values.get(name) is None}
    key = kind if kind == "callbacks" else "logger"
    try:
        return found(**check_arguments(found, values, key))
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"{key}: {found.__name__} refuses its arguments: {first_line(error)}") from error


def calmer(job: Job) -> dict[str, Any]:
    """Return what a second try changes after a loss that was no number: 32-bit floats, or a tenth of the rate."""
    if job.hardware.precision != "32-true":
        return {"precision": "32-true"}
    return {"learning_rate": job.recipe.learning_rate / 10}


def changed(job: Job, changes: Mapping[str, Any]) -> Job:
    """Return a job with the values of :func:`calmer`."""
    if "precision" in changes:
        job = replace(job, hardware=replace(job.hardware, precision=changes["precision"]))
    if "learning_rate" in changes:
        job = replace(job, recipe=replace(job.recipe, learning_rate=changes["learning_rate"]))
    return job


CPU_BATCH, LARGEST_BATCH = 32, 1024


def fitting_batch_size(job: Job) -> int:
    """Return the rows of a batch for ``trainer.batch_size=auto``.

    On a GPU the largest power of two with which a step of the longest rows fits, at most 1,024 and a twentieth of the
    rows, over all processes; on a CPU, which is no faster with more, 32.
    """
    most = min(LARGEST_BATCH, len(job.train) // 20)
    if job.hardware.accelerator == "cpu":
        return max(1, min(CPU_BATCH, most))
    device, order = job.hardware.device(), np.argsort(-job.train.lengths, kind="stable")
    network = new_network(job).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
    kind = AUTOCAST.get(job.hardware.precision)

    def fits(rows: int) -> bool:
        try:
            batch = job.train.batch(order[: -(-rows // job.hardware.world_size)])
            with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
                logits = network(batch["input_ids"].to(device), batch["attention_mask"].to(device))
            logits.float().square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        except torch.OutOfMemoryError:
            return False
        return True

    size = largest_that_fits(fits, most)
    network.cpu()
    optimizer.state.clear()
    torch.cuda.empty_cache()
    return size


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest power of two up to ``most`` that fits, at least 1, and asks of nothing larger than it must."""
    size = 1
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def _plan(job: Job) -> BatchPlan:
    s = job.settings
    assert s.batch_size != "auto", "the runner has chosen a number"
    return BatchPlan(s.batch_size, s.token_budget, s.group_by_length, job.seed, epochs=s.max_epochs)


def check_job(job: Job) -> None:
    """Refuse shares and numbers of batches that do not fit the rows.

    Raises:
        ConfigError: Names the key and how many batches there are.
    """
    s = job.settings
    validation = evaluation_batches(job.validation.apart().lengths, s.evaluation_batch_size, s.token_budget)
    check_batches(s, _plan(job).n_batches(job.train.lengths), len(validation))


def planned_steps(settings: TrainerConfig, n_batches: int) -> int:
    """Return the number of optimiser steps of a whole run with ``n_batches`` batches an epoch."""
    limit = settings.limit_train_batches
    batches = min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
    steps = settings.max_epochs * math.ceil(batches / settings.accumulate_grad_batches)
    return steps if settings.max_steps < 0 else min(steps, settings.max_steps)


def _trainer(
    job: Job, callbacks: list[pl.Callback], loggers: list[Any], environment: Any, *, progress: bool
) -> pl.Trainer:
    settings, hardware = job.settings, job.hardware
    strategy: Any = "auto"
    devices: Any = 1 if hardware.accelerator == "cpu" else list(hardware.devices)
    if environment is not None:
        from pytorch_lightning.strategies import DDPStrategy

        devices = hardware.world_size if hardware.accelerator == "cpu" else list(hardware.devices)
        # No buffers to send (none change), so processes may answer different numbers of validation batches.
        strategy = DDPStrategy(
            cluster_environment=environment,
            process_group_backend="nccl" if hardware.accelerator == "cuda" else "gloo",
            broadcast_buffers=False,
            find_unused_parameters=False,
            gradient_as_bucket_view=True,
        )
    if progress and not (environment is not None and environment.global_rank()):
        callbacks = [*callbacks, EpochBar(refresh_rate=1)]
    _quieten()
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=devices,
        strategy=strategy,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        gradient_clip_algorithm=settings.gradient_clip_algorithm,
        val_check_interval=settings.val_check_interval,
        check_val_every_n_epoch=settings.check_val_every_n_epoch,
        limit_train_batches=settings.limit_train_batches,
        limit_val_batches=settings.limit_val_batches,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every_n_steps,
        deterministic=settings.deterministic,
        benchmark=settings.benchmark,
        detect_anomaly=settings.detect_anomaly,
        profiler=_profiler(job),
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(job.checkpoints.path),
    )


def _profiler(job: Job) -> Any:
    """Return the profiler that was asked for; it writes fit-profile.txt in the run's folder."""
    if job.settings.profiler is None:
        return None
    from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler

    kind = AdvancedProfiler if job.settings.profiler == "advanced" else SimpleProfiler
    return kind(dirpath=job.checkpoints.path.parent, filename="profile")


def _quieten() -> None:
    """Hide Lightning's start-up lines and tips; what goes wrong still shows."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in (
        r".*does not have many workers.*",
        r".*smaller than the logging interval.*",
        r".*LeafSpec.*",
        r".*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", pattern)


def _fit(trainer: pl.Trainer, module: TextClassifier, data: TextDataModule, resumed: Path | None, job: Job) -> None:
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed)
    except SystemExit as error:
        # Lightning turns Ctrl-C into an exit with code 1; the experiment flow wants to know what it was.
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise
    except MisconfigurationException as error:  # what its own checks find in the trainer group
        raise ConfigError(f"The trainer cannot be used as configured: {first_line(error)}") from error
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (explained := explain_memory(error, job.settings, module.batch_shape)) is not None:
            raise explained from error
        if job.recipe.compile and type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise ConfigError(
                f"model.compile=true: torch cannot compile the network on this machine: {first_line(error)}",
                fix="model.compile=false; on a CPU torch needs a C++ compiler and Python's headers",
            ) from error
        raise
    finally:
        signal.signal(signal.SIGINT, interrupt)
        module.zero_grad(set_to_none=True)


def explain_memory(error: BaseException, settings: TrainerConfig, shape: Sequence[int] | None) -> AgnewsError | None:
    """Return the user's version of running out of memory, or None for any other error."""
    text = str(error).lower()
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if not known and not any(s in text for s in ("out of memory", "can't allocate memory", "alloc_cpu")):
        return None
    tried = f"trainer.batch_size={settings.batch_size}"
    batch = f" (a batch of {shape[0]} texts x {shape[1]} tokens)" if shape else ""
    half = max(1, int(settings.batch_size) // 2) if settings.batch_size != "auto" else 16
    return ConfigError(
        f"{tried}: memory ran out{batch}: {first_line(error)[:200]}",
        fix=f"trainer.batch_size={half} trainer.accumulate_grad_batches={2 * settings.accumulate_grad_batches} "
        "(the same step in halves), or trainer.token_budget, model.max_length, model.gradient_checkpointing=true",
    )
