"""Reports of a run's intermediate values to the Optuna study that asked for it, which may stop it early.

The sweep names study and trial in the environment; without them :func:`study_reporter` returns None and a run reports
to nobody. A runner gets the reporter through :class:`agnews_exp.runners.protocol.Stages` and never sees Optuna.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from agnews_exp.core.errors import ConfigError, MissingDependencyError, Pruned

STORAGE, STUDY, TRIAL, PRUNER = "AGNEWS_STUDY_STORAGE", "AGNEWS_STUDY", "AGNEWS_TRIAL_ID", "AGNEWS_PRUNER"


def study_reporter() -> Callable[[int, float], None] | None:
    """Return a function ``report(step, value)`` that raises :class:`Pruned`, or None outside of a search."""
    if not os.environ.get(STUDY):
        return None
    trial: Any = None

    def report(step: int, value: float) -> None:
        nonlocal trial
        if trial is None:
            trial = _open_trial()
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned(step, value)

    return report


def _open_trial() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = make_pruner(json.loads(os.environ.get(PRUNER, "{}")))
    study = optuna.load_study(study_name=os.environ[STUDY], storage=open_storage(os.environ[STORAGE]), pruner=pruner)
    return optuna.trial.Trial(study, int(os.environ[TRIAL]))


def open_storage(url: str) -> Any:
    """Open a study's database; processes that write to one sqlite file at once wait for each other.

    Raises:
        MissingDependencyError: The driver of another kind of database is not installed.
    """
    import optuna

    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else None
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except ImportError as error:
        raise MissingDependencyError(
            f"hydra.sweeper.storage needs a database driver that is not installed: {error.__cause__ or error}",
            fix="pip install 'agnews-exp[postgres]'; the address is then postgresql+psycopg://user@host/database",
        ) from error


def make_pruner(settings: dict[str, Any]) -> Any:
    """Build an Optuna pruner from its ``name`` (such as ``median``) and keyword arguments.

    Raises:
        ConfigError: An unknown name or argument.
    """
    import optuna

    arguments = {k: v for k, v in settings.items() if k != "name" and v is not None}
    name = settings.get("name", "none")
    classes = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
        "percentile": optuna.pruners.PercentilePruner,
        "threshold": optuna.pruners.ThresholdPruner,
    }
    if name not in classes:
        raise ConfigError(f"hydra.sweeper.pruner.name={name!r} is unknown.\n  allowed: {', '.join(sorted(classes))}")
    try:
        return classes[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.pruner ({name}): {error}") from error
