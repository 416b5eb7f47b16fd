"""What a sweep says to MLflow about itself and its jobs; raises what MLflow raises."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.tracking import record
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
