"""What this machine can do for a study: cores, GPUs, packages, weights."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from agnews_exp.config.errors import ConfigError
from agnews_exp.sweeps.devices import cpu_count, visible_gpus
from agnews_exp.sweeps.study.settings import TransformerSettings

_HUB_SECONDS = 10.0
_GIB_A_JOB = 2.0
"""Memory of a classical job on all of AG News, with room to spare."""


@dataclass(frozen=True)
class Machine:
    """Cores, GPUs and memory (GiB) that a study may use."""

    cores: int = field(default_factory=cpu_count)
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(visible_gpus()))
    memory: float = field(default_factory=lambda: psutil.virtual_memory().total / 2**30)

    @property
    def slowness(self) -> float:
        """How much longer than on two cores computing takes; more than eight cores count for nothing."""
        return 2.0 / min(self.cores, 8)


def launcher_words(machine: Machine, jobs: int | None, *, transformer: bool) -> list[str]:
    """Return the launcher's overrides of a sweep.

    Nearly all classical models compute in one thread: one job for every core. A transformer takes all cores: one job at
    a time, or one for every GPU.

    Args:
        machine: This machine.
        jobs: Jobs at once as the user has set them, whatever is trained; None leaves the choice to this function.
        transformer: Whether the sweep trains a transformer.
    """
    if jobs is None and transformer:
        words = [f"hydra.launcher.n_jobs={max(1, len(machine.gpus))}"]
        return [*words, "hydra.launcher.gpus_per_job=1"] if len(machine.gpus) > 1 else words
    chosen = jobs or max(1, min(machine.cores, int(machine.memory / _GIB_A_JOB)))
    return [f"hydra.launcher.n_jobs={chosen}"]


def missing_package(package: str | None, extra: str | None) -> str | None:
    """Return why a package's work is left out, or None when the package is there (or none is needed)."""
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed" + (f" (extra {extra})" if extra else "")


def choose_transformer(
    candidates: Mapping[str, TransformerSettings], machine: Machine
) -> tuple[str | None, dict[str, str]]:
    """Return the first candidate that can be had, or None, and why those before it cannot.

    Args:
        candidates: By name, the best first.
        machine: This machine.
    """
    refused: dict[str, str] = {}
    for name, candidate in candidates.items():
        reason = _refusal(candidate, machine)
        if reason is None:
            return name, refused
        refused[name] = reason
    return None, refused


def _refusal(candidate: TransformerSettings, machine: Machine) -> str | None:
    if candidate.gpu and not machine.gpus:
        return "no GPU"
    if reason := missing_package(candidate.package, candidate.extra):
        return reason
    return _missing_weights(candidate.words) if candidate.hub else None


def _missing_weights(words: str) -> str | None:
    """Ask the local cache for a model's weights, then the hub."""
    from agnews_exp.config.compose import compose_config

    try:
        model = compose_config(words.split()).model
    except ConfigError as error:
        return error.message.splitlines()[0]
    if model.get("pretrained_path"):
        return None
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    repository, revision, file = str(model.pretrained), str(model.revision), "model.safetensors"
    if isinstance(try_to_load_from_cache(repository, file, revision=revision), str | os.PathLike):
        return None
    if constants.HF_HUB_OFFLINE:
        return f"the weights of {repository} are not here, and HF_HUB_OFFLINE is set"
    try:
        get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=_HUB_SECONDS)
    except Exception as error:  # whatever a network can do
        return f"the weights of {repository} cannot be had ({type(error).__name__})"
    return None
