"""`hydra/launcher=process`: every job in a child process of its own, several at once, none able to end the sweep."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from agnews_exp.core.errors import ConfigError, ResourceError
from agnews_exp.core.process import LESS_MEMORY, explain_exit
from agnews_exp.core.processes import GRACE_SECONDS, Child, WarmProcesses, cpu_count, visible_gpus
from agnews_exp.sweeps.job import NEEDS_FRESH, check_job, run_job
from agnews_exp.sweeps.state import BAD_INPUT, SETTLED, Job, JobState, log_path

if TYPE_CHECKING:
    from agnews_exp.sweeps.session import SweepSession

_POLL_SECONDS = 0.5
_CHECK_SECONDS = 300.0

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def thread_limit(n_jobs: int, threads_per_job: int | None) -> int:
    """Return how many threads each of ``n_jobs`` parallel jobs may use."""
    return threads_per_job or max(1, cpu_count() // n_jobs)


def thread_environment(limit: int) -> dict[str, str]:
    """Return the environment that keeps numerical libraries to ``limit`` threads; the user's own settings win."""
    return {name: str(limit) for name in _THREAD_VARIABLES if name not in os.environ}


class GpuSlots:
    """Hands GPUs to jobs so that no GPU has more jobs than allowed.

    Devices are named as CUDA_VISIBLE_DEVICES takes them (None looks for them), which 0 GPUs a job leave alone.

    Raises:
        ConfigError: A job wants more GPUs than there are.
    """

    def __init__(self, gpus: Sequence[str] | None, gpus_per_job: int, jobs_per_gpu: int) -> None:
        self._per_job = gpus_per_job
        self._held: dict[int, list[str]] = {}
        if gpus_per_job == 0:
            self._free: dict[str, int] = {}
            return
        names = [str(g) for g in gpus] if gpus is not None else visible_gpus()
        if len(names) < gpus_per_job:
            raise ConfigError(
                f"hydra.launcher.gpus_per_job={gpus_per_job}, but {len(names)} GPUs are visible.",
                fix="lower it (0: jobs choose by themselves), or name the devices: hydra.launcher.gpus=[0,1]",
            )
        self._free = dict.fromkeys(names, jobs_per_gpu)

    @property
    def capacity(self) -> int | None:
        """How many jobs fit at once; None without a limit."""
        return sum(self._free.values()) // self._per_job if self._per_job else None

    @property
    def available(self) -> bool:
        """Whether GPUs for one more job are free."""
        return sum(n > 0 for n in self._free.values()) >= self._per_job

    def take(self, num: int) -> dict[str, str]:
        """Give a job its GPUs, the least used first; returns its environment."""
        if not self._per_job:
            return {}
        chosen = sorted(self._free, key=lambda g: -self._free[g])[: self._per_job]
        for gpu in chosen:
            self._free[gpu] -= 1
        self._held[num] = chosen
        return self.held(num)

    def held(self, num: int) -> dict[str, str]:
        """Return the environment that :meth:`take` gave a job."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self._held[num])} if num in self._held else {}

    def give_back(self, num: int) -> None:
        """Take a job's GPUs back."""
        for gpu in self._held.pop(num, []):
            self._free[gpu] += 1


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
    """The jobs of a grid that still have to run, in order, of ``total``."""

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

    ``conf/hydra/launcher/process.yaml`` describes the arguments.
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
            ("on_failure", on_failure, ("continue", "stop")), ("start", start, ("auto", "fresh")),
        ):  # fmt: skip
            if word not in allowed:
                raise ConfigError(f"hydra.launcher.{name}={word!r}\n  allowed: {', '.join(allowed)}")
        self.n_jobs, self.timeout, self.retries, self.on_failure = n_jobs, timeout, retries, on_failure
        self.gpus_per_job, self.jobs_per_gpu, self.gpus = gpus_per_job, jobs_per_gpu, gpus
        self.threads_per_job, self.start = threads_per_job, start

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take nothing: the session has the command's config."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse: this launcher works for our sweepers, which see every job end as it ends."""
        raise ConfigError(
            "hydra/launcher=process needs one of our sweepers.",
            fix="hydra/sweeper=grid or hydra/sweeper=optuna; or hydra/launcher=basic for another sweeper",
        )

    def work(self, session: SweepSession, source: Source, check: Sequence[Job] = ()) -> None:
        """Run jobs until the source has none left; at least one of ``check`` must have a valid configuration.

        Raises:
            ConfigError: No configuration of ``check`` is valid.
        """
        slots = GpuSlots(self.gpus, self.gpus_per_job, self.jobs_per_gpu)
        workers = min(self.n_jobs, slots.capacity or self.n_jobs)
        limit = thread_limit(workers, self.threads_per_job)
        threads = thread_environment(limit) if workers > 1 or self.threads_per_job else {}
        classical = session.plain["model"]["family"] == "classical"
        preload = ["agnews_exp.sweeps.warm"] if self.start == "auto" and classical else []
        with WarmProcesses(preload, threads) as processes:
            table = session.begin(source.total)
            _refuse_hopeless(session, processes, check)
            own = any(word.lstrip("+").startswith("trainer.n_jobs=") for word in session.words)
            more = [f"trainer.n_jobs={limit}"] if threads and not own else []
            with table:
                _Work(self, session, source, processes, slots, workers, more, warm=bool(preload)).run()


