"""What a search is told: its checked settings, and the space that configuration and command describe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, distribution_to_json

from agnews_exp.config.errors import ConfigError
from agnews_exp.config.targets import resolve_target
from agnews_exp.sweeps.command import is_maximised
from agnews_exp.sweeps.jobs import SCORE_TEST, override_key
from agnews_exp.tracking import intermediate


@dataclass(frozen=True)
class SearchSettings:
    """Checked settings; see :class:`agnews_exp.sweeps.search_sweeper.SearchSweeper`."""

    sampler: dict[str, Any]
    directions: list[str]
    objectives: list[str]
    storage: str | None
    study_name: str | None
    n_trials: int
    n_jobs: int
    max_failure_rate: float
    pruner: dict[str, Any]
    plots: bool
    custom_search_space: str | None
    params: DictConfig | None


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        distributions: Optuna distributions by override key.
        fixed: The other overrides by key.
        lines: Overrides that have no value (deletions).
    """

    distributions: dict[str, BaseDistribution]
    fixed: dict[str, Any]
    lines: list[str]

    def describe(self) -> str:
        """Return the space as text: equal for equal spaces."""
        space = {k: json.loads(distribution_to_json(d)) for k, d in sorted(self.distributions.items())}
        return json.dumps(space, sort_keys=True)


def check_settings(raw: Mapping[str, Any], primary: str) -> SearchSettings:
    """Check the sweeper's settings.

    Raises:
        ConfigError: A count or share out of range, a test metric as objective, or directions that do not fit.
    """
    plain: dict[str, Any] = {
        k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in raw.items()
    }
    objectives = list(plain["objectives"] or [primary])
    for metric in objectives:
        if metric.startswith(("test/", "train/")):
            raise ConfigError(
                f"hydra.sweeper.objectives names '{metric}': a search must not see the test set or its own training "
                "rows.",
                fix="use val/ or cv/ metrics, or costs such as latency_single_ms or time/fit",
            )
    for name, low in (("n_trials", 1), ("n_jobs", 1)):
        if not isinstance(plain[name], int) or plain[name] < low:
            raise ConfigError(f"hydra.sweeper.{name}={plain[name]!r}: a whole number of at least {low} is needed.")
    rate = plain["max_failure_rate"]
    if not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ConfigError(f"hydra.sweeper.max_failure_rate={rate!r}: a share in [0, 1] is needed.")
    if plain["custom_search_space"] is not None:
        own_space(plain["custom_search_space"])
    given = plain["direction"]
    directions = ["maximize" if is_maximised(m) else "minimize" for m in objectives] if given is None else given
    directions = [str(getattr(d, "name", d)) for d in (directions if isinstance(directions, list) else [directions])]
    if len(directions) != len(objectives) or set(directions) - {"maximize", "minimize"}:
        raise ConfigError(
            f"hydra.sweeper.direction={given!r} does not fit {len(objectives)} objectives.\n"
            "  allowed: maximize or minimize, one for each"
        )
    pruner = dict(plain["pruner"] or {"name": "none"})
    intermediate.make_pruner(pruner)
    if len(objectives) > 1 and pruner.get("name", "none") != "none":
        raise ConfigError("hydra.sweeper.pruner: Optuna cannot prune with several objectives.", fix="pruner.name=none")
    if pruner.get("name", "none") != "none" and objectives != [primary]:
        raise ConfigError(
            f"hydra.sweeper.pruner judges {primary} while a trial runs, but the objective is {objectives[0]}.",
            fix=f"evaluation.primary={objectives[0]} instead of hydra.sweeper.objectives, or pruner.name=none",
        )
    plain |= {"objectives": objectives, "directions": directions, "pruner": pruner}
    return SearchSettings(**{k: v for k, v in plain.items() if k != "direction"})


def own_space(path: str) -> Callable[[DictConfig, Any], None]:
    """Return the user's function ``(config, trial)`` that adds to the space.

    Raises:
        ConfigError: Its module is not one that AGNEWS_COMPONENTS names, or it has no such function.
    """
    key = "hydra.sweeper.custom_search_space"
    found = resolve_target(path, key)
    if not inspect.isfunction(found):
        raise ConfigError(f"{key}={path} is no function (config, trial).")
    return found


def read_space(params: DictConfig | None, arguments: Sequence[str]) -> Space:
    """Read the search space from the configuration and the command.

    Raises:
        ConfigError: There is nothing to search, or the command wants the test set scored.
    """
    given = {a.split("=", 1)[0] for a in arguments}
    words = [f"{k!s}={v}" for k, v in (params or {}).items() if str(k) not in given]
    kept = [a for a in arguments if not a.lstrip("+~").startswith("sweep.")]
    if any(override_key(a) == SCORE_TEST and not a.endswith("=false") for a in kept):
        raise ConfigError(
            f"{SCORE_TEST}: the trials of a search do not score the test set, or the best one would be chosen with it "
            "in sight.",
            fix="leave it out; `agnews sweeps best NAME --run` scores the best trial once the search is over",
        )
    # As everywhere on a command line, the last word on a key counts.
    last = {a.split("=", 1)[0].split("@", 1)[0]: a for a in [*words, *kept]}
    last[SCORE_TEST] = f"++{SCORE_TEST}=false"  # ++: an evaluation of the user's own may not have the key
    distributions, fixed, lines = create_params_from_overrides(list(last.values()))
    if not distributions:
        raise ConfigError(
            "The search has no space: nothing is swept.",
            fix="name one, such as 'model.C=tag(log, interval(0.01, 100))', or choose an experiment=*_search",
        )
    return Space(distributions, fixed, lines)
