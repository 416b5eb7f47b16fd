"""The sweep's own MLflow run: the parent under which every job's run is nested."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.tracking import record
from agnews_exp.tracking.store import prepare_store

log = logging.getLogger(__name__)


class ParentRun:
    """Opens, feeds and closes the parent run; a tracker that fails costs a warning, never the sweep.

    Args:
        plain: The resolved config of the sweep's command: ``tracking`` and ``paths`` count.
        folder: The sweep's folder.
    """

    def __init__(self, plain: Mapping[str, Any], folder: SweepFolder) -> None:
        self._settings = plain["tracking"]
        self._plain = plain
        self._folder = folder
        self._experiment_id = ""
        self.run_id: str | None = None
        self._client: Any = None

    def open(self, tags: Mapping[str, str]) -> None:
        """Create the run, or go on with the one of an earlier call, and mend what that left behind.

        Args:
            tags: Tags of the run, such as the command.
        """
        if self._settings["enabled"]:
            self._try("open the sweep's run", lambda: self._open(tags))

    def _open(self, tags: Mapping[str, str]) -> None:
        uri, self._experiment_id = prepare_store(
            Path(self._plain["paths"]["mlruns_dir"]), self._settings["uri"], self._settings["experiment"]
        )
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)
        self._client = MlflowClient(tracking_uri=uri)
        now = int(time.time() * 1000)
        tags = dict(tags) | {
            "sweep": self._folder.name,
            "kind": "sweep",
            "host": platform.node(),
            "pid": str(os.getpid()),
            "resumed": str(now),
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
            self.mend()
        else:
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=self._folder.name)
            self.run_id = str(run.info.run_id)
        self._folder.update(parent_run_id=self.run_id)

    def mend(self) -> None:
        """Close runs of jobs whose process is gone, and log finished jobs that MLflow has only in part."""
        if self.run_id is None:
            return

        def mend() -> None:
            from agnews_exp.tracking.sync import close_stale_runs, sync_runs

            close_stale_runs(self._experiment_id)
            states = self._folder.states()
            for state in states:
                if state.status == "killed":  # perhaps on another machine, where nobody can see its process
                    self.close_job(state.num, "KILLED")
            numbers = [s.num for s in states] or []
            folders = [record.RunFolder(self._folder.path / str(num)) for num in numbers]
            sync_runs(self._plain, [f for f in folders if f.status == "finished"])

        self._try("mend the runs of the sweep", mend)

    def close_job(self, num: int, status: str) -> None:
        """Close the MLflow run of a job that could not do so itself; a run that has ended keeps its status."""
        note = record.read_json(self._folder.path / str(num) / record.TRACKING)
        if self._client is None or note is None or not note.get("run_id"):
            return

        def close() -> None:
            if self._client.get_run(note["run_id"]).info.status == "RUNNING":
                self._client.set_terminated(note["run_id"], status)

        self._try(f"close the run of job {num}", close)

    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Log the sweep's results: the table shown on top of the run, numbers, and files."""
        if self.run_id is None:
            return

        def write() -> None:
            self._client.set_tag(self.run_id, "mlflow.note.content", note[:60_000])
            for name, value in metrics.items():
                self._client.log_metric(self.run_id, name, float(value))
            for path in artifacts:
                if path.is_dir():
                    self._client.log_artifacts(self.run_id, str(path), path.name)
                elif path.is_file():
                    self._client.log_artifact(self.run_id, str(path))

        self._try("log the sweep's results", write)

    def close(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if self.run_id is not None:
            self._try("close the sweep's run", lambda: self._client.set_terminated(self.run_id, status))

    def _try(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("MLflow could not %s: %s. The sweep goes on without it.", what, reason)
            log.debug("tracking failure", exc_info=True)
