"""One tracking process for all runs of a sweep that works in one process: jobs go on while MLflow is told of others."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agnews_exp.tracking.job_report import NAMES, PARENT_RUN
from agnews_exp.tracking.store import release_reserve
from agnews_exp.tracking.tracker_pipe import TrackerPipe, TrackingFailure
from agnews_exp.tracking.tracking_process import run_setup

log = logging.getLogger(__name__)

_AHEAD = 96
"""How many requests may be unanswered: some thirty jobs."""

_current: list[SharedTracker] = []


def shared_tracker() -> SharedTracker | None:
    """Return the tracker that the runs of this process share, if there is one."""
    return _current[-1] if _current else None


class SharedTracker:
    """A tracking process that several runs use, one after the other.

    Args:
        pipe: To the process.
        mlruns: Folder of the local store.
    """

    def __init__(self, pipe: TrackerPipe, mlruns: Path) -> None:
        self._pipe, self._mlruns = pipe, mlruns
        self._unanswered: deque[tuple[int, str]] = deque()
        self._parent: int | None = None
        self._announced = False

    @contextmanager
    def used(self) -> Iterator[SharedTracker]:
        """Let the runs of this process use it until the block ends, when all that was asked for has been done."""
        _current.append(self)
        try:
            yield self
        finally:
            _current.remove(self)
            if self._announced:
                os.environ.pop(PARENT_RUN, None)
            self.settle()
            self._pipe.stop()

    def ask(self, what: str, request: str, **arguments: Any) -> int:
        """Ask for something that nobody waits for; what could not be done is a warning later.

        Args:
            what: The request in words, for the warning.
            request: Its name.
            arguments: Its arguments.

        Returns:
            The request's number.

        Raises:
            TrackingFailure: The process is gone.
        """
        number = self._pipe.send(request, **arguments)
        self._unanswered.append((number, what))
        self.settle(_AHEAD)
        return number

    def settle(self, ahead: int = 0) -> None:
        """Wait until no more than ``ahead`` requests are unanswered."""
        while len(self._unanswered) > ahead:
            number, what = self._unanswered.popleft()
            try:
                self._pipe.answer(number)
            except TrackingFailure as failure:
                if failure.storage:
                    release_reserve(self._mlruns)
                log.warning("MLflow could not %s: %s. Log it later with: agnews sync", what, failure)
                if not self._pipe.started:
                    self._unanswered.clear()

    def answer(self, number: int) -> Any:
        """Wait for the answer to a request.

        Raises:
            TrackingFailure: It could not be done.
        """
        return self._pipe.answer(number)

    def parent_asked(self, number: int) -> None:
        """Remember which request opens the parent run."""
        self._parent = number

    def announce_parent(self) -> None:
        """Put the parent run's id where a run looks for it that speaks to MLflow by itself."""
        if self._parent is not None and not os.environ.get(PARENT_RUN):
            with suppress(TrackingFailure):
                os.environ[PARENT_RUN] = str(self.answer(self._parent))
                self._announced = True


class SharedRun:
    """Stands for an :class:`agnews_exp.tracking.open_run.OpenRun` in the shared process.

    Args:
        tracker: The shared tracker.
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.
    """

    def __init__(
        self,
        tracker: SharedTracker,
        plain: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, Any],
        *,
        resumed: bool,
    ) -> None:
        self._tracker, self._number = tracker, 0
        self._setup = run_setup(plain, folder, environment, resumed=resumed)
        self._what = f"of {folder.name}"

    def open(self) -> None:
        """Ask for the run to be opened."""
        job = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
        self._number = self._tracker.ask(f"open the run {self._what}", "open_job", job=job, **self._setup)

    def opened(self) -> str | None:
        """Wait until the run is open and return its id.

        Raises:
            TrackingFailure: It could not be opened.
        """
        return str(self._tracker.answer(self._number)) if self._number else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Classical models have no training curves."""
        raise NotImplementedError

    def mirror(self) -> None:
        """Ask for the finished record to be logged."""
        self._tracker.ask(f"log the results {self._what}", "mirror")

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """Ask for the run to be ended.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.
        """
        if self._number:
            self._tracker.ask(f"close the run {self._what}", "close", status=status, pruned=pruned)
