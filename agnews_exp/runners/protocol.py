"""The interface of the runners of all families, and the timing of an experiment's stages."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agnews_exp.core.process import check_terminated
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.predictions import Predictions

log = logging.getLogger(__name__)


class Stages:
    """Times named stages and shows the current one (a spinner in a terminal, log lines elsewhere).

    Args:
        quiet: Time only, show nothing (inside another stage).
        report: Takes ``(step, value)`` of a run in progress and raises Pruned to stop it; None when nobody asks.

    Attributes:
        timings: Seconds by stage name; a stage entered twice adds up.
    """

    def __init__(self, *, quiet: bool = False, report: Callable[[int, float], None] | None = None) -> None:
        self.timings: dict[str, float] = {}
        self._report = report
        self._quiet = quiet

    @property
    def reports(self) -> bool:
        """Whether a search listens to intermediate values; without one they need not be computed."""
        return self._report is not None

    def report_intermediate(self, step: int, value: float) -> None:
        """Tell a search how the run does after epoch, fold or pass ``step`` (from 0, each at most once).

        Raises:
            Pruned: The search gives up on this run; let it pass.
        """
        if self._report is not None:
            self._report(step, value)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Time the block as ``name`` and show ``what`` while it runs.

        Raises:
            KeyboardInterrupt: Ctrl-C was lost before, as amid an import.
            Terminated: SIGTERM likewise.
        """
        check_terminated()
        start = time.perf_counter()
        with self._shown(what):
            yield
        seconds = time.perf_counter() - start
        self.timings[name] = self.timings.get(name, 0.0) + seconds
        if not self._quiet:
            log.info("%s: %.1f s", what, seconds)

    @contextmanager
    def _shown(self, what: str) -> Iterator[None]:
        if self._quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(what, total=None)
            yield


@dataclass(frozen=True)
class FitSummary:
    """Numbers and notes of a fit, beside its timings."""

    # Numbers to log, such as ``n_features`` or ``n_iterations``.
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # warnings worth keeping, such as a solver that did not converge


class Runner(Protocol):
    """A runner of one model: fits it on training rows, answers texts, saves it."""

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Fit on ``splits.train``; ``splits.validation`` may stop or select; ``splits.test`` is not touched."""

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; the same text always gets the same answer."""

    def save(self, folder: Path) -> None:
        """Write the fitted model into an empty folder."""
