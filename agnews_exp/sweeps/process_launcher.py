"""`hydra/launcher=process`: every job in a process of its own, several at once, none able to end the sweep."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from agnews_exp.config.entry import LESS_MEMORY, explain_exit
from agnews_exp.config.errors import ConfigError, ResourceError
from agnews_exp.sweeps import jobs as job_files
from agnews_exp.sweeps.jobs import Job, JobState

if TYPE_CHECKING:
    from agnews_exp.sweeps.session import SweepSession


class Source(Protocol):
    """Where jobs come from: a grid's list, or a search that decides as results arrive."""

    @property
    def total(self) -> int:
        """How many jobs there are in all, those of earlier calls included."""

    def next(self) -> Job | None:
        """Return the next job, or None when there is none (yet)."""

    def done(self, state: JobState) -> None:
        """Take the last state of a job."""


class JobList:
    """A grid's jobs.

    Args:
        jobs: Those that still have to run.
        total: How many the grid has in all.
    """

    def __init__(self, jobs: Sequence[Job], total: int) -> None:
        self.total = total
        self._jobs = deque(jobs)

    def next(self) -> Job | None:
        """Return the next job."""
        return self._jobs.popleft() if self._jobs else None

    def done(self, state: JobState) -> None:
        """Take a state: a grid does not depend on results."""


class ProcessLauncher(Launcher):
    """Runs every job in a child process.

    Args:
        n_jobs: How many run at once.
        timeout: Seconds that a job may take; null for no limit. Then SIGTERM, and ten seconds later SIGKILL.
        retries: How often a job is started again that crashed or ran out of time; bad input is not repeated.
        on_failure: ``continue`` with the other jobs, or ``stop``: start none after a failure (running ones end).
        gpus_per_job: GPUs that each job gets through CUDA_VISIBLE_DEVICES; 0 leaves the choice to the job.
        jobs_per_gpu: How many jobs may share a GPU.
        gpus: Device names; null takes those that are visible.
        threads_per_job: CPU threads of a job; null divides the cores by ``n_jobs``.
        start: ``warm`` forks jobs from a process that has the imports done, ``fresh`` gives each an interpreter;
            ``auto`` is warm, except where the command's model is a transformer (those are always fresh).
    """

    def __init__(
        self,
        n_jobs: int = 1,
        timeout: float | None = None,
        retries: int = 0,
        on_failure: str = "continue",
        gpus_per_job: int = 0,
        jobs_per_gpu: int = 1,
        gpus: Sequence[str] | None = None,
        threads_per_job: int | None = None,
        start: str = "auto",
    ) -> None:
        for name, value, low in (
            ("n_jobs", n_jobs, 1), ("retries", retries, 0), ("gpus_per_job", gpus_per_job, 0),
            ("jobs_per_gpu", jobs_per_gpu, 1), ("threads_per_job", threads_per_job, 1),
        ):  # fmt: skip
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
                raise ConfigError(f"hydra.launcher.{name}={value!r}: a whole number of at least {low} is needed.")
        if timeout is not None and (not isinstance(timeout, int | float) or timeout <= 0):
            raise ConfigError(f"hydra.launcher.timeout={timeout!r}: seconds above 0 are needed, or null.")
        for name, word, allowed in (
            ("on_failure", on_failure, ("continue", "stop")), ("start", start, ("auto", "warm", "fresh")),
        ):  # fmt: skip
            if word not in allowed:
                raise ConfigError(f"hydra.launcher.{name}={word!r}\n  allowed: {', '.join(allowed)}")
        self.n_jobs, self.timeout, self.retries, self.on_failure = n_jobs, timeout, retries, on_failure
        self.gpus_per_job, self.jobs_per_gpu, self.gpus = gpus_per_job, jobs_per_gpu, gpus
        self.threads_per_job, self.start = threads_per_job, start
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the command's config."""
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse: this launcher works for our sweepers, which see every job end as it ends."""
        raise ConfigError(
            "hydra/launcher=process needs one of our sweepers.",
            fix="hydra/sweeper=grid or hydra/sweeper=optuna; or hydra/launcher=basic for another sweeper",
        )

    def work(self, session: SweepSession, source: Source, check: Sequence[Job] = ()) -> None:
        """Run jobs until the source has none left.

        Args:
            session: The sweep.
            source: Where jobs come from.
            check: Jobs of which at least one must have a valid configuration, or nothing is started.

        Raises:
            ConfigError: No configuration of ``check`` is valid.
        """
        from agnews_exp.sweeps.devices import GpuSlots, thread_environment, thread_limit
        from agnews_exp.sweeps.pool import JobPool

        slots = GpuSlots(self.gpus, self.gpus_per_job, self.jobs_per_gpu)
        workers = min(self.n_jobs, slots.capacity or self.n_jobs)
        limit = thread_limit(workers, self.threads_per_job)
        threads = thread_environment(limit) if workers > 1 or self.threads_per_job else {}
        fresh = self.start == "fresh" or (self.start == "auto" and session.plain["model"]["family"] != "classical")
        assert session.folder.lock is not None
        log = job_files.log_path(session.folder.path, 0).with_name("server.log")
        with JobPool(warm=not fresh, environment=threads, keep_open=[session.folder.lock], log=log) as pool:
            table = session.begin(source.total)
            _refuse_hopeless(session, pool, check)
            more = self._more_words(session, limit if threads else None)
            with table:
                self._loop(session, source, pool, slots, workers, more, fresh)

    def _more_words(self, session: SweepSession, limit: int | None) -> list[str]:
        """Keep a job's own thread pools within its share, unless the command says how many it may have."""
        set_already = any(w.lstrip("+").startswith("trainer.n_jobs=") for w in session.words)
        return [] if limit is None or set_already else [f"trainer.n_jobs={limit}"]

    def _loop(
        self, session: SweepSession, source: Source, pool: Any, slots: Any, workers: int, more: list[str], fresh: bool
    ) -> None:
        again: deque[Job] = deque()
        jobs: dict[int, Job] = {}
        attempts: dict[int, int] = {}
        stopping = False
        while True:
            while len(pool.running) < workers and slots.available and not stopping:
                job = again.popleft() if again else source.next()
                if job is None:
                    break
                jobs[job.num] = job
                attempts[job.num] = attempts.get(job.num, 0) + 1
                session.started(job)
                pool.start(
                    job.num,
                    session.job_words(job, more),
                    session.environment(job) | slots.take(job.num),
                    job_files.log_path(session.folder.path, job.num),
                    timeout=self.timeout,
                    fresh=fresh,
                )
            if not pool.running:
                return
            for ended in pool.wait(0.5):
                slots.give_back(ended.num)
                job = jobs[ended.num]
                state = session.ended(
                    job,
                    code=ended.code,
                    seconds=ended.seconds,
                    max_rss_mb=ended.max_rss_mb,
                    timed_out=ended.timed_out,
                )
                failed = state.status not in job_files.SETTLED
                if failed and ended.code != job_files.BAD_INPUT and attempts[job.num] <= self.retries:
                    again.append(job)
                    continue
                session.settled(state)
                source.done(state)
                stopping = stopping or (failed and self.on_failure == "stop")


