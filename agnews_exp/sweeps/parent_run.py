"""The sweep's own MLflow run, as the sweep sees it: a tracker that fails costs a warning, never the sweep."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record
from agnews_exp.tracking.mlflow_run import SharedTracker, Tracker, TrackerPipe, answer_requests
from agnews_exp.tracking.record import NAMES, PARENT_RUN
from agnews_exp.tracking.store import prepare_store

log = logging.getLogger(__name__)


class OpenParent:
    """The parent run, under which every job's run is nested, through a client in this process.

    Args:
        plain: The resolved config of the sweep's command: ``tracking`` and ``paths`` count.
        folder: The sweep's folder.
        pid: Process of the sweep, by which a dead one is known.

    Attributes:
        run_id: MLflow's id, or None while it is not open.
    """

    def __init__(self, plain: Mapping[str, Any], folder: SweepFolder, pid: int) -> None:
        self._plain, self._folder, self._pid = plain, folder, pid
        self.run_id: str | None = None
        self._client: Any = None

    def open(self, tags: Mapping[str, str]) -> None:
        """Create the run, or go on with the one of an earlier call, and mend what that left behind."""
        settings = self._plain["tracking"]
        mlruns = Path(self._plain["paths"]["mlruns_dir"])
        uri, experiment_id = prepare_store(mlruns, settings["uri"], settings["experiment"])
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)
        self._client = MlflowClient(tracking_uri=uri)
        tags = dict(tags) | {
            "sweep": self._folder.name,
            "kind": "sweep",
            "host": platform.node(),
            "pid": str(self._pid),
            "resumed": str(int(time.time() * 1000)),
            "run_folder": str(self._folder.path),
        }
        earlier = self._folder.info().get("parent_run_id")
        if earlier:
            try:
                self._client.get_run(earlier)
            except MlflowException:  # deleted, or in another store
                earlier = None
        if earlier:
            for key, value in tags.items():
                self._client.set_tag(earlier, key, value)
            self._client.update_run(earlier, status="RUNNING")
            self.run_id = str(earlier)
        else:
            run = self._client.create_run(experiment_id, tags=tags, run_name=self._folder.name)
            self.run_id = str(run.info.run_id)
        self._folder.update(parent_run_id=self.run_id)
        if earlier:
            try:
                self._mend(experiment_id)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("MLflow could not mend the runs of the sweep: %s. The sweep goes on without it.", reason)

    def _mend(self, experiment_id: str) -> None:
        """Close runs of jobs whose process is gone, and log finished jobs that MLflow has only in part."""
        from agnews_exp.tracking.sync import close_stale_runs, sync_runs

        close_stale_runs(experiment_id)
        states = self._folder.states()
        for state in states:
            if state.status == "killed":  # perhaps on another machine, where nobody can see its process
                self.close_job(state.num, "KILLED")
        folders = [record.RunFolder(self._folder.path / str(state.num)) for state in states]
        sync_runs(self._plain, [f for f in folders if f.status == "finished"])

    def close_job(self, num: int, status: str) -> None:
        """Close the MLflow run of a job that could not do so itself; a run that has ended keeps its status."""
        note = record.read_json(self._folder.path / str(num) / record.TRACKING)
        if self._client is None or note is None or not note.get("run_id"):
            return
        if self._client.get_run(note["run_id"]).info.status == "RUNNING":
            self._client.set_terminated(note["run_id"], status)

    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[str]) -> None:
        """Log the sweep's results: the table shown on top of the run, numbers, and files or folders."""
        if self.run_id is None:
            return
        self._client.set_tag(self.run_id, "mlflow.note.content", note[:60_000])
        for name, value in metrics.items():
            self._client.log_metric(self.run_id, name, float(value))
        for path in map(Path, artifacts):
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), path.name)
            elif path.is_file():
                self._client.log_artifact(self.run_id, str(path))

    def close(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if self.run_id is not None:
            self._client.set_terminated(self.run_id, status)
            self.run_id = None


class SweepTracker(Tracker):
    """Answers for a sweep and for its jobs."""

    last = "close_parent"

    def __init__(self) -> None:
        super().__init__()
        self._parent: OpenParent | None = None

    def open_parent(
        self, *, plain: Mapping[str, Any], folder: str, pid: int, tags: Mapping[str, str], argv: list[str]
    ) -> str | None:
        """Open the parent run and return its id."""
        sys.argv = argv
        self._parent = OpenParent(plain, SweepFolder(Path(folder)), pid)
        self._parent.open(tags)
        return self._parent.run_id

    def open_job(self, *, job: Mapping[str, str], **setup: Any) -> str | None:
        """Open a job's run below the parent and return its id.

        Args:
            job: The variables that make a run a job of a sweep, as :mod:`agnews_exp.tracking.record` has them.
            setup: The run's own setup.
        """
        parent = self._parent.run_id if self._parent is not None else None
        for name in NAMES:
            os.environ.pop(name, None)
        os.environ.update(({PARENT_RUN: parent} if parent else {}) | dict(job))
        return self.open(**setup)

    def close_job(self, *, num: int, status: str) -> None:
        """Close the run of a job that could not do so itself."""
        if self._parent is not None:
            self._parent.close_job(num, status)

    def log_parent(self, *, note: str, metrics: Mapping[str, float], artifacts: list[str]) -> None:
        """Log the sweep's results."""
        if self._parent is not None:
            self._parent.log(note=note, metrics=metrics, artifacts=artifacts)

    def close_parent(self, *, status: str) -> None:
        """Close the parent run."""
        if self._parent is not None:
            self._parent.close(status)

    def abandoned(self) -> None:
        """End what is still open as KILLED: the sweep has gone without a word."""
        super().abandoned()
        if self._parent is not None:
            with suppress(Exception):
                self._parent.close("KILLED")


if __name__ == "__main__":
    answer_requests(SweepTracker)


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
        pipe = TrackerPipe("agnews_exp.sweeps.parent_run", keep)
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
