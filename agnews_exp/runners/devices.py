"""The hardware that the trainer group asks for: accelerator, number of processes, precision."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch

from agnews_exp.core.errors import ConfigError

log = logging.getLogger(__name__)

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Hardware:
    """The devices and the precision that a run computes with."""

    accelerator: str  # ``cpu``, ``cuda`` or ``mps``
    devices: tuple[int, ...]  # indices of the devices (of a CPU: one number a process)
    precision: str  # Lightning's name, such as ``bf16-mixed``

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return len(self.devices)

    def device(self) -> torch.device:
        """Return the device of this process, rank 0."""
        return torch.device("cpu") if self.accelerator == "cpu" else torch.device(self.accelerator, self.devices[0])


def choose_hardware(settings: Any, *, large: bool = True) -> Hardware:
    """Choose from what there is by the trainer group's accelerator, devices, strategy and precision.

    ``large``: the network's matrices are so large that 16-bit floats pay on a CPU.
    """
    accelerator = _accelerator(settings.accelerator)
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(accelerator, os.cpu_count() or 1)
    wanted = settings.devices
    if isinstance(wanted, list):
        devices = tuple(wanted)
    elif wanted == "auto":
        devices = tuple(range(available)) if settings.strategy == "ddp" and accelerator == "cuda" else (0,)
    else:
        devices = tuple(range(wanted))
    if accelerator != "cpu" and (len(devices) > available or max(devices) >= available):
        raise ConfigError(
            f"trainer.devices={wanted}: this machine has {available} {accelerator} device(s).",
            fix=f"trainer.devices={available}",
        )
    return Hardware(accelerator, devices, choose_precision(settings.precision, accelerator, large=large))


def _accelerator(wanted: str) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, found in there.items() if found)
    if wanted == "gpu":
        wanted = "cuda" if there["cuda"] or not there["mps"] else "mps"
    if not there[wanted]:
        raise ConfigError(
            f"trainer.accelerator={wanted}: torch {torch.__version__} finds no such device here.",
            fix="trainer.accelerator=auto, or install a torch build for this device (see pytorch.org)",
        )
    return wanted


def choose_precision(wanted: str, accelerator: str, *, large: bool) -> str:
    """Return Lightning's name of the precision; ``large`` as for :func:`choose_hardware`."""
    if wanted != "auto":
        return _PRECISIONS.get(wanted, wanted)
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if accelerator == "cpu" and large and cpu_has_fast_bf16():
        return "bf16-mixed"
    return "32-true"


def cpu_has_fast_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX); elsewhere it is slow."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)  # torch has no public way to ask


_THREADS = torch.get_num_threads()
"""Threads that OMP_NUM_THREADS, CPU affinity and the number of cores gave this process at its start."""


def set_threads(n_jobs: int, world_size: int) -> None:
    """Give this process its part of the CPU: ``n_jobs`` threads or all cores, divided by the processes."""
    threads = n_jobs if n_jobs > 0 else _THREADS
    torch.set_num_threads(max(1, threads // world_size))
