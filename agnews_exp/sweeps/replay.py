"""Repeats from a sweep's folder: of its command, of a job, of its best job.

A folder may come from somebody else. So what it stores is looked at before Hydra gets it: its words may set what a
sweep is made of and nothing that Hydra calls, and its copy of the configuration must leave Hydra's own settings as
this project has them.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agnews_exp.core.errors import ConfigError
from agnews_exp.core.paths import config_folder, run_command
from agnews_exp.core.process import own_environment
from agnews_exp.core.text import shortened
from agnews_exp.sweeps.state import SweepFolder, command_words, find_sweep, override_key, task_plain

_PLAIN = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler", "hydra.mode", "hydra.verbose")
_LAUNCHER = frozenset({
    "n_jobs", "timeout", "retries", "on_failure", "gpus_per_job", "jobs_per_gpu", "gpus", "threads_per_job",
    "start", "timeout_min", "max_num_timeout", "signal_delay_s", "array_parallelism", "partition", "account", "qos",
    "constraint", "exclude", "comment", "cpus_per_task", "mem_gb", "mem_per_cpu", "mem_per_gpu", "gpus_per_node",
    "gres", "cpus_per_gpu", "gpus_per_task", "use_srun", "stderr_to_stdout", "pre_dispatch", "batch_size",
    "max_nbytes", "prefer", "require",
})  # fmt: skip
_SWEEPER = frozenset({
    "params", "grids", "report", "sampler", "direction", "objectives", "storage", "study_name", "n_trials",
    "n_jobs", "max_failure_rate", "pruner", "plots", "custom_search_space",
})  # fmt: skip
_JOB = frozenset({"name", "override_dirname", "id", "num", "config_name"})
_OF_A_COMMAND = frozenset(
    {"mode", "verbose", "overrides", "runtime", "job", "run", "sweep", "searchpath", "launcher", "sweeper"}
)
"""Parts of Hydra's settings that differ between commands, or that are looked at more closely."""

_CLASSES = ("agnews_exp.sweeps.", "hydra_plugins.", "hydra._internal.core_plugins.", "optuna.samplers.")


def config_words(configs: Sequence[Path]) -> list[str]:
    """Return Hydra's words for configuration folders, the main one first."""
    return [f"--config-{'dir' if number else 'path'}={path}" for number, path in enumerate(configs)]


def single(overrides: Sequence[str]) -> list[str]:
    """Return a job's overrides as those of a run that is no sweep: an experiment file may ask for one by itself."""
    sweeping = any(override_key(word) == "experiment" for word in overrides)
    return [*overrides, *(["hydra.mode=RUN"] if sweeping else [])]


def repeat_command(overrides: Sequence[str], configs: Sequence[Path] = ()) -> str:
    """Return the shell command that repeats one job on its own, composed from these folders or the project's own."""
    return f"{run_command()} {shlex.join([*config_words(configs), *single(overrides)])}"


def repeat(folder: SweepFolder, overrides: Sequence[str]) -> None:
    """Become the run of one job of a sweep, composed from the sweep's copy of the configuration; never returns.

    Raises:
        ConfigError: The folder stores something that no sweep may have.
    """
    words = single(overrides)
    check_stored(folder, words)
    _become([*config_words(folder.snapshots), *words])


def resume(config: DictConfig) -> None:
    """Become the stored command of another sweep when ``sweep.resume`` asks for it; else return."""
    plain = task_plain(config)
    name = plain["sweep"]["resume"]
    if name is None:
        return
    folder = find_sweep(Path(plain["paths"]["output_dir"]) / "sweeps", str(name))
    info = folder.info()
    given = [w for w in command_words(config) if not w.startswith("sweep.resume=")]
    allowed = ("hydra.launcher.", "hydra/launcher=", "hydra.sweeper.n_trials=", "hydra.verbose=", "paths.")
    for word in given:
        if not word.startswith(allowed):
            raise ConfigError(
                f"sweep.resume={name} takes the sweep's own command, so '{word}' has no place beside it.",
                fix=f"leave it out; the command was: {info.get('command')}",
            )
    keys = {w.split("=", 1)[0] for w in given}
    stored = [w for w in info["words"] if w.split("=", 1)[0] not in keys and not w.startswith("sweep.name=")]
    check_stored(folder, stored)
    _become(["-m", *config_words(folder.snapshots), *stored, *given, f"sweep.name={folder.name}"])


