"""The command behind a sweep: its words and its configuration folders."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from agnews_exp.config.validation import to_plain


def is_maximised(metric: str) -> bool:
    """Return whether more of a metric is better."""
    return not any(
        part in metric for part in ("loss", "error", "time/", "ece", "brier", "latency", "size_mb", "memory")
    )


def task_plain(config: DictConfig) -> dict[str, Any]:
    """Return the resolved task config of a sweep's command, without Hydra's node."""
    task = copy.deepcopy(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return to_plain(task)


def command_words(config: DictConfig) -> list[str]:
    """Return the overrides of the sweep's command as they were given."""
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    hydra = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(task, list)
    assert isinstance(hydra, list)
    return [str(w) for w in [*task, *hydra] if not str(w).startswith("hydra.mode=")]


def config_sources(config: DictConfig) -> list[Path]:
    """Return the configuration folders to copy: the main one, then those of --config-dir."""
    found: dict[str, list[Path]] = {}
    for source in config.hydra.runtime.config_sources:
        if source.schema == "file" and os.path.isdir(source.path):  # noqa: PTH112
            found.setdefault(source.provider, []).append(Path(source.path))
    return [*found.get("main", []), *found.get("command-line", [])]


def clean_words(words: Sequence[str]) -> tuple[str, ...]:
    """Return a job's overrides without those that concern the sweep as a whole."""
    return tuple(w for w in words if not w.lstrip("+~").startswith("sweep."))
