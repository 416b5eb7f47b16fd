"""Sweeps through Hydra's other launchers: submitit (SLURM), ray, joblib, and Hydra's own in this process.

A launcher gets a batch of jobs and returns when all have ended. The end of a job is read from its run folder as soon
as it is there; the launcher's answer says only why a record is missing. Timeouts, retries and GPUs are up to the
launcher.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from agnews_exp.config.compose import quoted
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError, first_line
from agnews_exp.core.process import check_terminated, is_gone
from agnews_exp.core.processes import cpu_count
from agnews_exp.sweeps.launcher import Source
from agnews_exp.sweeps.replay import refuse_foreign_settings
from agnews_exp.sweeps.state import BAD_INPUT, SETTLED, Job, SweepFolder, log_path, report_path
from agnews_exp.sweeps.upstream import compose_from
from agnews_exp.tracking import record

if TYPE_CHECKING:
    from agnews_exp.sweeps.session import SweepSession

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_QUEUE_SECONDS = 10.0
"""How often SLURM's queue is asked."""

_QUIET_SECONDS = 20.0
"""How long a batch must be without any sign of life before it counts as gone: file systems and queues lag."""

_EXTRAS = {"hydra_plugins.hydra_submitit_launcher": "submitit", "hydra_plugins.hydra_ray_launcher": "ray"}
_SUBMITTED = ".submitit"


class InFolder:
    """Hydra's task, run in the folder that the sweep was started in where the job's machine has it."""

    def __init__(self, task: TaskFunction, folder: Path) -> None:
        self._task, self._folder = task, folder

    def __call__(self, config: DictConfig) -> Any:
        """Run the task."""
        if self._folder.is_dir():
            os.chdir(self._folder)
        return self._task(config)


def refuse_missing_launcher(config: DictConfig) -> None:
    """Refuse a launcher whose package is not installed."""
    from importlib.util import find_spec

    package = _package(config)
    if package in _EXTRAS and find_spec(package) is None:
        choice = config.hydra.runtime.choices["hydra/launcher"]
        raise MissingDependencyError(
            f"hydra/launcher={choice} needs {package.rpartition('.')[2].replace('_', '-')}.",
            fix=f"pip install 'agnews-exp[{_EXTRAS[package]}]'",
        )


def _package(config: DictConfig) -> str:
    return ".".join(str(config.hydra.launcher["_target_"]).split(".")[:2])


def work_through(
    launcher: Any, session: SweepSession, source: Source, config: DictConfig, context: HydraContext, *, batch: int
) -> None:
    """Run jobs with any Hydra launcher, ``batch`` at once, until the source has none left."""
    compose_from(context, session.folder.snapshots)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(session.folder.path)
    if "submitit_folder" in getattr(launcher, "params", {}):
        launcher.params["submitit_folder"] = str(session.folder.path / _SUBMITTED / "%j")
    if type(launcher).__name__ == "LocalLauncher":  # it starts all that it gets at once
        batch = min(batch, cpu_count())
    with session.begin(source.total):
        while jobs := [job for _ in range(batch) if (job := source.next()) is not None]:
            _Batch(launcher, session, source, config, context).run(jobs)


