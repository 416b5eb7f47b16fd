"""The sweeper behind `-m`: every combination once, remembered, so that a repeat runs only what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext

from agnews_exp.config.errors import ConfigError, unknown_name
from agnews_exp.sweeps.base_sweeper import SessionSweeper

if TYPE_CHECKING:
    from agnews_exp.sweeps.folder import SweepFolder


_REPORTS = ("study_tables", "distil_table")


class GridSweeper(SessionSweeper):
    """Runs the product of all comma lists, ranges and globs of the command.

    Args:
        params: Sweeps from the configuration, such as ``{seed: 1,2,3}``; the command's own win.
        grids: Several grids that make one sweep, one after the other, each like ``params`` and added to it.
        report: What to set the runs side by side with at the end: ``study_tables`` (the study's published numbers) or
            ``distil_table`` (a teacher and its students).
    """

    def __init__(
        self,
        params: dict[str, str] | None = None,
        grids: list[dict[str, str]] | None = None,
        report: str | None = None,
    ) -> None:
        if report is not None and report not in _REPORTS:
            raise unknown_name("hydra.sweeper.report", report, _REPORTS)
        self.params = params or {}
        self.grids = grids or [{}]
        self.report = report

    def sweep(self, arguments: list[str]) -> None:
        """Run what is missing of the sweep.

        Args:
            arguments: The command's task overrides.

        Raises:
            SweepFailed: Some jobs failed.
            ConfigError: The command makes no sense as a grid, or no job's configuration is valid.
        """
        from agnews_exp.sweeps.command import is_maximised
        from agnews_exp.sweeps.process_launcher import JobList
        from agnews_exp.sweeps.session import SweepSession

        self.resume_other()
        label = label_of(parse_overrides(arguments, self.hydra_context))
        grid: list[list[str]] = []
        swept: list[str] = []
        for block in self.grids:
            words = [*(f"{k}={v}" for k, v in (self.params | block).items()), *arguments]
            overrides = parse_overrides(words, self.hydra_context)
            grid += expand(overrides)
            # What differs between grids tells jobs apart just as what is swept within one.
            keys = [o.key_or_group for o in overrides if o.is_sweep_override() or o.key_or_group in block]
            swept += [key for key in keys if key not in swept]
        maximise = is_maximised(str(self.config.evaluation.primary))
        with SweepSession(self.config, label, swept, kind="grid", maximise=maximise) as session:
            pending = session.plan(grid)
            source = JobList(pending, len(grid))
            unseen = all((s := session.folder.state(j.num)) is None or s.attempts == 0 for j in pending)
            check = pending if len(pending) == len(grid) and unseen else []
            if pending:
                self.work(session, source, batch=len(pending), check=check)
            elif session.folder.info().get("status") != "finished":
                session.begin(len(grid))  # all jobs are done, but the call that did the last one did not end well
            session.finish(len(grid), self._report())

    def _report(self) -> Callable[[SweepFolder], dict[str, Any]] | None:
        if self.report is None:
            return None
        if self.report == "distil_table":
            from agnews_exp.sweeps.distil_report import distil_report

            return distil_report
        from agnews_exp.sweeps.study_report import study_report

        return study_report


def parse_overrides(words: Sequence[str], context: HydraContext) -> list[Override]:
    """Parse Hydra overrides."""
    return OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(words))


def expand(overrides: Sequence[Override]) -> list[list[str]]:
    """Return every job's overrides: the product of all sweeps, the last one varying fastest.

    Raises:
        ConfigError: A continuous interval, which only a search can sweep.
    """
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
    """Return a readable name of a sweep: the experiment, if one is named, and what is swept."""
    experiment = [str(o.value()) for o in overrides if o.key_or_group == "experiment" and not o.is_sweep_override()]
    swept = [(o.key_or_group or "").split(".")[-1].split("/")[-1] for o in overrides if o.is_sweep_override()]
    return "-".join([*experiment, *swept]) or "sweep"
