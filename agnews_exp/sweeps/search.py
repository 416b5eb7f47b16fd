"""Searches: an Optuna study whose trials are the jobs of a sweep, and which a later call goes on with."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, Trial, TrialState

from agnews_exp import __version__
from agnews_exp.config.fingerprint import own_sources, scientific_config
from agnews_exp.config.targets import resolve_target
from agnews_exp.config.validation import flat
from agnews_exp.core.errors import ConfigError, first_line, refuse_password, unknown_name
from agnews_exp.core.paths import check_file_name
from agnews_exp.core.suggestions import nearest
from agnews_exp.core.text import markdown_table
from agnews_exp.drawing import Chart, Series, save
from agnews_exp.evaluation.metrics import MEASURED, METRICS, direction
from agnews_exp.sweeps.session import SweepSession
from agnews_exp.sweeps.state import (
    BEST,
    SCORE_TEST,
    Job,
    JobState,
    SweepFolder,
    clean_words,
    numbers_of,
    override_key,
    slug,
)
from agnews_exp.sweeps.upstream import read_distributions, reopen_trial, trial_id
from agnews_exp.tracking import intermediate
from agnews_exp.tracking.record import write_json


@dataclass(frozen=True)
class SearchSettings:
    """Checked settings of a search."""

    sampler: dict[str, Any]  # Optuna sampler as hydra-optuna-sweeper describes it; a seed makes the search repeatable
    directions: list[str]  # ``maximize`` or ``minimize``, one for each objective
    objectives: list[str]  # metrics of a finished job; several give a Pareto set
    # ``name`` (none, median, hyperband, successive_halving, percentile, threshold) and its arguments.
    pruner: dict[str, Any]
    storage: str | None = None  # URL of Optuna's database; None is a sqlite file of its own under ``outputs/optuna/``
    study_name: str | None = None  # name in that database; None is the sweep's name
    n_trials: int = 20  # how many trials there are in all, those of earlier calls included
    n_jobs: int = 1  # trials at once with other launchers; hydra/launcher=process goes by its own n_jobs
    max_failure_rate: float = 0.5  # give up when more than this share of at least five trials has failed
    plots: bool = True  # whether to draw history, importances and the like at the end
    custom_search_space: str | None = None  # dotted path of a function ``(config, trial)`` that adds to the space
    # The space, such as ``{model.C: 'tag(log, interval(0.01, 100))'}``; the command's own entries win.
    params: DictConfig | None = None


@dataclass(frozen=True)
class Space:
    """The search space."""

    distributions: dict[str, BaseDistribution]  # Optuna distributions by override key
    fixed: dict[str, Any]  # the other overrides by key
    lines: list[str]  # overrides that have no value (deletions)

    def describe(self) -> dict[str, Any]:
        """Return the space as plain values: equal for equal spaces."""
        return {key: json.loads(distribution_to_json(d)) for key, d in sorted(self.distributions.items())}


def check_settings(raw: Mapping[str, Any], primary: str, own: Mapping[str, bool] | None = None) -> SearchSettings:
    """Check the sweeper's settings; ``own`` has ``greater_is_better`` of the user's own metrics, by name."""
    defaults = {f.name: None if f.default is MISSING else f.default for f in fields(SearchSettings)}
    known = {k: v for k, v in defaults.items() if k != "directions"} | {"direction": None}
    for name in raw.keys() - known.keys():
        raise unknown_name("key in hydra.sweeper", name, list(known))
    plain: dict[str, Any] = known | {
        k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in raw.items()
    }
    refuse_password("hydra.sweeper.storage", plain["storage"])
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
    directions = [_direction(metric, own or {}) for metric in objectives] if given is None else given
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


def _direction(objective: str, own: Mapping[str, bool]) -> str:
    found = direction(objective, own)
    if found is None:
        known = [*(f"val/{name}" for name in (*METRICS, *own)), *MEASURED]
        guess = nearest(objective, known)
        raise ConfigError(
            f"hydra.sweeper.objectives names '{objective}', and whether more of it is better is not known.",
            fix=f"use '{guess}'" if guess else "hydra.sweeper.direction=maximize or minimize, one for each objective",
        )
    return found


def own_space(path: str) -> Callable[[DictConfig, Any], None]:
    """Return the user's function ``(config, trial)`` that adds to the space."""
    key = "hydra.sweeper.custom_search_space"
    found = resolve_target(path, key)
    if not inspect.isfunction(found):
        raise ConfigError(f"{key}={path} is no function (config, trial).")
    return found


