"""`hydra/sweeper=optuna`: a search that is remembered, goes on where it was, and outlives failed trials."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from agnews_exp.sweeps.base_sweeper import SessionSweeper


class SearchSweeper(SessionSweeper):
    """Optuna's study over jobs; the rules of names and spaces are those of hydra-optuna-sweeper.

    Args:
        sampler: Optuna sampler as hydra-optuna-sweeper describes it; a seed makes the search repeatable.
        direction: ``maximize`` or ``minimize``, one for every objective; null knows the usual metrics.
        objectives: Metrics of a finished job; null is ``evaluation.primary``; several give a Pareto set.
        storage: URL of the study's database; null is a sqlite file of its own under ``outputs/optuna/``.
        study_name: Name in that database; null is the sweep's name.
        n_trials: How many trials there are in all, those of earlier calls included.
        n_jobs: Trials at once with other launchers; hydra/launcher=process goes by its own n_jobs.
        max_failure_rate: Give up when more than this share of at least five trials has failed.
        pruner: ``name`` (none, median, hyperband, successive_halving, percentile, threshold) and its arguments.
        plots: Whether to draw history, importances and the like at the end.
        custom_search_space: Dotted path of a function ``(config, trial)`` that adds to the space.
        params: The space, such as ``{model.C: 'tag(log, interval(0.01, 100))'}``; the command's own entries win.
    """

    def __init__(
        self,
        sampler: Any,
        direction: Any = None,
        objectives: list[str] | None = None,
        storage: str | None = None,
        study_name: str | None = None,
        n_trials: int = 20,
        n_jobs: int = 1,
        max_failure_rate: float = 0.5,
        pruner: dict[str, Any] | None = None,
        plots: bool = True,
        custom_search_space: str | None = None,
        params: DictConfig | None = None,
    ) -> None:
        self.settings = {
            "sampler": sampler, "direction": direction, "objectives": objectives, "storage": storage,
            "study_name": study_name, "n_trials": n_trials, "n_jobs": n_jobs, "max_failure_rate": max_failure_rate,
            "pruner": pruner, "plots": plots, "custom_search_space": custom_search_space, "params": params,
        }  # fmt: skip

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are missing.

        Args:
            arguments: The command's task overrides.

        Raises:
            SweepFailed: Too many trials failed.
            ConfigError: Something about the search makes no sense.
        """
        from agnews_exp.sweeps.search import Search
        from agnews_exp.sweeps.search_plots import report_search
        from agnews_exp.sweeps.search_settings import check_settings, read_space
        from agnews_exp.sweeps.session import SweepSession

        self.resume_other()
        primary = str(self.config.evaluation.primary)
        settings = check_settings(self.settings, primary)
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
