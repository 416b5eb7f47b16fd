"""The sweeper behind `-m`: every combination once, remembered, so that a repeat runs only what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from agnews_exp.core.errors import ConfigError

if TYPE_CHECKING:
    from agnews_exp.sweeps.launcher import Source
    from agnews_exp.sweeps.session import SweepSession
    from agnews_exp.sweeps.state import Job, SweepFolder


class SessionSweeper(Sweeper):
    """A sweeper whose jobs belong to a :class:`agnews_exp.sweeps.session.SweepSession`."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Any

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the command's config and build the launcher."""
        from agnews_exp.config.compose import refuse_saved, refuse_several
        from agnews_exp.sweeps.clusters import InFolder, refuse_missing_launcher
        from agnews_exp.sweeps.state import command_words

        refuse_saved(config.hydra)
        refuse_several(command_words(config))
        self.hydra_context, self.config = hydra_context, config
        refuse_missing_launcher(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=InFolder(task_function, Path.cwd()), config=config
        )

    def own_directions(self) -> dict[str, bool]:
        """Return ``greater_is_better`` of the user's own metrics by name, once the objective is known to be a metric.

        Raises:
            ConfigError: The objective is not in the register of metrics, or an own metric is not fit for use.
        """
        from agnews_exp.evaluation.metrics import find_objective, own_metrics
        from agnews_exp.evaluation.tasks import task_of_config
        from agnews_exp.sweeps.state import task_plain

        plain = task_plain(self.config)
        evaluation = plain["evaluation"]
        own = own_metrics(evaluation.get("metrics") or ())
        find_objective(str(evaluation["primary"]), own=own, task=task_of_config(plain.get("data") or {}))
        return {metric.name: metric.greater_is_better for metric in own}

    def work(self, session: SweepSession, source: Source, *, batch: int, check: Sequence[Job] = ()) -> None:
        """Run jobs until the source has none left; a launcher that is not ours gets ``batch`` at once."""
        from agnews_exp.sweeps.clusters import work_through
        from agnews_exp.sweeps.launcher import ProcessLauncher

        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.work(session, source, check)
        else:
            work_through(self.launcher, session, source, self.config, self.hydra_context, batch=batch)


class SearchSweeper(SessionSweeper):
    """The sweeper of searches by Optuna; names and spaces follow the rules of hydra-optuna-sweeper."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are missing.

        Raises:
            SweepFailed: Too many trials failed.
            ConfigError: Something about the search makes no sense.
        """
        from agnews_exp.sweeps.replay import resume
        from agnews_exp.sweeps.search import Search, check_settings, read_space, report_search
        from agnews_exp.sweeps.session import SweepSession

        resume(self.config)
        primary = str(self.config.evaluation.primary)
        settings = check_settings(self.settings, primary, self.own_directions())
        space = read_space(settings.params, arguments)
        maximise = settings.directions[0] == "maximize" if len(settings.directions) == 1 else None
        objective = None if maximise is None or settings.objectives == [primary] else settings.objectives[0]
        label = next((a.split("=", 1)[1] for a in arguments if a.startswith("experiment=")), "search")
        with SweepSession(
            self.config, label, list(space.distributions), kind="search", maximise=maximise, objective=objective
        ) as session:
            search = Search(settings, space, session, self.config)
            if not search.complete:
                self.work(session, search, batch=settings.n_jobs)
            elif session.folder.info().get("status") != "finished":
                session.begin(search.total)
            session.finish(search.total, lambda folder: report_search(search, folder), accept=search.acceptable)


class GridSweeper(SessionSweeper):
    """Runs the product of all comma lists, ranges and globs of the command.

    ``conf/hydra/sweeper/grid.yaml`` describes the arguments.
    """

    def __init__(
        self,
        params: dict[str, str] | None = None,
        grids: list[dict[str, str]] | None = None,
    ) -> None:
        self.params = params or {}
        self.grids = grids or [{}]

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs of the sweep that are missing.

        Raises:
            SweepFailed: Some jobs failed.
            ConfigError: The command makes no sense as a grid, or no job's configuration is valid.
        """
        from agnews_exp.evaluation.metrics import direction
        from agnews_exp.reference.reading import find_reference
        from agnews_exp.sweeps.launcher import JobList
        from agnews_exp.sweeps.replay import resume
        from agnews_exp.sweeps.session import SweepSession

        resume(self.config)
        if self.config.reference:
            find_reference(self.config.reference, Path(self.config.paths.root_dir))  # unknown: said before any job
        label = label_of(parse_overrides(arguments, self.hydra_context))
        grid: list[list[str]] = []
        swept: list[str] = []
        for block in self.grids:
            words = [*(f"{k}={v}" for k, v in (dict(self.params) | dict(block)).items()), *arguments]
            overrides = parse_overrides(words, self.hydra_context)
            grid += expand(overrides)
            # What differs between grids tells jobs apart just as what is swept within one.
            keys = [o.key_or_group for o in overrides if o.is_sweep_override() or o.key_or_group in block]
            swept += [key for key in keys if key not in swept]
        maximise = direction(str(self.config.evaluation.primary), self.own_directions()) == "maximize"
        with SweepSession(self.config, label, swept, kind="grid", maximise=maximise) as session:
            pending = session.plan(grid)
            source = JobList(pending, len(grid))
            unseen = all((s := session.folder.state(j.num)) is None or s.attempts == 0 for j in pending)
            check = pending if len(pending) == len(grid) and unseen else []
            if pending:
                self.work(session, source, batch=len(pending), check=check)
            elif session.folder.info().get("status") != "finished":
                session.begin(len(grid))  # all jobs are done, but the call that did the last one did not end well
            session.finish(len(grid), self._tables)

    def _tables(self, folder: SweepFolder) -> dict[str, Any] | None:
        """Print and write tables of the runs beside a teacher or a chosen reference, where there are any."""
        from agnews_exp.compare.beside import print_tables

        runs = [run for state in folder.states() if (run := folder.run_of(state)) is not None]
        return print_tables(folder.path, runs, self.config.reference, Path(self.config.paths.root_dir))


def parse_overrides(words: Sequence[str], context: HydraContext) -> list[Override]:
    """Parse Hydra overrides."""
    return OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(words))


def expand(overrides: Sequence[Override]) -> list[list[str]]:
    """Return every job's overrides: the product of all sweeps, the last one varying fastest."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_delete() or not override.is_sweep_override():
            line = override.input_line
            choices[key] = [line] if line is not None else [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise ConfigError(
                f"{override.input_line}: a grid cannot sweep an interval.", fix="hydra/sweeper=optuna searches it"
            )
    return [list(words) for words in itertools.product(*choices.values())]


def label_of(overrides: Sequence[Override]) -> str:
    """Return a readable name of a sweep: the experiment, if one is named, and the swept keys."""
    experiment = [str(o.value()) for o in overrides if o.key_or_group == "experiment" and not o.is_sweep_override()]
    swept = [(o.key_or_group or "").split(".")[-1].split("/")[-1] for o in overrides if o.is_sweep_override()]
    return "-".join([*experiment, *swept]) or "sweep"
