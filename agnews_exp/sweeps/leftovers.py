"""Jobs that outlive the call that started them: on a cluster, or in a worker process that nobody ended.

A repeat of the sweep's command must neither run such a job a second time nor tidy up under its feet, so it waits.
"""

from __future__ import annotations

import logging
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import MissingDependencyError
from agnews_exp.tracking import record
from agnews_exp.tracking.sync import is_gone

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_ASK_SECONDS = 10.0
_MISSING_SECONDS = 20.0
"""How long a job must be missing from SLURM's queue before it counts as gone; file systems and queues lag."""


class SlurmQueue:
    """What SLURM's queue says, asked every ten seconds at most.

    submitit asks ``sacct``, which on a cluster without accounting knows nothing: a job that was killed would be waited
    for without end.
    """

    def __init__(self) -> None:
        self._asked = -_ASK_SECONDS
        self._ids: set[str] | None = None
        self._missing: dict[str, float] = {}

    def has_lost(self, job_id: str) -> bool:
        """Return whether a job has been missing from the queue for a while.

        Args:
            job_id: SLURM's id, such as ``17`` or ``17_3``.
        """
        now = time.monotonic()
        if now - self._asked >= _ASK_SECONDS:
            self._ids, self._asked = self._ask(), now
        if self._ids is None or job_id in self._ids:
            self._missing.pop(job_id, None)
            return False
        return now - self._missing.setdefault(job_id, now) >= _MISSING_SECONDS

    @staticmethod
    def _ask() -> set[str] | None:
        """Return the ids of the user's jobs that are queued or run; None when there is no answer."""
        command = shutil.which("squeue")
        if command is None:
            return None
        words = [command, "--me", "--noheader", "--array", "--format=%i"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        return set(done.stdout.split()) if done.returncode == 0 else None


def note_path(folder: Path, num: int) -> Path:
    """Return where the scheduler's id of a job is kept while it is queued or runs.

    Args:
        folder: The sweep's folder.
        num: The job's number.
    """
    return folder / "jobs" / f"{num}.submitted.json"


def wait_until_gone(folder: Path, num: int) -> None:
    """Return when nothing of an earlier call works on a job any more; at once where nothing does.

    Args:
        folder: The sweep's folder.
        num: The job's number.

    Raises:
        MissingDependencyError: The job is SLURM's, and submitit is not installed.
    """
    found = _submitted(folder, num) or _process(folder / str(num))
    if found is None:
        return
    what, at_work = found
    told = False
    while at_work():
        if not told:
            log.warning("Job %d of an earlier call is still at work (%s): waiting for it. Ctrl-C ends this.", num, what)
            told = True
        time.sleep(_POLL_SECONDS)
    note_path(folder, num).unlink(missing_ok=True)


def _submitted(folder: Path, num: int) -> tuple[str, Callable[[], bool]] | None:
    note = record.read_json(note_path(folder, num))
    if note is None:
        return None
    if note["cluster"] == "slurm":
        return f"SLURM job {note['id']}", _slurm_watch(note)
    if note["host"] != platform.node():
        return None
    return f"submitit process {note['id']}", lambda: not is_gone(int(note["id"]), float(note["submitted"]))


def _slurm_watch(note: dict[str, Any]) -> Callable[[], bool]:
    try:
        from submitit import SlurmJob
    except ImportError as error:
        raise MissingDependencyError(
            f"SLURM job {note['id']} of an earlier call may still run, and submitit, which knows, is not installed.",
            fix="pip install 'agnews-exp[submitit]'",
        ) from error
    job: Any = SlurmJob(folder=note["folder"], job_id=note["id"])
    queue = SlurmQueue()
    return lambda: not job.done() and not queue.has_lost(note["id"])


def _process(run: Path) -> tuple[str, Callable[[], bool]] | None:
    """Look for a process on this machine that says it works in a run folder."""
    status, environment = (record.read_json(run / name) for name in (record.STATUS, record.ENVIRONMENT))
    if not status or not environment or status.get("status") != "running":
        return None
    if environment.get("hostname") != platform.node():
        return None
    pid, started = int(status["pid"]), datetime.fromisoformat(status["updated"]).timestamp()
    # A worker may live on after the job's end, so the job's own status counts too.
    return f"process {pid}", lambda: record.RunFolder(run).status == "running" and not is_gone(pid, started)
