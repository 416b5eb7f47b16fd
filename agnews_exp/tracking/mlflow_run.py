"""One MLflow run from start to end: opened by us, closed by us, on every way out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agnews_exp.config.entry import Terminated, find_os_error
from agnews_exp.config.errors import Pruned
from agnews_exp.tracking import record
from agnews_exp.tracking.job_report import PARENT_RUN, sweep_tags
from agnews_exp.tracking.lightning_bridge import CurveBuffer
from agnews_exp.tracking.mirror import log_record, log_start
from agnews_exp.tracking.store import prepare_store, release_reserve

log = logging.getLogger(__name__)


class MlflowRun:
    """Context manager around a run; a tracker that fails costs a warning, never the run.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.

    Attributes:
        run_id: MLflow's id, or None while nothing is tracked.
    """

    def __init__(
        self,
        plain: Mapping[str, Any],
        folder: record.RunFolder,
        environment: Mapping[str, Any],
        *,
        resumed: bool = False,
    ) -> None:
        self._plain = plain
        self._settings = plain["tracking"]
        self._folder = folder
        self._environment = environment
        self._mlruns = Path(plain["paths"]["mlruns_dir"])
        self._complete = False
        self.run_id: str | None = None
        self.warning: str | None = None
        self._curves = CurveBuffer()
        self._resumed = resumed

    def __enter__(self) -> Self:
        if self._settings["enabled"]:
            try:
                self._try("open the run", self._open)
            except BaseException:
                # A signal while it opens: __exit__ will not be called, and MLflow would call the run FINISHED at exit.
                self._try("close the run", _kill_active)
                raise
        return self

    def _open(self) -> None:
        uri, experiment_id = prepare_store(self._mlruns, self._settings["uri"], self._settings["experiment"])
        import mlflow

        mlflow.set_tracking_uri(uri)
        system = bool(self._settings["system_metrics"])
        if system:
            mlflow.set_system_metrics_sampling_interval(  # type: ignore[no-untyped-call]
                self._settings["system_metrics_interval"]
            )
            logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        # Host and pid go in with the run itself: a process that dies right after still leaves a run that can be closed.
        if (earlier := self._earlier_run()) is not None:
            run = mlflow.start_run(run_id=earlier, log_system_metrics=system)
            tags = {"host": self._environment["hostname"], "pid": str(self._environment["pid"])}
            mlflow.set_tags(tags | {"resumed": str(int(time.time() * 1000))})
            self.run_id = run.info.run_id
            return
        run = mlflow.start_run(
            experiment_id=experiment_id,
            run_name=self._plain["name"],
            log_system_metrics=system,
            parent_run_id=os.environ.get(PARENT_RUN) or None,
            tags=sweep_tags() | {"host": self._environment["hostname"], "pid": str(self._environment["pid"])},
        )
        self.run_id = run.info.run_id
        self._note()
        log_start(self.run_id, self._plain, self._environment, self._folder.path)

    def _earlier_run(self) -> str | None:
        """Return the MLflow run of the run that is resumed, if this store has it."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        note = record.read_json(self._folder.path / record.TRACKING) if self._resumed else None
        if not note or not note.get("run_id"):
            return None
        try:
            return str(MlflowClient().get_run(str(note["run_id"])).info.run_id)
        except MlflowException:
            return None

    def _note(self) -> None:
        content = {
            "run_id": self.run_id,
            "complete": self._complete,
            "experiment": self._settings["experiment"],
        }
        record.write_json(self._folder.path / record.TRACKING, content)

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take a point of some training curves; never raises."""
        if self.run_id is not None:
            self._curves.add(self.run_id, values, step, timestamp_ms)

    def log_finished(self) -> None:
        """Mirror the finished record: metrics, tags, artifacts, model."""
        if self.run_id is None:
            return

        def mirror() -> None:
            assert self.run_id is not None
            self._curves.flush()
            log_record(self.run_id, self._folder.path, with_model=bool(self._settings["log_model"]))
            self._complete = True
            self._note()

        self._try("log the results", mirror)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self.run_id is None:
            return
        if find_os_error(error) is not None:
            release_reserve(self._mlruns)
        killed = isinstance(error, KeyboardInterrupt | Terminated | Pruned)
        status = "KILLED" if killed else "FAILED" if error is not None else "FINISHED"

        def close() -> None:
            import mlflow

            self._curves.flush()
            mlflow.end_run(status)

        self._try("close the run", close)

    def _try(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            if isinstance(error, OSError) or find_os_error(error) is not None:
                release_reserve(self._mlruns)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warning = f"MLflow could not {what}: {reason}"
            log.warning("%s. The run's record is complete without it; log it later with: agnews sync", self.warning)
            log.debug("tracking failure", exc_info=True)


def _kill_active() -> None:
    import mlflow

    if mlflow.active_run() is not None:
        mlflow.end_run("KILLED")
