"""What parallel jobs share: CPU cores by thread limits, GPUs by slots."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from agnews_exp.config.errors import ConfigError

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def cpu_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limit(n_jobs: int, threads_per_job: int | None) -> int:
    """Return how many threads each of ``n_jobs`` parallel jobs may use."""
    return threads_per_job or max(1, cpu_count() // n_jobs)


def thread_environment(limit: int) -> dict[str, str]:
    """Return the environment that keeps numerical libraries to ``limit`` threads; the user's own settings win."""
    return {name: str(limit) for name in _THREAD_VARIABLES if name not in os.environ}


def visible_gpus() -> list[str]:
    """Return the GPUs that jobs may use: CUDA_VISIBLE_DEVICES, or else all that nvidia-smi lists."""
    if (value := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [part.strip() for part in value.split(",") if part.strip() not in ("", "-1")]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        words = [command, "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


class GpuSlots:
    """Hands GPUs to jobs so that no GPU has more jobs than allowed.

    Args:
        gpus: Device names as CUDA_VISIBLE_DEVICES takes them; None looks for them.
        gpus_per_job: How many each job gets; 0 leaves CUDA_VISIBLE_DEVICES alone.
        jobs_per_gpu: How many jobs may share a GPU.

    Raises:
        ConfigError: A job wants more GPUs than there are.
    """

    def __init__(self, gpus: Sequence[str] | None, gpus_per_job: int, jobs_per_gpu: int) -> None:
        self._per_job = gpus_per_job
        self._held: dict[int, list[str]] = {}
        if gpus_per_job == 0:
            self._free: dict[str, int] = {}
            return
        names = [str(g) for g in gpus] if gpus is not None else visible_gpus()
        if len(names) < gpus_per_job:
            raise ConfigError(
                f"hydra.launcher.gpus_per_job={gpus_per_job}, but {len(names)} GPUs are visible.",
                fix="lower it (0: jobs choose by themselves), or name the devices: hydra.launcher.gpus=[0,1]",
            )
        self._free = dict.fromkeys(names, jobs_per_gpu)

    @property
    def capacity(self) -> int | None:
        """How many jobs fit at once; None without a limit."""
        return sum(self._free.values()) // self._per_job if self._per_job else None

    @property
    def available(self) -> bool:
        """Whether one more job fits."""
        return sum(n > 0 for n in self._free.values()) >= self._per_job

    def take(self, num: int) -> dict[str, str]:
        """Give a job its GPUs, the least used first; returns its environment."""
        if not self._per_job:
            return {}
        chosen = sorted(self._free, key=lambda g: -self._free[g])[: self._per_job]
        for gpu in chosen:
            self._free[gpu] -= 1
        self._held[num] = chosen
        return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}

    def give_back(self, num: int) -> None:
        """Take a job's GPUs back."""
        for gpu in self._held.pop(num, []):
            self._free[gpu] += 1