def _refuse_hopeless(session: SweepSession, pool: Any, jobs: Sequence[Job]) -> None:
    """Raise when no job's configuration is valid: that is one mistake, not many failures."""
    first = ""
    for job in jobs:
        log = job_files.log_path(session.folder.path, job.num).with_name("check.log")
        log.unlink(missing_ok=True)
        code = pool.check(session.job_words(job), log)
        if code == 0:
            return
        if not log.is_file():
            raise _server_ended(code, log.with_name("server.log"))
        if code < 0:
            raise ResourceError(
                f"The process that checks the jobs' configuration: {explain_exit(code)}.",
                fix=f"repeat the command; where memory is short, ask for less ({LESS_MEMORY})",
            )
        first = first or log.read_text(encoding="utf-8", errors="replace").strip()
    if jobs:
        raise ConfigError(f"None of the {len(jobs)} jobs has a valid configuration. Job #{jobs[0].num}:\n{first}")


def _server_ended(code: int, log: Path) -> ResourceError:
    """Build the error for a job server that did not live to start its first process."""
    said = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
    last = said.splitlines()[-1][:300] if said else explain_exit(code)
    return ResourceError(
        f"The process that starts the jobs could not begin: {last}",
        fix=f"give it more memory (ulimit -v), or see {log}; hydra.launcher.start=fresh needs less at the beginning",
    )
