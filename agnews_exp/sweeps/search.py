"""A study over the jobs of a sweep: asks Optuna for trials, tells it their ends, and picks up where it was."""

from __future__ import annotations

import functools
import json
import logging
import platform
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from filelock import FileLock
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, Trial, TrialState

from agnews_exp.config.errors import ConfigError
from agnews_exp.sweeps.command import clean_words
from agnews_exp.sweeps.folder import slug
from agnews_exp.sweeps.jobs import Job, JobState, numbers_of
from agnews_exp.sweeps.search_settings import SearchSettings, Space, own_space
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.tracking import intermediate

log = logging.getLogger(__name__)

_OWNER = "agnews.sweep"
_MIN_ENDED = 5
_SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
_RESEEDED = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler")


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
        folder = output / "optuna"
        folder.mkdir(parents=True, exist_ok=True)
        self.storage_url = settings.storage or f"sqlite:///{folder / (self.study_name + '.db')}"
        self._turn = FileLock(folder / f".{slug(self.study_name)}.lock")
        self._configure = OptunaSweeperImpl(None, None, None, None, settings.n_trials, 1, 0.0, None, None)
        self._configure.config = config
        if settings.custom_search_space:  # by us: Hydra does not know what we allow to be called
            self._configure.custom_search_space_extender = own_space(settings.custom_search_space)
        self._grid_size: int | None = None
        with self._turn:  # sweeps that share a study may all come first
            self.study = self._open_study()
        self._leftover = self._recover()
        self._repeated: set[int] = set()

    def _open_study(self) -> optuna.Study:
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
    def unit(self) -> str | None:
        """What a trial reports the ends of; None: fits on little before the real one."""
        plain = self._session.plain
        if plain["evaluation"]["folds"]:
            return "folds"
        return None if plain["model"]["family"] == "classical" else "validations"

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
    def elsewhere(self) -> int:
        """How many trials other sweeps on the same study are working on."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum(t.user_attrs.get(_OWNER, self._owner) != self._owner for t in running)

    @property
    def complete(self) -> bool:
        """Whether nothing is left for this sweep: all trials have ended, or others work on those that have not."""
        return not self._leftover and len(self.ended) + self.elsewhere >= self.total

    @property
    def acceptable(self) -> bool:
        """Whether the search may end well though some trials failed: not all of them."""
        return self.complete and not self._hopeless and any(t.state is not TrialState.FAIL for t in self.ended)

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
        trial = Trial(self.study, self._leftover.pop(0)._trial_id) if self._leftover else self._ask()
        if trial is None:
            return None
        (words,) = self._configure._configure_trials(
            [trial], self.space.distributions, dict(self.space.fixed), self.space.lines
        )
        return Job(trial.number, clean_words(words), tuple(self._environment(trial).items()))

    def _ask(self) -> Trial | None:
        """Ask for a new trial, unless there are enough; of several sweeps on one study, one asks at a time."""
        with self._turn:
            number = len(self.study.get_trials(deepcopy=False))
            if number >= self.total:
                return None
            self.study.sampler = self._sampler(number)
            trial = self.study.ask()
            trial.set_user_attr(_OWNER, self._owner)
        return trial

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
        """Tell the study how a trial ended; one that was interrupted stays open and runs again next time.

        One whose process was killed, perhaps because others took the memory, runs again in this call, once.
        """
        if state.was_killed and state.num not in self._repeated:
            self._repeated.add(state.num)
            self._leftover.append(self.study.get_trials(deepcopy=False)[state.num])
        elif state.status != "killed":
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
        numbers = numbers_of(result)
        missing = [m for m in self.settings.objectives if m not in numbers]
        if missing:
            log.error("trial %d has no metric %s", state.num, ", ".join(missing))
            return None
        return [float(numbers[m]) for m in self.settings.objectives]
