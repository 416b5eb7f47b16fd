"""The tracking process of a sweep that runs its jobs in its own process: parent run and jobs, one request at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.folder import SweepFolder
from agnews_exp.sweeps.open_parent import OpenParent
from agnews_exp.tracking.job_report import NAMES, PARENT_RUN
from agnews_exp.tracking.tracking_process import Tracker, answer_requests


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
            job: The variables that make a run a job of a sweep, as :mod:`agnews_exp.tracking.job_report` has them.
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