def read_space(params: DictConfig | None, arguments: Sequence[str]) -> Space:
    """Read the search space from the configuration and the command."""
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
    distributions, fixed, lines = read_distributions(list(last.values()))
    if not distributions:
        raise ConfigError(
            "The search has no space: nothing is swept.",
            fix="name one, such as 'model.C=tag(log, interval(0.01, 100))', or choose an experiment=*_search",
        )
    return Space(distributions, fixed, lines)


log = logging.getLogger(__name__)

_OWNER, _DETERMINED, _DATA = "agnews.sweep", "agnews.determined_by", "agnews.data"
"""Notes on a trial (which sweep works on it) and on a study (its configuration, the checksum of its data)."""

_MIN_ENDED = 5
_SAMPLERS = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
_RESEEDED = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler")


class Search:
    """A source of jobs that learns from their results.

    Raises:
        ConfigError: Optuna has a study of this name with another space.
    """

    def __init__(self, settings: SearchSettings, space: Space, session: SweepSession, config: DictConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.settings, self.space = settings, space
        self._session = session
        self.study_name = settings.study_name or session.folder.name
        output = Path(session.plain["paths"]["output_dir"])
        folder = output / "optuna"
        folder.mkdir(parents=True, exist_ok=True)
        check_file_name("hydra.sweeper.study_name", self.study_name, [path.stem for path in folder.glob("*.db")])
        self.storage_url = settings.storage or f"sqlite:///{folder / (self.study_name + '.db')}"
        self._turn = FileLock(folder / f".{slug(self.study_name)}.lock")
        self._config = config
        self._extend = own_space(settings.custom_search_space) if settings.custom_search_space else None
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
        self._claim(study)
        study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
        return study

    def _claim(self, study: optuna.Study) -> None:
        """Store the settings that a search depends on, or compare them with those that an earlier call stored.

        Raises:
            ConfigError: Something differs; names it.
        """
        science = scientific_config(self._session.plain)
        given = {
            "space": self.space.describe(),
            "objectives": self.settings.objectives,
            "pruner": self.settings.pruner,
            "own_space": self.settings.custom_search_space,
            "own_space_code": own_sources([self.settings.custom_search_space or ""]),
            "version": __version__,
            **science,
            "data": {**science["data"], "name": self._session.plain["data"]["name"]},  # their rows have a checksum
        }
        given = flat(json.loads(json.dumps(given, sort_keys=True, default=str)))
        given = {key: value for key, value in given.items() if key not in self.space.distributions}
        stored = study.user_attrs.get(_DETERMINED)
        if stored is None:
            if study.get_trials(deepcopy=False):
                raise self._another_study(["it was begun by version 0.1, which did not write down what it searches"])
            study.set_user_attr(_DETERMINED, given)
            return
        differing = [key for key in sorted(stored.keys() | given.keys()) if stored.get(key) != given.get(key)]
        if differing:
            raise self._another_study(
                [f"{k}: {_cut(stored.get(k))} there, {_cut(given.get(k))} here" for k in differing]
            )
        if study.user_attrs.get(_DATA) is not None and not self._session.folder.states():
            # Other sweeps have begun it: with the same command, but perhaps before the data changed.
            job = Job(0, (*(f"{key}={value}" for key, value in self.space.fixed.items()), *self.space.lines))
            if (now := self._session.identify({0: self._session.job_words(job)})).get(0) is not None:
                self._check_data(study, now[0]["data"])

    def _another_study(self, differences: Sequence[str]) -> ConfigError:
        shown = [*differences[:6], *([f"and {len(differences) - 6} more"] if len(differences) > 6 else [])]
        return ConfigError(
            f"The Optuna study '{self.study_name}' searches something else:\n  " + "\n  ".join(shown),
            fix="set hydra.sweeper.study_name to a new name",
        )

    def _sampler(self, number: int) -> Any:
        """Build the sampler; its seed depends on the trial's number, so a search that was cut repeats no draws."""
        described = dict(self.settings.sampler)
        seed = described.get("seed")
        if seed is not None and described["_target_"] in _RESEEDED:
            described["seed"] = (int(seed) + 7919 * number) % 2**32
        sampler = instantiate(described, _execution_whitelist_=_SAMPLERS)
        if isinstance(sampler, functools.partial):  # the grid sampler wants the space first
            choices = {key: grid_choices(key, d) for key, d in self.space.distributions.items()}
            self._grid_size = functools.reduce(lambda n, values: n * len(values), choices.values(), 1)
            return sampler(choices)
        return sampler

    @property
    def unit(self) -> str | None:
        """The steps of a trial that pruning counts; None for fits on few rows before the real one."""
        plain = self._session.plain
        if plain["evaluation"]["folds"]:
            return "folds"
        return None if plain["model"]["family"] == "classical" else "validations"

    @property
    def total(self) -> int:
        """How many trials there shall be in all."""
        return min(self.settings.n_trials, self._grid_size or self.settings.n_trials)

    def _recover(self) -> list[FrozenTrial]:
        """Tell Optuna the ends of trials that an earlier call left open; return those that have to run again."""
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
        trial = reopen_trial(self.study, self._leftover.pop(0)) if self._leftover else self._ask()
        if trial is None:
            return None
        for key, distribution in self.space.distributions.items():
            suggest(trial, key, distribution)  # of a trial that was asked for before: what it has already
        if self._extend is not None:
            self._extend(self._config, trial)
        words = [*(f"{k}={v}" for k, v in (trial.params | self.space.fixed).items()), *self.space.lines]
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
            intermediate.TRIAL: str(trial_id(trial)),
            intermediate.PRUNER: json.dumps(self.settings.pruner),
        }

    def done(self, state: JobState) -> None:
        """Tell Optuna how a trial ended; one that was interrupted stays open and runs again next time.

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
        except RuntimeError as error:  # the grid sampler stops after its last point; Optuna has been told by then
            if "Study.stop" not in str(error):
                raise

    def _values(self, state: JobState) -> list[float] | None:
        run = self._session.folder.run_of(state) if state.status == "finished" else None
        result = run.result() if run is not None else None
        if result is None:
            return None
        self._check_data(self.study, str(result["data"]["checksum"]))
        numbers = numbers_of(result)
        missing = [m for m in self.settings.objectives if m not in numbers]
        if missing:
            log.error("trial %d has no metric %s", state.num, ", ".join(missing))
            return None
        return [float(numbers[m]) for m in self.settings.objectives]

    def _check_data(self, study: optuna.Study, checksum: str) -> None:
        """Refuse other data than those of the first trial."""
        stored = study.user_attrs.get(_DATA)
        if stored is None:
            study.set_user_attr(_DATA, checksum)
        elif stored != checksum:
            raise self._another_study([f"data: their checksum was {stored}, and is {checksum} now"])


def _cut(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> None:
    """Let a trial choose a value of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(key, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    else:
        raise ConfigError(f"{key}: Optuna cannot search {distribution}.")


def grid_choices(key: str, distribution: BaseDistribution) -> list[Any]:
    """Return the values that Optuna's grid sampler tries."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        low, high, step = (Decimal(str(x)) for x in (distribution.low, distribution.high, distribution.step))
        return [float(low + number * step) for number in range(int((high - low) / step) + 1)]
    raise ConfigError(
        f"{key}: hydra/sweeper/sampler=grid cannot try an interval.", fix=f"{key}=choice(...) or another sampler"
    )


def report_search(search: Search, folder: SweepFolder) -> dict[str, Any]:
    """Write best.json and plots/; return note, metrics and artifacts for the parent run, and lines for the terminal."""
    trials = search.study.get_trials(deepcopy=False)
    counts = {name.lower(): sum(t.state is state for t in trials) for name, state in TrialState.__members__.items()}
    best = _best(search)
    content = [
        {
            "trial": trial.number,
            "values": dict(zip(search.settings.objectives, trial.values, strict=True)),
            "params": trial.params,
            "overrides": list(state.overrides) if (state := folder.state(trial.number)) else [],
        }
        for trial in best
    ]
    write_json(folder.path / BEST, {"objectives": search.settings.objectives, "best": content})
    lines = [f"### {'Best trial' if len(search.settings.objectives) == 1 else 'Pareto set'}", ""]
    rows = [
        [
            entry["trial"],
            *(f"{v:.4f}" for v in entry["values"].values()),
            ", ".join(f"{k}={_short(v)}" for k, v in entry["params"].items()),
        ]
        for entry in content
    ]
    lines += [markdown_table(["trial", *search.settings.objectives, "parameters"], rows)]
    if content:
        job = "" if len(search.settings.objectives) == 1 else " --job N"
        lines += ["", "The trials did not score the test set. Fit one again and score it there: "]
        lines[-1] += f"`agnews sweeps best {folder.name}{job} --run`"
    said = saved_steps(trials, search.unit)
    lines += ["", *said]
    artifacts: list[Path] = [folder.path / BEST]
    if search.settings.plots:
        artifacts += _draw(search, folder.path / "plots")
    metrics = {f"trials/{name}": float(n) for name, n in counts.items() if n}
    return {"note": "\n".join(lines).rstrip(), "metrics": metrics, "artifacts": artifacts, "said": said}


def saved_steps(trials: Sequence[FrozenTrial], unit: str | None) -> list[str]:
    """Return one line on the steps that pruning has saved; none when no trial was pruned.

    A pruned trial is taken to have had as many steps (``unit``, such as epochs) before it as the longest completed one;
    None stands for trial fits before the real one.
    """
    done = [len(t.intermediate_values) for t in trials if t.state is TrialState.COMPLETE]
    pruned = [len(t.intermediate_values) for t in trials if t.state is TrialState.PRUNED]
    if not pruned:
        return []
    said = f"{len(pruned)} of {len(done) + len(pruned)} trials were pruned"
    if unit is None:
        return [f"{said} before their full fit"]
    run = sum(done) + sum(pruned)
    planned = sum(done) + len(pruned) * max([*done, *pruned])
    return [f"{said}: {run} of {planned} {unit} were run, {1 - run / planned:.0%} saved"]


def _best(search: Search) -> list[Any]:
    try:
        return [search.study.best_trial] if len(search.settings.objectives) == 1 else search.study.best_trials
    except ValueError:  # no trial has finished
        return []


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def search_charts(study: optuna.Study, objectives: Sequence[str]) -> Iterator[Chart]:
    """Yield the charts of a search: its history, and the effect and the importance of each parameter."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    if len(objectives) == 1:
        yield _history(study, done, objectives[0])
    elif len(objectives) == 2:
        best = {trial.number for trial in study.best_trials}
        parts = {
            "Pareto set": [t for t in done if t.number in best],
            "others": [t for t in done if t.number not in best],
        }
        series = tuple(
            _points(name, some, lambda t: t.values[0], lambda t: t.values[1]) for name, some in parts.items()
        )
        yield Chart("pareto_front", "Trials by both objectives", "points", objectives[0], objectives[1], series)
    for place, objective in enumerate(objectives):
        ending = "" if len(objectives) == 1 else f"_{slug(objective)}"
        value = partial(_value, place)
        if len(done) > 1:
            low = partial(_cost, place, study.directions[place])  # the default evaluator asks what makes a target low
            shares = get_param_importances(study, target=None if len(objectives) == 1 else low)
            bars = Series("", tuple(shares.values()), tuple(shares))
            yield Chart(f"importances{ending}", f"What {objective} depends on", "bars", "importance", "", (bars,))
        for key in dict.fromkeys(key for trial in done for key in trial.params):
            some = [trial for trial in done if key in trial.params]
            distribution = some[0].distributions[key]
            name, title = f"slice_{slug(key)}{ending}", f"{objective} by {key}"
            if isinstance(distribution, CategoricalDistribution):
                dots = _points("", some, value, lambda t, key=key: str(t.params[key]))
                yield Chart(name, title, "dots", objective, key, (dots,))
            else:
                points = _points("", some, lambda t, key=key: t.params[key], value)
                log_x = bool(getattr(distribution, "log", False))
                yield Chart(name, title, "points", key, objective, (points,), log_x=log_x)
    reported = [t for t in study.get_trials(deepcopy=False) if t.intermediate_values]
    if reported:
        lines = tuple(
            Series(f"trial {t.number}", tuple(map(float, t.intermediate_values)), tuple(t.intermediate_values.values()))
            for t in reported
        )
        yield Chart("intermediate_values", "What trials reported on their way", "lines", "step", objectives[0], lines)


def _history(study: optuna.Study, done: Sequence[FrozenTrial], objective: str) -> Chart:
    better = max if study.direction is optuna.study.StudyDirection.MAXIMIZE else min
    best = itertools.accumulate((float(trial.values[0]) for trial in done), better)
    numbers = tuple(float(trial.number) for trial in done)
    series = (
        _points("trial", done, lambda t: t.number, partial(_value, 0)),
        Series("best so far", numbers, tuple(best)),
    )
    return Chart("history", f"{objective}, trial by trial", "points", "trial", objective, series)


def _value(place: int, trial: FrozenTrial) -> float:
    return float(trial.values[place])


def _cost(place: int, direction: optuna.study.StudyDirection, trial: FrozenTrial) -> float:
    return _value(place, trial) * (-1 if direction is optuna.study.StudyDirection.MAXIMIZE else 1)


def _points(name: str, trials: Sequence[FrozenTrial], x: Callable[..., Any], y: Callable[..., Any]) -> Series:
    said = tuple(f"trial {trial.number}" for trial in trials)
    return Series(name, tuple(x(trial) for trial in trials), tuple(y(trial) for trial in trials), text=said)


def _draw(search: Search, folder: Path) -> list[Path]:
    """Draw what can be drawn; a picture that fails is left out."""
    folder.mkdir(exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for chart in search_charts(search.study, search.settings.objectives):
                save(chart, folder / f"{chart.name}.png")
    except Exception as error:
        log.warning("the search could not be drawn: %s", first_line(error))
    return [folder]
