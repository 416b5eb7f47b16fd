"""One MLflow run from start to end: opened by us, closed by us, on every way out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agnews_exp.config.entry import Terminated, find_os_error
from agnews_exp.config.errors import Pruned
from agnews_exp.tracking import record
from agnews_exp.tracking.open_run import OpenRun
from agnews_exp.tracking.shared_tracker import SharedRun, shared_tracker
from agnews_exp.tracking.store import is_of_storage, release_reserve
from agnews_exp.tracking.tracker_pipe import TrackingFailure
from agnews_exp.tracking.tracking_process import TrackingProcess

log = logging.getLogger(__name__)


class MlflowRun:
    """Context manager around a run; a tracker that fails costs a warning, never the run.

    The run of a classical model is tracked by another process, unless MLflow is imported already (in a sweep's job that
    has a process to itself): it is open soon after the block is entered, and nobody waits for that. The jobs that a
    sweep runs in its own process share one such process, and do not wait for their end in MLflow either.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.

    Attributes:
        warning: What MLflow could not do, for the summary; None when all went well.
    """

    def __init__(
        self,
        plain: Mapping[str, Any],
        folder: record.RunFolder,
        environment: Mapping[str, Any],
        *,
        resumed: bool = False,
    ) -> None:
        self._enabled = bool(plain["tracking"]["enabled"])
        self._mlruns = Path(plain["paths"]["mlruns_dir"])
        self._run = _backend(plain, folder.path, environment, resumed=resumed)
        self._is_open = False
        self.warning: str | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            try:
                self._is_open = self._try("open the run", self._run.open)
            except BaseException:
                # A signal while it opens: __exit__ will not be called, and MLflow would call the run FINISHED at exit.
                self._try("close the run", lambda: self._run.close("KILLED"))
                raise
        return self

    @property
    def run_id(self) -> str | None:
        """MLflow's id, when the run is open; None when nothing is tracked."""
        found: list[str | None] = []
        if self._is_open:
            self._is_open = self._try("open the run", lambda: found.append(self._run.opened()))
        return found[0] if found else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take a point of some training curves; never raises."""
        if self._is_open:
            self._run.log_curves(values, step, timestamp_ms)

    def log_finished(self) -> None:
        """Mirror the finished record: metrics, tags, artifacts, model."""
        if self._is_open and (isinstance(self._run, SharedRun) or self.run_id is not None):
            self._try("log the results", self._run.mirror)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._enabled:
            return
        if find_os_error(error) is not None:
            release_reserve(self._mlruns)
        killed = isinstance(error, KeyboardInterrupt | Terminated)
        # MLflow knows no PRUNED. Such a run ended as it was decided: FINISHED, as Optuna's own callback has it, and
        # tags say how far it came.
        good = error is None or isinstance(error, Pruned)
        status = "KILLED" if killed else "FINISHED" if good else "FAILED"
        pruned = (error.step, error.value) if isinstance(error, Pruned) else None
        self._try("close the run", lambda: self._run.close(status, pruned))

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        """Do it; return whether it went well, and warn when not."""
        try:
            action()
        except Exception as error:
            if error.storage if isinstance(error, TrackingFailure) else is_of_storage(error):
                release_reserve(self._mlruns)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warning = f"MLflow could not {what}: {reason}"
            log.warning("%s. The run's record is complete without it; log it later with: agnews sync", self.warning)
            log.debug("tracking failure", exc_info=True)
            return False
        return True


def _backend(
    plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
) -> OpenRun | TrackingProcess | SharedRun:
    """Return who speaks to MLflow for this run."""
    classical, shared = plain["model"]["family"] == "classical", shared_tracker()
    if shared is not None and classical:
        return SharedRun(shared, plain, folder, environment, resumed=resumed)
    if shared is not None:
        shared.announce_parent()
    backend = TrackingProcess if classical and "mlflow" not in sys.modules else OpenRun
    return backend(plain, folder, environment, resumed=resumed)
