"""`hydra/launcher=process`: every job in a process of its own, several at once, none able to end the sweep."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from agnews_exp.core.errors import ConfigError, ResourceError
from agnews_exp.core.process import LESS_MEMORY, explain_exit
from agnews_exp.sweeps import state as job_files
from agnews_exp.sweeps.state import Job, JobState

if TYPE_CHECKING:
    from agnews_exp.sweeps.session import SweepSession

GRACE_SECONDS = 10.0
"""How long jobs have to end after SIGTERM before they are killed."""


class JobServer:
    """Starts jobs, reports their ends, and never leaves one behind.

    Args:
        commands: File descriptor that commands are read from.
        events: File descriptor that events are written to.
    """

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._jobs: dict[int, int] = {}
        self._buffer = b""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._closing = False

    def serve(self) -> None:
        """Work until the command pipe closes, then end what still runs."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        signal.signal(signal.SIGTERM, self._close)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._say(event="ready")
        while not self._closing:
            ready, _, _ = select.select([self._commands, self._wake_read], [], [])
            if self._wake_read in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            if self._commands in ready:
                data = os.read(self._commands, 65536)
                if not data:
                    break
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        self._end_all()

    def _close(self, *_: object) -> None:
        self._closing = True

    def _obey(self, command: dict[str, Any]) -> None:
        if command["op"] == "kill":
            pids = [pid for pid, num in self._jobs.items() if num == command["num"]]
            for pid in pids:
                self._kill(pid, command["signal"])
            return
        pid = os.fork()
        if pid == 0:
            self._become(command)
        self._jobs[pid] = command["num"]
        self._say(event="started", num=command["num"], pid=pid)

    def _become(self, command: dict[str, Any]) -> NoReturn:
        """In the child: shed the server's pipes and signals, take the job's log and environment, and run it."""
        code = 1
        try:
            server = os.getppid()
            os.setsid()
            die_with_parent(server)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor in (self._commands, self._events, self._wake_read, self._wake_write):
                os.close(descriptor)
            _redirect(command["log"])
            os.environ.update(command["env"])
            os.chdir(command["cwd"])
            code = _run(command)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                threading._shutdown()  # type: ignore[attr-defined]
                atexit._run_exitfuncs()
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._jobs:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            num = self._jobs.pop(pid, None)
            if num is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what the job itself started ends with it
                scale = 1024**2 if sys.platform == "darwin" else 1024
                code = os.waitstatus_to_exitcode(status)
                self._say(event="ended", num=num, code=code, max_rss_mb=round(usage.ru_maxrss / scale, 1))

    def _end_all(self) -> None:
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 30.0)):
            for pid in self._jobs:
                self._kill(pid, number)
            deadline = time.monotonic() + patience
            while self._jobs and time.monotonic() < deadline:
                self._reap()
                time.sleep(0.02)

    @staticmethod
    def _kill(pid: int, number: int) -> None:
        try:
            os.killpg(pid, number)
        except ProcessLookupError:  # it has not reached setsid yet
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _say(self, **event: object) -> None:
        with suppress(BrokenPipeError):
            os.write(self._events, json.dumps(event).encode() + b"\n")


def _run(command: dict[str, Any]) -> int:
    from agnews_exp.sweeps import job

    words = command["words"]
    if command["op"] == "check":
        from agnews_exp.sweeps.job import check_words

        return check_words(words)
    if command["fresh"]:
        os.execv(sys.executable, job.fresh_command(words))  # noqa: S606
    sys.argv = ["agnews run", *words]
    job.main(forked=True)
    return 0


