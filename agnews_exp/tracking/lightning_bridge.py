"""Training curves on their way to MLflow: in bundles, into the run that is already open, and never in the way.

Lightning's own MLflow logger would open a run of its own, end it before the test, and stop the training when the
server is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.config.locations import HISTORY

log = logging.getLogger(__name__)

_BUNDLE = 500
_SECONDS = 5.0
_TRIES = 3


class CurveBuffer:
    """Collects points and sends them every few seconds.

    After three failures in a row it gives up with one warning: the points are in the run folder, and `agnews sync`
    sends them again.
    """

    def __init__(self) -> None:
        self._points: list[Any] = []
        self._run_id = ""
        self._sent = time.monotonic()
        self._failures = 0

    def add(self, run_id: str, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take one point of every curve.

        Args:
            run_id: The open MLflow run.
            values: Numbers by name.
            step: Optimiser step.
            timestamp_ms: When, in milliseconds since 1970.
        """
        if self._failures >= _TRIES:
            return
        from mlflow.entities import Metric

        self._run_id = run_id
        self._points += [Metric(name, value, timestamp_ms, step) for name, value in values.items()]
        if len(self._points) >= _BUNDLE or time.monotonic() - self._sent >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what has been collected; never raises."""
        if not self._points or self._failures >= _TRIES:
            return
        self._sent = time.monotonic()
        try:
            _send(self._run_id, self._points)
        except Exception as error:
            self._failures += 1
            if self._failures == _TRIES:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("Training curves do not reach MLflow (%s); log them later with: agnews sync", reason)
            return
        self._failures = 0
        self._points = []


def replay_history(run_id: str, folder: Path) -> None:
    """Send all points of a run folder; those that MLflow has already are not doubled (same step and time)."""
    import json

    from mlflow.entities import Metric

    path = folder / HISTORY
    if not path.is_file():
        return
    points: list[Any] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            step, timestamp = int(values.pop("step")), int(values.pop("time"))
        except (ValueError, KeyError):
            continue  # the last line of a killed run may be cut
        points += [Metric(name, float(value), timestamp, step) for name, value in values.items()]
    _send(run_id, points)


def _send(run_id: str, points: list[Any]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    for start in range(0, len(points), _BUNDLE):
        client.log_batch(run_id, metrics=points[start : start + _BUNDLE])