def _become(words: Sequence[str]) -> None:
    """Replace this process by ``agnews run`` with Hydra's words (-P: the current folder is not importable)."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-P", "-m", "agnews_exp.cli", "run", *words]
    os.execve(sys.executable, command, own_environment())  # noqa: S606


def check_stored(folder: SweepFolder, words: Sequence[str]) -> None:
    """Refuse stored words and a stored configuration that would let Hydra do more than run a sweep."""
    for word in words:
        if not _may_be_replayed(word):
            raise ConfigError(
                f"The sweep '{folder.name}' stores '{shortened(word)}', which is not replayed: it can make Hydra "
                "run code of whoever made the folder.",
                fix="give that word yourself beside sweep.resume if it is yours, or start the sweep anew",
            )
    refuse_foreign_settings([*config_words(folder.snapshots), *_single_values(words)])


def refuse_foreign_settings(words: Sequence[str]) -> None:
    """Refuse a configuration whose settings of Hydra itself are not this project's; nothing of it is called.

    Raises:
        ConfigError: Names the setting.
    """
    from agnews_exp.config.compose import extra_folders

    main = next(Path(word.split("=", 1)[1]) for word in words if word.startswith("--config-path="))
    stored = _settings([word for word in words if not word.startswith("-")], main, extra_folders(words))
    launcher = stored["runtime"]["choices"]["hydra/launcher"]
    own = _settings([f"hydra/launcher={launcher}"], config_folder(), [])
    for name in sorted(own.keys() | stored.keys()):
        if name not in _OF_A_COMMAND and own.get(name) != stored.get(name):
            raise _foreign(main, f"hydra.{name}")
    for group, free in (("launcher", _LAUNCHER), ("job", _JOB)):
        for name in sorted((own[group].keys() | stored[group].keys()) - free):
            if own[group].get(name) != stored[group].get(name):
                raise _foreign(main, f"hydra.{group}.{name}")
    if not all(target.startswith(_CLASSES) for target in _targets(stored["sweeper"])):
        raise _foreign(main, "hydra.sweeper._target_")


def _foreign(place: Path, what: str) -> ConfigError:
    return ConfigError(
        f"The copy of the configuration in {place} sets {what} in another way than this project's, which "
        "can make Hydra run code of whoever made the folder.",
        fix="start the sweep anew from this project's configuration, with another sweep.name",
    )


def _may_be_replayed(word: str) -> bool:
    left, _, value = word.partition("=")
    key = override_key(word)
    package = left.partition("@")[2]
    if word.startswith("-") or package.startswith(("hydra", "_")):
        return False
    if key != "hydra" and not key.startswith(("hydra.", "hydra/")):
        return True
    if "_target_" in word or "${" in value:
        return False
    parts = key.split(".")
    if len(parts) > 2 and parts[1] in ("launcher", "sweeper"):
        known = _LAUNCHER if parts[1] == "launcher" else _SWEEPER
        return parts[2] in known and not any(part.startswith("_") for part in parts)
    return key in _PLAIN


def _targets(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "_target_":
                yield str(inner)
            else:
                yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)


def _settings(words: Sequence[str], folder: Path, extra: Sequence[Path]) -> dict[str, Any]:
    """Return Hydra's own node as a command would compose it, unresolved."""
    from omegaconf import OmegaConf

    from agnews_exp.config.compose import compose_config

    config = compose_config([*words, "hydra.mode=RUN"], folder, extra, hydra_node=True)
    node: Any = OmegaConf.to_container(config.hydra, resolve=False)
    return dict(node)


def _single_values(words: Sequence[str]) -> list[str]:
    """Return the words that a sweep's own configuration is composed from: those that sweep nothing."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(words))
    return [str(o.input_line) for o in parsed if not o.is_sweep_override() and o.key_or_group != "hydra.mode"]