class _Batch:
    """Some jobs that a launcher gets at once."""

    def __init__(
        self, launcher: Any, session: SweepSession, source: Source, config: DictConfig, context: HydraContext
    ) -> None:
        self._launcher, self._session, self._source = launcher, session, source
        self._config, self._context = config, context
        self._answers: Sequence[JobReturn] = ()
        self._error: Exception | None = None

    def run(self, jobs: Sequence[Job]) -> None:
        """Run the batch and settle each job."""
        valid = [(job, words) for job in jobs if (words := self._composed(job)) is not None]
        if not valid:
            return
        left = [job for job, _ in valid]
        call = threading.Thread(target=self._call, args=([words for _, words in valid], left[0].num), daemon=True)
        try:
            if _package(self._config) in _EXTRAS:
                call.start()
            else:  # it works in this process, which should hear Ctrl-C where the work is
                self._call([words for _, words in valid], left[0].num)
            self._follow(left, call)
        except BaseException:
            _cancel(self._session.folder)
            raise
        places = {job.num: place for place, (job, _) in enumerate(valid)}
        begun = any((self._session.folder.path / str(job.num) / record.STATUS).is_file() for job, _ in valid)
        if self._error is not None and not begun:
            raise ConfigError(f"{type(self._launcher).__name__} started no job: {first_line(self._error)}")
        for job in left:
            self._settle(job, *self._end_of(places[job.num]))

    def _composed(self, job: Job) -> list[str] | None:
        """Note a job's start and return its words; settle one that cannot be composed, which ends a whole batch."""
        self._session.started(job)
        words = self._words(job)
        try:
            self._context.config_loader.load_sweep_config(self._config, words)
            if self._session.foreign:
                refuse_foreign_settings(self._session.job_words(job))
        except (HydraException, OmegaConfBaseException, ConfigError) as error:
            self._settle(job, BAD_INPUT, first_line(error))
            return None
        return words

    def _words(self, job: Job) -> list[str]:
        """Return a job's overrides with its folder and environment, which the launcher carries to wherever it runs."""
        ours = {name: value for name, value in os.environ.items() if name.startswith("AGNEWS_")}
        environment = ours | self._session.environment(job)
        requeued = type(self._launcher).__name__ == "SlurmLauncher"  # a preempted job starts again by itself
        goes_on = requeued or self._session.folder.has_checkpoint(job.num)
        return [
            *job.overrides,
            *(["resume=auto"] if goes_on and not any(w.startswith("resume=") for w in job.overrides) else []),
            f"hydra.sweep.dir={quoted(str(self._session.folder.path))}",
            f"hydra.sweep.subdir={quoted(str(job.num))}",
            *(f"+hydra.job.env_set.{name}={quoted(value)}" for name, value in environment.items()),
        ]

    def _call(self, words: Sequence[Sequence[str]], first: int) -> None:
        try:
            self._answers = self._launcher.launch(words, initial_job_idx=first)
        except Exception as error:
            log.debug("launcher failure", exc_info=True)
            self._error = error

    def _follow(self, left: list[Job], call: threading.Thread) -> None:
        """Settle jobs as their records appear, until the call has ended and nothing is at work any more."""
        queue = SlurmQueue(self._session.folder)
        alive = time.monotonic()
        while left:
            check_terminated()
            for job in [job for job in left if _is_done(self._session.folder, job.num)]:
                left.remove(job)
                self._settle(job, 0, None)
            waiting = call.is_alive() and not queue.has_lost_all()
            if waiting or (self._error is not None and _at_work(self._session.folder, left, queue)):
                alive = time.monotonic()
            elif self._error is None or time.monotonic() - alive > (_QUIET_SECONDS if call.ident else 0):
                return
            time.sleep(_POLL_SECONDS)

    def _end_of(self, place: int) -> tuple[int, str | None]:
        """Return exit code and reason of a job without a finished record."""
        if place < len(self._answers):
            answer = self._answers[place]
            raised = answer._return_value if answer.status is JobStatus.FAILED else None  # its property raises it
            if raised is None:
                return 0, None
            return raised.exit_code if isinstance(raised, AgnewsError) else 1, str(raised) or type(raised).__name__
        said = f" ({first_line(self._error)})" if self._error is not None else ""
        return 1, f"the job ended without a result{said}"

    def _settle(self, job: Job, code: int, reason: str | None) -> None:
        folder = self._session.folder.path
        if reason is not None:
            path = log_path(folder, job.num)
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"error: {reason}\n")
        state = self._session.ended(job, code=code, seconds=_recorded_seconds(folder / str(job.num)))
        self._session.settled(state)
        self._source.done(state)


