"""What a run says to MLflow, from opening to closing; raises what MLflow raises."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.tracking import record
from agnews_exp.tracking.job_report import PARENT_RUN, sweep_tags
from agnews_exp.tracking.lightning_bridge import CurveBuffer
from agnews_exp.tracking.mirror import log_record, log_start
from agnews_exp.tracking.store import prepare_store


class OpenRun:
    """One MLflow run in this process: it is the active run while it is open.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.

    Attributes:
        run_id: MLflow's id, or None while it is not open.
        complete: Whether the finished record is completely in MLflow.
    """

    def __init__(
        self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
    ) -> None:
        self._plain, self._folder, self._environment, self._resumed = plain, folder, environment, resumed
        self._settings = plain["tracking"]
        self._curves = CurveBuffer()
        self.run_id: str | None = None
        self.complete = False

    def open(self) -> None:
        """Create the run, or open the one that goes on, and log what is known before any work."""
        mlruns = Path(self._plain["paths"]["mlruns_dir"])
        uri, experiment_id = prepare_store(mlruns, self._settings["uri"], self._settings["experiment"])
        import mlflow

        mlflow.set_tracking_uri(uri)
        # A classical fit is short, and MLflow's page of a comparison opens with whichever metric was logged first.
        asked = self._settings["system_metrics"]
        system = self._plain["model"]["family"] != "classical" if asked is None else bool(asked)
        if system:
            mlflow.set_system_metrics_sampling_interval(  # type: ignore[no-untyped-call]
                self._settings["system_metrics_interval"]
            )
            logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        # Host and pid go in with the run itself: a process that dies right after still leaves a run that can be closed.
        own = {"host": self._environment["hostname"], "pid": str(self._environment["pid"])}
        if (earlier := self._earlier_run()) is not None:
            run = mlflow.start_run(run_id=earlier, log_system_metrics=system)
            mlflow.set_tags(own | {"resumed": str(int(time.time() * 1000))})
            self.run_id = run.info.run_id
            return
        run = mlflow.start_run(run_id=self._create(experiment_id, own), log_system_metrics=system)
        self.run_id = run.info.run_id
        self._note()
        log_start(self.run_id, self._plain, self._environment, self._folder)

    def _create(self, experiment_id: str, tags: Mapping[str, str]) -> str:
        """Create the MLflow run as begun when this run began, which ``mlflow.start_run`` cannot; return its id."""
        from mlflow.tracking import MlflowClient
        from mlflow.tracking.context.registry import resolve_tags
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        parent = os.environ.get(PARENT_RUN)
        nested = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        created = MlflowClient().create_run(
            experiment_id,
            start_time=record.RunFolder(self._folder).started_ms,
            run_name=self._plain["name"],
            tags=resolve_tags({**sweep_tags(), **tags, **nested}),  # user, program and commit, as start_run has them
        )
        return str(created.info.run_id)

    def opened(self) -> str | None:
        """Return the run's id; it is open when :meth:`open` has returned."""
        return self.run_id

    def _earlier_run(self) -> str | None:
        """Return the MLflow run of the run that is resumed, if this store has it."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        note = record.read_json(self._folder / record.TRACKING) if self._resumed else None
        if not note or not note.get("run_id"):
            return None
        try:
            return str(MlflowClient().get_run(str(note["run_id"])).info.run_id)
        except MlflowException:
            return None

    def _note(self) -> None:
        content = {"run_id": self.run_id, "complete": self.complete, "experiment": self._settings["experiment"]}
        record.write_json(self._folder / record.TRACKING, content)

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take a point of some training curves; never raises."""
        if self.run_id is not None:
            self._curves.add(self.run_id, values, step, timestamp_ms)

    def mirror(self) -> None:
        """Log the finished record."""
        if self.run_id is None:
            return
        self._curves.flush()
        log_record(self.run_id, self._folder, with_model=bool(self._settings["log_model"]))
        self.complete = True
        self._note()

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """End the run.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.
        """
        if "mlflow" not in sys.modules:
            return
        import mlflow

        self._curves.flush()
        if mlflow.active_run() is None:
            return
        if pruned is not None:
            step, value = pruned
            mlflow.set_tags({"pruned": "true", "pruned.step": str(step)})
            primary = str(self._plain["evaluation"]["primary"]).replace("/", "_")
            mlflow.log_metric(f"pruned/{primary}", value, step=step)
        # A signal that came while the last of a finished record was logged changes nothing about the run.
        mlflow.end_run("FINISHED" if self.complete else status)
