"""A run's MLflow side in a process of its own, so that the run need not wait for it.

Importing MLflow and opening its store take longer than many classical fits. Beside the run they cost it nothing, and
its own imports and warnings stay apart from MLflow's. When the run dies, its end of the pipe closes, and this process
does what it has been asked for, closes what is still open as KILLED, and goes too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from agnews_exp.tracking.tracker_pipe import ORPHAN_SECONDS, TrackerPipe

MODULE = "agnews_exp.tracking.tracking_process"


class TrackingProcess:
    """Stands for an :class:`agnews_exp.tracking.open_run.OpenRun` in another process.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.
    """

    def __init__(
        self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
    ) -> None:
        self._setup = run_setup(plain, folder, environment, resumed=resumed)
        self._pipe = TrackerPipe(MODULE)

    def open(self) -> None:
        """Start the process and let it open the run; returns at once."""
        self._pipe.send("open", **self._setup)

    def opened(self) -> str | None:
        """Wait until the run is open and return its id.

        Raises:
            TrackingFailure: It could not be opened.
        """
        return str(self._pipe.answer(1)) if self._pipe.started else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Classical models have no training curves."""
        raise NotImplementedError

    def mirror(self) -> None:
        """Log the finished record and wait for it.

        Raises:
            TrackingFailure: It could not be logged.
        """
        self._pipe.answer(self._pipe.send("mirror"))

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """End the run and the process.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.

        Raises:
            TrackingFailure: The run could not be ended.
        """
        if not self._pipe.started:
            return
        try:
            self._pipe.answer(self._pipe.send("close", status=status, pruned=pruned))
        finally:
            self._pipe.stop()


def run_setup(
    plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
) -> dict[str, Any]:
    """Return what the request ``open`` says of a run."""
    setup = {"plain": plain, "folder": str(folder.resolve()), "environment": environment, "resumed": resumed}
    return {**setup, "argv": sys.argv}


class Tracker:
    """Does in the tracking process what a run asks for; every method that is no private one is a request."""

    last: ClassVar[str] = "close"
    """The request after which the process ends."""

    def __init__(self) -> None:
        from agnews_exp.tracking.open_run import OpenRun

        self._make = OpenRun
        self._run: OpenRun | None = None

    def open(
        self,
        *,
        plain: Mapping[str, Any],
        folder: str,
        environment: Mapping[str, Any],
        resumed: bool,
        argv: list[str],
    ) -> str | None:
        """Open the run and return its id."""
        sys.argv = argv  # MLflow tags the run with the program's name
        self._run = self._make(plain, Path(folder), environment, resumed=resumed)
        self._run.open()
        return self._run.run_id

    def mirror(self) -> None:
        """Log the finished record."""
        if self._run is not None:
            self._run.mirror()

    def close(self, *, status: str, pruned: list[Any] | None) -> None:
        """End the run."""
        if self._run is not None:
            self._run.close(status, (pruned[0], pruned[1]) if pruned else None)

    def abandoned(self) -> None:
        """End what is still open as KILLED: whoever asked has gone without a word."""
        if self._run is not None:
            with suppress(Exception):
                self._run.close("KILLED")


def serve(tracker: Tracker, requests: BinaryIO, answers: int) -> None:
    """Do what is asked for, one request a line, until the last one.

    When whoever asks is gone, what was asked for before is done still, for ``ORPHAN_SECONDS``: a killed sweep's jobs
    have finished before MLflow was told of them.
    """
    from agnews_exp.tracking.store import is_of_storage

    orphaned: float | None = None
    try:
        for line in requests:
            if orphaned is not None and time.monotonic() - orphaned > ORPHAN_SECONDS:
                return
            asked = json.loads(line)
            request = str(asked.pop("request"))
            answer: dict[str, Any] = {"error": None, "storage": False, "value": None}
            try:
                answer["value"] = getattr(tracker, request)(**asked)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                answer |= {"error": reason, "storage": is_of_storage(error)}
            try:
                os.write(answers, json.dumps(answer).encode() + b"\n")
            except BrokenPipeError:
                orphaned = time.monotonic() if orphaned is None else orphaned
            if request == tracker.last:
                return
    finally:
        # Perhaps before the run was open; after a proper end this changes nothing.
        tracker.abandoned()


def answer_requests(make: type[Tracker]) -> None:
    """Be the tracking process: read requests from standard input, answer on standard output, end with the process.

    Args:
        make: Makes the one who answers.
    """
    # Whatever ends the run is the run's to tell; without it the pipe closes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from agnews_exp.config.garbage import calm_garbage_collection

    calm_garbage_collection()
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever MLflow prints must not end up among the answers
    code = 1
    try:
        serve(make(), os.fdopen(requests, "rb"), answers)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # No exit handlers: MLflow's would call a run FINISHED whose process is gone.
        os._exit(code)


if __name__ == "__main__":
    answer_requests(Tracker)
