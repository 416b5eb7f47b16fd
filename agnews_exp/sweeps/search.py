"""A study over the jobs of a sweep: asks Optuna for trials, tells it their ends, and picks up where it was."""

from __future__ import annotations

import functools
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

from agnews_exp.config.errors import ConfigError
from agnews_exp.sweeps.command import clean_words, is_maximised
from agnews_exp.sweeps.jobs import Job, JobState
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.tracking import intermediate

log = logging.getLogger(__name__)

_OWNER = "agnews.sweep"
_MIN_ENDED = 5
_SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
_RESEEDED = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler")


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
    plain |= {"objectives": objectives, "directions": directions, "pruner": pruner}
    return SearchSettings(**{k: v for k, v in plain.items() if k != "direction"})


def read_space(params: DictConfig | None, arguments: Sequence[str]) -> Space:
    """Read the search space from the configuration and the command.

    Raises:
        ConfigError: There is nothing to search.
    """
    given = {a.split("=", 1)[0] for a in arguments}
    words = [f"{k!s}={v}" for k, v in (params or {}).items() if str(k) not in given]
    kept = [a for a in arguments if not a.lstrip("+~").startswith("sweep.")]
    # As everywhere on a command line, the last word on a key counts.
    last = {a.split("=", 1)[0].split("@", 1)[0]: a for a in [*words, *kept]}
    distributions, fixed, lines = create_params_from_overrides(list(last.values()))
    if not distributions:
        raise ConfigError(
            "The search has no space: nothing is swept.",
            fix="name one, such as 'model.C=tag(log, interval(0.01, 100))', or choose an experiment=*_search",
        )
    return Space(distributions, fixed, lines)