@dataclass
class _Attempt:
    """One attempt of a job that is running."""

    job: Job  # the job
    child: Child  # its process
    fresh: bool  # whether that is an interpreter of its own
    timed_out: bool = False  # whether it was ended because its time is up

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.child.started


class _Work:
    """The loop of :meth:`ProcessLauncher.work`: starts jobs while there is room, and settles those that have ended."""

    def __init__(
        self,
        launcher: ProcessLauncher,
        session: SweepSession,
        source: Source,
        processes: WarmProcesses,
        slots: GpuSlots,
        workers: int,
        more: Sequence[str],
        *,
        warm: bool,
    ) -> None:
        self._launcher, self._session, self._source, self._processes = launcher, session, source, processes
        self._slots, self._workers, self._more, self._warm = slots, workers, more, warm
        self._again: deque[Job] = deque()
        self._attempts: dict[int, int] = {}
        self._running: list[_Attempt] = []
        self._foreign = session.foreign
        self._stopping = False

    def run(self) -> None:
        """Work until nothing runs and nothing is left."""
        while True:
            while len(self._running) < self._workers and self._slots.available and not self._stopping:
                job = self._again.popleft() if self._again else self._source.next()
                if job is None:
                    break
                self._attempts[job.num] = self._attempts.get(job.num, 0) + 1
                self._session.started(job)
                self._start(job, self._slots.take(job.num), fresh=not self._warm)
            if not self._running:
                return
            ended = self._processes.wait([attempt.child for attempt in self._running], _POLL_SECONDS)
            for attempt in [a for a in self._running if a.child in ended]:
                self._running.remove(attempt)
                self._end(attempt)
            self._end_overdue()

    def _start(self, job: Job, gpus: Mapping[str, str], *, fresh: bool) -> None:
        child = self._processes.start(
            run_job,
            (self._session.job_words(job, self._more), not fresh, self._foreign),
            log=log_path(self._session.folder.path, job.num),
            environment={**self._session.environment(job), **gpus},
            fresh=fresh,
            keep_open=self._session.locks,
        )
        self._running.append(_Attempt(job, child, fresh))

    def _end(self, attempt: _Attempt) -> None:
        job, code = attempt.job, attempt.child.exit_code
        assert code is not None
        if code == NEEDS_FRESH and not attempt.fresh:
            self._start(job, self._slots.held(job.num), fresh=True)
            return
        self._slots.give_back(job.num)
        state = self._session.ended(
            job,
            code=code,
            seconds=attempt.seconds,
            max_rss_mb=attempt.child.peak_memory_mb,
            timed_out=self._launcher.timeout if attempt.timed_out else None,
        )
        failed = state.status not in SETTLED
        if failed and code != BAD_INPUT and self._attempts[job.num] <= self._launcher.retries:
            self._again.append(job)
            return
        self._session.settled(state)
        self._source.done(state)
        self._stopping = self._stopping or (failed and self._launcher.on_failure == "stop")

    def _end_overdue(self) -> None:
        limit = self._launcher.timeout
        for attempt in self._running:
            if limit is None or attempt.seconds <= limit:
                continue
            if not attempt.timed_out:
                attempt.timed_out = True
                attempt.child.terminate()
            elif attempt.seconds > limit + GRACE_SECONDS:
                attempt.child.kill()


def _refuse_hopeless(session: SweepSession, processes: WarmProcesses, jobs: Sequence[Job]) -> None:
    """Raise when no job's configuration is valid: that is one mistake, not many failures."""
    first = ""
    log = log_path(session.folder.path, 0).with_name("check.log")
    for job in jobs:
        log.unlink(missing_ok=True)
        child = processes.start(check_job, (session.job_words(job),), log=log)
        code = child.wait(_CHECK_SECONDS)
        if code is None:
            code = child.stop()
        if code == 0:
            return
        if code < 0:
            raise ResourceError(
                f"The process that checks the jobs' configuration: {explain_exit(code)}.",
                fix=f"repeat the command; where memory is short, ask for less ({LESS_MEMORY})",
            )
        first = first or log.read_text(encoding="utf-8", errors="replace").strip()
    if jobs:
        raise ConfigError(f"None of the {len(jobs)} jobs has a valid configuration. Job #{jobs[0].num}:\n{first}")
