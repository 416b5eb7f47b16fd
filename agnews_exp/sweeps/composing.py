"""Composing the jobs of a sweep that differ in values only: what they share is composed once.

Hydra reads and merges some thirty YAML files for a job. In a sweep over ``seed`` they come out the same every time, so
they are kept, and a job gets a copy with its own values. Whatever is more than choosing groups and setting values is
left to Hydra.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_OF_A_JOB = ("hydra.sweep.dir", "hydra.sweep.subdir")
_ENVIRONMENT = "hydra.job.env_set."
_MOST_KEPT = 64


class SweepConfigLoader(ConfigLoaderImpl):
    """Hydra's loader with a memory for what the jobs of a sweep share.

    Args:
        loader: The loader whose search path it takes over.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        super().__init__(loader.config_search_path)
        self.repository = loader.repository
        self._shared: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job.

        Args:
            master_config: The sweep's own configuration.
            sweep_overrides: The job's overrides.
        """
        try:
            found = self._from_shared(master_config, sweep_overrides)
        except (HydraException, OmegaConfBaseException, ValueError):
            found = None  # Hydra's own way knows how to say what is wrong
        return found if found is not None else super().load_sweep_config(master_config, sweep_overrides)

    def _from_shared(self, master: DictConfig, words: list[str]) -> DictConfig | None:
        overrides = OverridesParser.create().parse_overrides(words)
        groups = [o for o in overrides if self._chooses(o)]
        values = [o for o in overrides if o not in groups]
        if not all(_sets_a_value(o) for o in values):
            return None
        key = tuple(str(o.input_line) for o in groups)
        if key not in self._shared:
            if len(self._shared) >= _MOST_KEPT:
                self._shared.clear()
            self._shared[key] = super().load_sweep_config(master, list(key))
        config = copy.deepcopy(self._shared[key])
        self._apply_overrides_to_config(values, config)
        _note_overrides(config, master, overrides)
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    def _chooses(self, override: Override) -> bool:
        plain = override.type is OverrideType.CHANGE and override.package is None
        return plain and not isinstance(override.value(), dict) and self.repository.group_exists(override.key_or_group)


def _sets_a_value(override: Override) -> bool:
    """Whether an override changes nothing but a value that is there, or the environment of the job."""
    key = override.key_or_group
    if override.package is not None or override.is_sweep_override() or isinstance(override.value(), dict):
        return False
    if override.type is OverrideType.ADD:
        return key.startswith(_ENVIRONMENT)
    of_hydra = key == "hydra" or key.startswith(("hydra.", "hydra/"))
    return override.type is OverrideType.CHANGE and (not of_hydra or key in _OF_A_JOB)


def _note_overrides(config: DictConfig, master: DictConfig, overrides: Sequence[Override]) -> None:
    """Write down the overrides where Hydra has them: its own, and the task's, in order."""
    of_hydra: Any = OmegaConf.to_container(master.hydra.overrides.hydra)
    config.hydra.overrides.hydra = of_hydra + [o.input_line for o in overrides if o.is_hydra_override()]
    config.hydra.overrides.task = [o.input_line for o in overrides if not o.is_hydra_override()]