def _is_done(folder: SweepFolder, num: int) -> bool:
    report = record.read_json(report_path(folder.path, num)) or {}
    return report.get("status") in SETTLED or record.RunFolder(folder.path / str(num)).status == "finished"


def _recorded_seconds(run: Path) -> float | None:
    """Return the wall time between the first and the last entry of a job's record."""
    status = record.read_json(run / record.STATUS) or {}
    if status.get("status") == "running":  # it died: nobody wrote when
        return None
    try:
        started, ended = (datetime.fromisoformat(status[key]) for key in ("started", "updated"))
    except (KeyError, TypeError):
        return None
    return round((ended - started).total_seconds(), 2)


class SlurmQueue:
    """A sweep's jobs in SLURM's queue.

    submitit asks ``sacct``, which on a cluster without accounting knows nothing: a job that was killed would be waited
    for without end.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._asked, self._seen = -_QUEUE_SECONDS, time.monotonic()
        self._queued: set[str] | None = None

    def queued(self) -> set[str] | None:
        """Return the sweep's own jobs that are queued or run; None where there is no SLURM to ask."""
        command = shutil.which("squeue")
        ids = _submitted(self._folder)
        if command is None or not ids:
            return None
        if time.monotonic() - self._asked >= _QUEUE_SECONDS:
            self._asked = time.monotonic()
            words = [command, "--me", "--noheader", "--array", "--format=%i"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
            self._queued = set(done.stdout.split()) & ids if done.returncode == 0 else None
        return self._queued

    def has_lost_all(self) -> bool:
        """Whether none of the sweep's jobs has been in the queue for a while."""
        if self.queued() != set():
            self._seen = time.monotonic()
        return time.monotonic() - self._seen > _QUIET_SECONDS


def _submitted(folder: SweepFolder) -> set[str]:
    """Return the ids of the jobs that submitit has submitted for a sweep: SLURM's, or process ids."""
    return {path.name for path in (folder.path / _SUBMITTED).glob("[0-9]*")}


def _at_work(folder: SweepFolder, jobs: Sequence[Job], queue: SlurmQueue) -> bool:
    return bool(queue.queued()) or any(_process(folder.path / str(job.num)) is not None for job in jobs)


def _process(run: Path) -> int | None:
    """Return the process on this machine that works in a run folder, or None."""
    status, environment = (record.read_json(run / name) for name in (record.STATUS, record.ENVIRONMENT))
    if not status or not environment or status.get("status") != "running":
        return None
    started = datetime.fromisoformat(status["updated"]).timestamp()
    here = environment.get("hostname") == platform.node()
    return int(status["pid"]) if here and not is_gone(int(status["pid"]), started, status.get("born")) else None


def wait_until_gone(folder: SweepFolder, num: int) -> None:
    """Return when nothing of an earlier call works on a job any more; at once where nothing does."""
    queue, told = SlurmQueue(folder), False
    while (pid := _process(folder.path / str(num))) is not None or queue.queued():
        if not told:
            what = f"process {pid}" if pid is not None else "SLURM has jobs of this sweep"
            log.warning("Job %d of an earlier call is still at work (%s): waiting for it. Ctrl-C ends this.", num, what)
            told = True
        time.sleep(_POLL_SECONDS)


def _cancel(folder: SweepFolder) -> None:
    """Cancel what submitit has submitted for a sweep and is still there."""
    if queued := SlurmQueue(folder).queued():
        subprocess.run(["scancel", *queued], check=False, timeout=60)  # noqa: S603, S607
        return
    for place in (folder.path / _SUBMITTED).glob("[0-9]*"):
        if place.name.isdigit() and not is_gone(int(place.name), place.stat().st_mtime):
            with suppress(OSError):
                os.kill(int(place.name), signal.SIGINT)  # what submitit's own cancel sends to a local job
