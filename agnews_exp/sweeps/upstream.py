"""The parts of Hydra and Optuna that a sweep needs and that have no public name; a test notices when one changes.

Each function says which public way is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import HydraContext

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial


def compose_from(context: HydraContext, folders: Sequence[Path]) -> None:
    """Let Hydra compose from other folders in the place of the command's own: the main one, then ``--config-dir``'s.

    A search path can be changed by a plugin before Hydra starts, but not by a sweeper, which knows only then which
    sweep this is.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository

    loader = context.config_loader
    if not isinstance(loader, ConfigLoaderImpl):
        return
    main, *left = folders
    for entry in loader.config_search_path.get_path():
        if entry.provider == "main":
            entry.path = f"file://{main}"
        elif entry.provider == "command-line" and left:
            entry.path = f"file://{left.pop(0)}"
    loader.repository = ConfigRepository(config_search_path=loader.config_search_path)


def read_distributions(words: Sequence[str]) -> tuple[dict[str, BaseDistribution], dict[str, Any], list[str]]:
    """Return the search space that overrides describe: distributions and fixed values by key, and deletions.

    hydra-optuna-sweeper translates Hydra's grammar of sweeps, but only for its own sweeper.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    distributions, fixed, lines = create_params_from_overrides(list(words))
    return distributions, fixed, lines


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Return a trial's number in its database, by which another process finds it: public is only that in its study."""
    return int(trial._trial_id)


def reopen_trial(study: Study, trial: FrozenTrial) -> Trial:
    """Return a running trial of an earlier process to be gone on with: Optuna hands out each only once."""
    from optuna.trial import Trial

    return Trial(study, trial_id(trial))