class Search:
    """A source of jobs that learns from their results.

    Args:
        settings: Checked settings.
        space: What is searched.
        session: The sweep.
        config: The sweep's composed config.

    Raises:
        ConfigError: The study exists with another space.
    """

    def __init__(self, settings: SearchSettings, space: Space, session: SweepSession, config: DictConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.settings, self.space = settings, space
        self._session = session
        self.study_name = settings.study_name or session.folder.name
        output = Path(session.plain["paths"]["output_dir"])
        self.storage_url = settings.storage or f"sqlite:///{output / 'optuna' / (self.study_name + '.db')}"
        self._configure = OptunaSweeperImpl(
            None, None, None, None, settings.n_trials, 1, 0.0, settings.custom_search_space, None
        )
        self._configure.config = config
        self._grid_size: int | None = None
        self.study = self._open_study()
        self._trials: dict[int, Trial] = {}
        self._leftover = self._recover()

    def _open_study(self) -> optuna.Study:
        if self.settings.storage is None:
            Path(self.storage_url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            study_name=self.study_name,
            storage=intermediate.open_storage(self.storage_url),
            pruner=intermediate.make_pruner(self.settings.pruner),
            directions=cast("list[Literal['minimize', 'maximize']]", self.settings.directions),
            load_if_exists=True,
        )
        described = self.space.describe()
        stored = study.user_attrs.get("space")
        if stored is not None and stored != described:
            raise ConfigError(
                f"The study '{self.study_name}' searches another space.\n  stored: {stored}\n  given:  {described}",
                fix="set hydra.sweeper.study_name to a new name",
            )
        if stored is None:
            study.set_user_attr("space", described)
        study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
        return study

    def _sampler(self, number: int) -> Any:
        """Build the sampler; its seed depends on the trial's number, so a search that was cut repeats no draws."""
        described = dict(self.settings.sampler)
        seed = described.get("seed")
        if seed is not None and described["_target_"] in _RESEEDED:
            described["seed"] = (int(seed) + 7919 * number) % 2**32
        sampler = instantiate(described, _execution_whitelist_=_SAMPLERS)
        if isinstance(sampler, functools.partial):  # the grid sampler wants the space first
            choices = {k: OptunaSweeperImpl._to_grid_sampler_choices(d) for k, d in self.space.distributions.items()}
            self._grid_size = functools.reduce(lambda n, values: n * len(values), choices.values(), 1)
            return sampler(choices)
        return sampler

    @property
    def total(self) -> int:
        """How many trials there shall be in all."""
        return min(self.settings.n_trials, self._grid_size or self.settings.n_trials)

    def _recover(self) -> list[FrozenTrial]:
        """Tell the ends that an earlier call could not tell any more; return its trials that have to run again."""
        again = []
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if frozen.user_attrs.get(_OWNER, self._owner) != self._owner:
                continue  # another sweep works on the same study
            state = self._session.folder.state(frozen.number)
            if state is not None and self._session.folder.is_settled(state):
                self._tell(frozen.number, state)
            else:
                again.append(frozen)
        return again

    @property
    def _owner(self) -> str:
        return f"{platform.node()}:{self._session.folder.path}"

    @property
    def ended(self) -> list[FrozenTrial]:
        """All trials that have ended."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]

    @property
    def complete(self) -> bool:
        """Whether all trials have ended."""
        return not self._leftover and len(self.ended) >= self.total

    @property
    def acceptable(self) -> bool:
        """Whether the search may end well though some trials failed."""
        return self.complete and not self._hopeless

    @property
    def _hopeless(self) -> bool:
        ended = self.ended
        failed = sum(t.state is TrialState.FAIL for t in ended)
        enough = len(ended) >= min(_MIN_ENDED, self.total)
        return enough and failed > self.settings.max_failure_rate * len(ended)

    def next(self) -> Job | None:
        """Ask for a trial; None when there are enough, or too many have failed."""
        if self._hopeless:
            log.error("more than %.0f %% of the trials failed: giving up", 100 * self.settings.max_failure_rate)
            return None
        if self._leftover:
            trial = Trial(self.study, self._leftover.pop(0)._trial_id)
        elif len(self.study.get_trials(deepcopy=False)) < self.total:
            self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            trial.set_user_attr(_OWNER, self._owner)
        else:
            return None
        self._trials[trial.number] = trial
        (words,) = self._configure._configure_trials(
            [trial], self.space.distributions, dict(self.space.fixed), self.space.lines
        )
        return Job(trial.number, clean_words(words), tuple(self._environment(trial).items()))

    def _environment(self, trial: Trial) -> dict[str, str]:
        if self.settings.pruner.get("name", "none") == "none":
            return {}
        return {
            intermediate.STORAGE: self.storage_url,
            intermediate.STUDY: self.study_name,
            intermediate.TRIAL: str(trial._trial_id),
            intermediate.PRUNER: json.dumps(self.settings.pruner),
        }

    def done(self, state: JobState) -> None:
        """Tell the study how a trial ended; one that was interrupted stays open and runs again next time."""
        if state.status != "killed":
            self._tell(state.num, state)

    def _tell(self, number: int, state: JobState) -> None:
        values = None if state.status == "pruned" else self._values(state)
        ended = TrialState.PRUNED if state.status == "pruned" else TrialState.FAIL if values is None else None
        try:
            self.study.tell(number, values, ended, skip_if_finished=True)
        except RuntimeError as error:  # the grid sampler stops the study after its last point; it is told by then
            if "Study.stop" not in str(error):
                raise

    def _values(self, state: JobState) -> list[float] | None:
        run = self._session.folder.run_of(state) if state.status == "finished" else None
        result = run.result() if run is not None else None
        if result is None:
            return None
        numbers = {**result["metrics"], **{f"time/{k}": v for k, v in result["timings"].items()}}
        missing = [m for m in self.settings.objectives if m not in numbers]
        if missing:
            log.error("trial %d has no metric %s", state.num, ", ".join(missing))
            return None
        return [float(numbers[m]) for m in self.settings.objectives]