def _redirect(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to end this process when ``parent`` dies; where it cannot be asked (macOS), do nothing.

    Args:
        parent: Process id of the parent.
        number: The signal that this process then gets.
    """
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)


def main() -> None:
    """Entry point: ``python -m agnews_exp.sweeps.processes warm|cold``."""
    events = os.dup(1)
    os.dup2(2, 1)  # whatever an import prints must not end up among the events
    commands = os.dup(0)
    die_with_parent(os.getppid(), signal.SIGTERM)  # while it imports, it does not look at the pipe
    if sys.argv[1] == "warm":
        preload()
    JobServer(commands, events).serve()


@dataclass(frozen=True)
class Ended:
    """A process of a job that has ended.

    Attributes:
        num: The job's number.
        code: Exit code; negative is a signal.
        seconds: Wall time.
        max_rss_mb: Peak resident memory in MiB, None when the server died with it.
        timed_out: The timeout in seconds when that is what ended it.
    """

    num: int
    code: int
    seconds: float
    max_rss_mb: float | None
    timed_out: float | None


@dataclass
class _Running:
    started: float
    deadline: float | None
    limit: float | None
    timed_out: bool = False
    killed: bool = False


class JobPool:
    """Processes of jobs, started through a job server; use as a context manager.

    Args:
        warm: Whether the server imports what classical jobs need before it starts the first one.
        environment: Environment of the server and of all jobs, beside this process's own.
        keep_open: File descriptors that the server and the jobs inherit (the sweep's lock).
        log: Where the server's own output goes.
    """

    def __init__(self, *, warm: bool, environment: dict[str, str], keep_open: Sequence[int], log: Path) -> None:
        self._warm, self._environment, self._keep_open, self._log = warm, environment, tuple(keep_open), log
        self._server: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self.running: dict[int, _Running] = {}

    def __enter__(self) -> JobPool:
        self._start_server()
        return self

    def _start_server(self) -> None:
        package = Path(__file__).resolve().parents[2]
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | self._environment | {"PYTHONPATH": os.pathsep.join(paths)}
        words = [sys.executable, "-P", "-m", "agnews_exp.sweeps.processes", "warm" if self._warm else "cold"]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                pass_fds=self._keep_open,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only
            )
        self._buffer = b""

    def start(
        self, num: int, words: Sequence[str], env: dict[str, str], log: Path, *, timeout: float | None, fresh: bool
    ) -> None:
        """Start a job's process.

        Args:
            num: The job's number.
            words: Hydra's words.
            env: Environment of this job alone.
            log: File that its output is appended to.
            timeout: Seconds until it is ended; None for no limit.
            fresh: Whether it gets a new interpreter instead of a fork of the server.
        """
        now = time.monotonic()
        self.running[num] = _Running(now, None if timeout is None else now + timeout, timeout)
        command = {"op": "start", "num": num, "words": list(words), "env": env, "log": str(log), "fresh": fresh}
        self._send(command | {"cwd": str(Path.cwd())})

    def check(self, words: Sequence[str], log: Path, timeout: float = 300) -> int:
        """Check a job's configuration in a process of its own; returns the exit code (0: valid)."""
        num = -1
        self.running[num] = _Running(time.monotonic(), time.monotonic() + timeout, timeout)
        command = {"op": "check", "num": num, "words": list(words), "env": {}, "log": str(log), "cwd": str(Path.cwd())}
        self._send(command)
        while True:
            for ended in self.wait(0.5):
                if ended.num == num:
                    return ended.code

    def wait(self, timeout: float) -> list[Ended]:
        """Wait at most ``timeout`` seconds for jobs to end; also ends those that are past their time."""
        ended = [e for event in self._events(timeout) if (e := self._note(event)) is not None]
        if not ended and self._server is not None and self._server.poll() is not None and self.running:
            # The server was killed, and the kernel has killed its jobs: none of them can still end by itself.
            ended = [self._end(num, -signal.SIGKILL, None) for num in list(self.running)]
            self._start_server()
        now = time.monotonic()
        for num, job in self.running.items():
            if job.deadline is not None and now > job.deadline:
                if not job.timed_out:
                    job.timed_out, job.deadline = True, now + GRACE_SECONDS
                    self._send({"op": "kill", "num": num, "signal": signal.SIGTERM})
                elif not job.killed:
                    job.killed, job.deadline = True, None
                    self._send({"op": "kill", "num": num, "signal": signal.SIGKILL})
        return ended

    def _events(self, timeout: float) -> list[dict[str, Any]]:
        assert self._server is not None
        assert self._server.stdout is not None
        descriptor = self._server.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], timeout)
        if not ready:
            return []
        data = os.read(descriptor, 65536)
        if not data:
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(1)
            return []
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _note(self, event: dict[str, Any]) -> Ended | None:
        if event["event"] != "ended" or event["num"] not in self.running:
            return None
        return self._end(event["num"], event["code"], event["max_rss_mb"])

    def _end(self, num: int, code: int, max_rss_mb: float | None) -> Ended:
        job = self.running.pop(num)
        limit = job.limit if job.timed_out else None
        return Ended(num, code, time.monotonic() - job.started, max_rss_mb, limit)

    def _send(self, command: dict[str, Any]) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        with suppress(BrokenPipeError):  # a dead server is noticed by wait()
            self._server.stdin.write(json.dumps(command).encode() + b"\n")
            self._server.stdin.flush()

    def terminate(self) -> None:
        """End all jobs: SIGTERM, and after a while SIGKILL; returns when they are gone."""
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        if self._server is None:
            return
        assert self._server.stdin is not None
        with suppress(BrokenPipeError):
            self._server.stdin.close()
        self._server.terminate()  # it may still be importing; while it serves, this means the same as the closed pipe
        try:
            self._server.wait(GRACE_SECONDS + 35)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._server.kill()  # its jobs die with it
            self._server.wait()
        if self._server.stdout is not None:
            self._server.stdout.close()
        self._server = None


