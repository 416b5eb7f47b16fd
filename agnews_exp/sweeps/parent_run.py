"""The sweep's own MLflow run, as the sweep sees it: a tracker that fails costs a warning, never the sweep."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.sweeps.open_parent import OpenParent
from agnews_exp.tracking.shared_tracker import SharedTracker
from agnews_exp.tracking.tracker_pipe import TrackerPipe

log = logging.getLogger(__name__)


class _Backend(Protocol):
    """Who speaks to MLflow: :class:`OpenParent`, here or in another process; what fails is raised."""

    @property
    def run_id(self) -> str | None: ...
    def open(self, tags: Mapping[str, str]) -> object: ...
    def close_job(self, num: int, status: str) -> object: ...
    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[str]) -> object: ...
    def close(self, status: str) -> object: ...


class ParentRun:
    """Opens, feeds and closes the parent run.

    Args:
        plain: The resolved config of the sweep's command: ``tracking`` and ``paths`` count.
        folder: The sweep's folder.
        apart: Let another process speak to MLflow, also for the jobs that this process runs itself; nobody waits for
            it before the end.
    """

    def __init__(self, plain: Mapping[str, Any], folder: SweepFolder, *, apart: bool = False) -> None:
        self._enabled = bool(plain["tracking"]["enabled"])
        self._backend: _Backend = RemoteParent(plain, folder) if apart else OpenParent(plain, folder, os.getpid())
        self._is_open = False

    @property
    def run_id(self) -> str | None:
        """MLflow's id for the environment of jobs that have a process of their own; None where others know it."""
        return self._backend.run_id

    def open(self, tags: Mapping[str, str]) -> None:
        """Create the run, or go on with the one of an earlier call, and mend what that left behind.

        Args:
            tags: Tags of the run, such as the command.
        """
        if self._enabled:
            self._is_open = self._try("open the sweep's run", lambda: self._backend.open(tags))

    def close_job(self, num: int, status: str) -> None:
        """Close the MLflow run of a job that could not do so itself; a run that has ended keeps its status."""
        if self._is_open:
            self._try(f"close the run of job {num}", lambda: self._backend.close_job(num, status))

    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Log the sweep's results: the table shown on top of the run, numbers, and files."""
        if self._is_open:
            paths = [str(path) for path in artifacts]
            self._try("log the sweep's results", lambda: self._backend.log(note=note, metrics=metrics, artifacts=paths))

    def close(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if self._is_open:
            self._is_open = False
            self._try("close the sweep's run", lambda: self._backend.close(status))

    def _try(self, what: str, action: Callable[[], object]) -> bool:
        """Do it; return whether it went well, and warn when not."""
        try:
            action()
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("MLflow could not %s: %s. The sweep goes on without it.", what, reason)
            log.debug("tracking failure", exc_info=True)
            return False
        return True


class RemoteParent:
    """Stands for an :class:`OpenParent` in the tracking process that the jobs of the sweep share.

    Args:
        plain: The resolved config of the sweep's command.
        folder: The sweep's folder; the process holds its lock, too.
    """

    run_id = None

    def __init__(self, plain: Mapping[str, Any], folder: SweepFolder) -> None:
        self._plain, self._folder = plain, folder
        self._stack = ExitStack()
        self._tracker: SharedTracker | None = None

    def open(self, tags: Mapping[str, str]) -> None:
        """Start the process and ask for the run to be opened; returns at once."""
        keep = () if self._folder.lock is None else (self._folder.lock,)
        pipe = TrackerPipe("agnews_exp.sweeps.sweep_tracker", keep)
        tracker = SharedTracker(pipe, Path(self._plain["paths"]["mlruns_dir"]))
        folder, pid = str(self._folder.path.resolve()), os.getpid()
        number = tracker.ask(
            "open the sweep's run", "open_parent", plain=self._plain, folder=folder, pid=pid, tags=dict(tags),
            argv=sys.argv,
        )  # fmt: skip
        tracker.parent_asked(number)
        self._tracker = self._stack.enter_context(tracker.used())

    def close_job(self, num: int, status: str) -> None:
        """Ask for a job's run to be closed."""
        self._ask(f"close the run of job {num}", "close_job", num=num, status=status)

    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[str]) -> None:
        """Ask for the sweep's results to be logged."""
        words = {"note": note, "metrics": dict(metrics), "artifacts": list(artifacts)}
        self._ask("log the sweep's results", "log_parent", **words)

    def close(self, status: str) -> None:
        """Close the run when all that was asked for is done, and end the process."""
        try:
            self._ask("close the sweep's run", "close_parent", status=status)
        finally:
            self._stack.close()

    def _ask(self, what: str, request: str, **arguments: Any) -> None:
        if self._tracker is not None:
            self._tracker.ask(what, request, **arguments)