_PRELOAD = (
    "numba",
    "filelock",
    "PIL.PngImagePlugin",
    "hydra._internal.logging_config",
    "sklearn.dummy",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.pipeline",
    "sklearn.svm",
    "pyarrow.parquet",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "encodings.utf_8_sig",
    "pyarrow.pandas_compat",
    "agnews_exp.experiment",
    "agnews_exp.config.schema",
    "agnews_exp.data.bundled",
    "agnews_exp.data.bundled",
    "agnews_exp.data.csv_files",
    "agnews_exp.data.splits",
    "agnews_exp.evaluation.efficiency",
    "agnews_exp.evaluation.metrics",
    "agnews_exp.features.build",
    "agnews_exp.ngrams",
    "agnews_exp.ngrams.kernels",
    "agnews_exp.ngrams.kernels",
    "agnews_exp.ngrams.kernels",
    "agnews_exp.features.preprocessing",
    "agnews_exp.models.answers",
    "agnews_exp.analyses.performing",
    "agnews_exp.runners.cross_validation",
    "agnews_exp.runners.rows",
    "agnews_exp.models.persistence",
    "agnews_exp.tracking.record_files",
    "agnews_exp.compare.summary",
    "agnews_exp.runners.sklearn_runner",
)


def preload() -> None:
    """Import what classical jobs need, and let Hydra look for its plugins; a module that is missing is skipped."""
    from hydra.core.plugins import Plugins

    from agnews_exp.models.persistence import import_skops
    from agnews_exp.sweeps import register_plugins

    Plugins.instance()
    import_skops()
    register_plugins()
    for name in _PRELOAD:
        with suppress(ImportError):
            importlib.import_module(name)
    for warm_up in (_compose_something, _count_something, _draw_something):
        with suppress(Exception):
            warm_up()


def _compose_something() -> None:
    """Let the parsers of YAML and of Hydra's overrides build their tables here, once, instead of in every job."""
    from agnews_exp.config.compose import compose_config

    compose_config(["data=sample", "seed=1", "data_fraction=0.5", "hydra.run.dir='/a b/0'"])


def _count_something() -> None:
    """Let numba set itself up and load the compiled kernels here, without a thread that a fork would lose."""
    from agnews_exp.ngrams import TfidfVectorizer

    texts = ["one two three", "two three four", "three four five"]
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, n_jobs=1).fit(texts).transform(texts)


def _draw_something() -> None:
    """Let matplotlib find and read its fonts here, once, instead of in every job."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.add_subplot().set(xlabel="x", ylabel="y", title="0,123")
    figure.savefig(io.BytesIO(), format="png")


_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def cpu_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limit(n_jobs: int, threads_per_job: int | None) -> int:
    """Return how many threads each of ``n_jobs`` parallel jobs may use."""
    return threads_per_job or max(1, cpu_count() // n_jobs)


def thread_environment(limit: int) -> dict[str, str]:
    """Return the environment that keeps numerical libraries to ``limit`` threads; the user's own settings win."""
    return {name: str(limit) for name in _THREAD_VARIABLES if name not in os.environ}


def visible_gpus() -> list[str]:
    """Return the GPUs that jobs may use: CUDA_VISIBLE_DEVICES, or else all that nvidia-smi lists."""
    if (value := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [part.strip() for part in value.split(",") if part.strip() not in ("", "-1")]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        words = [command, "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


class GpuSlots:
    """Hands GPUs to jobs so that no GPU has more jobs than allowed.

    Args:
        gpus: Device names as CUDA_VISIBLE_DEVICES takes them; None looks for them.
        gpus_per_job: How many each job gets; 0 leaves CUDA_VISIBLE_DEVICES alone.
        jobs_per_gpu: How many jobs may share a GPU.

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
        """Whether one more job fits."""
        return sum(n > 0 for n in self._free.values()) >= self._per_job

    def take(self, num: int) -> dict[str, str]:
        """Give a job its GPUs, the least used first; returns its environment."""
        if not self._per_job:
            return {}
        chosen = sorted(self._free, key=lambda g: -self._free[g])[: self._per_job]
        for gpu in chosen:
            self._free[gpu] -= 1
        self._held[num] = chosen
        return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}

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


if __name__ == "__main__":
    main()
