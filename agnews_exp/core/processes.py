"""Child processes: forks of a warm server or fresh interpreters, each with its own log, none outliving its parent.

The standard library's forkserver starts the forks, its spawn the fresh interpreters. A child holds one end of a pipe
whose other end its parent holds: when the parent is gone, killed without a word included, the child ends itself.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, NoReturn, Self

from agnews_exp.core.errors import ResourceError
from agnews_exp.core.process import LESS_MEMORY, own_environment

GRACE_SECONDS = 10.0
"""Seconds that a child has to end after SIGTERM before it is killed."""

_SERVER_LOST = 255
"""Exit code that the standard library gives a child whose fork server was killed: it cannot know the child's own."""

_PACKAGES = Path(__file__).resolve().parents[2]


@dataclass(eq=False)
class Child:
    """A process that :meth:`WarmProcesses.start` started."""

    process: Any  # the standard library's handle
    started: float = field(default_factory=time.monotonic)  # clock time (``time.monotonic``) of its start
    # Largest resident memory seen while it was waited for, in MiB; None for one that ended at once.
    peak_memory_mb: float | None = None

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return int(self.process.pid)

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        code = self.process.exitcode
        if code is None:
            return None
        self._signal(signal.SIGKILL)  # what the child itself started, or the child where only its server has ended
        return -signal.SIGKILL if code == _SERVER_LOST else int(code)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most ``timeout`` seconds; return :attr:`exit_code`."""
        self.process.join(timeout)
        return self.exit_code

    def stop(self, grace: float = GRACE_SECONDS) -> int:
        """End the child and all that it started: SIGTERM, and after ``grace`` seconds SIGKILL; return its exit code."""
        self.terminate()
        code = self.wait(grace)
        if code is None:
            self.kill()
            code = self.wait()
        assert code is not None
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the child and all that it started."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the child and all that it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except PermissionError:  # macOS says so of a group of zombies
            pass
        except ProcessLookupError:  # it has not made its own group yet, or has ended
            if self.process.exitcode in (None, _SERVER_LOST):
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def look_at_memory(self) -> None:
        """Note how much memory the child holds now."""
        import psutil

        with suppress(psutil.Error):
            now = psutil.Process(self.pid).memory_info().rss / 1024**2
            self.peak_memory_mb = round(max(now, self.peak_memory_mb or 0.0), 1)


class WarmProcesses:
    """Starts child processes and leaves none behind; use as a context manager.

    The standard library has one fork server a process, so what the first one of a process preloads counts for all.

    The modules to ``preload`` before the first child must not start threads; without any, all children are fresh
    interpreters. ``environment`` are further variables of the server, for what a preloaded library reads while it is
    imported.
    """

    def __init__(self, preload: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._preload = [*preload] if sys.platform == "linux" else []  # macOS's system libraries do not survive a fork
        self._environment = dict(environment or {})
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        if self._preload:
            forkserver.set_forkserver_preload(self._preload)
            with _starting(os.environ | self._environment):
                forkserver.ensure_running()
        return self

    def __exit__(self, *_: object) -> None:
        left = [child for child in self._children if child.process.exitcode is None]
        for child in left:
            child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in left:
            child.stop(max(0.0, deadline - time.monotonic()))

    def start(
        self,
        function: Callable[..., object],
        arguments: Sequence[Any] = (),
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
        keep_open: Sequence[int] = (),
    ) -> Child:
        """Start a child; what ``function`` returns is ignored, SystemExit sets the exit code.

        The function is found by its name, its arguments are pickled; all output is appended to ``log``. ``fresh``
        starts a new interpreter though there is a warm server: for torch, CUDA and whatever else must not be forked.
        ``keep_open`` are file descriptors that the child holds, too (a lock).
        """
        forked = bool(self._preload) and not fresh
        context: Any = multiprocessing.get_context("forkserver" if forked else "spawn")
        settings = own_environment() | self._environment | dict(environment or {})
        payload = pickle.dumps((function, tuple(arguments)))
        process = context.Process(
            target=_become, args=(str(log), settings, [_Held(fd) for fd in keep_open], payload, forked)
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _starting(settings):
                process.start()
        except (EOFError, ConnectionError) as error:
            raise ResourceError(
                "The process that starts the others was killed (out of memory?).",
                fix=f"repeat the command, it goes on where it was; where memory is short, ask for less ({LESS_MEMORY})",
            ) from error
        except OSError as error:
            raise ResourceError(
                f"No process can be started: {error}.",
                fix="free memory, or raise the limits of this shell (ulimit -v, ulimit -u)",
            ) from error
        child = Child(process)
        self._children.append(child)
        return child

    @staticmethod
    def wait(children: Sequence[Child], timeout: float) -> list[Child]:
        """Return those of some children that have ended, waiting at most ``timeout`` seconds for the first."""
        for child in children:
            child.look_at_memory()
        ended = set(connection.wait([child.process.sentinel for child in children], timeout))
        return [child for child in children if child.process.sentinel in ended and child.exit_code is not None]


class _Held:
    """A file descriptor that a child gets a copy of while it is started."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __getstate__(self) -> object:
        return DupFd(self.descriptor)

    def __setstate__(self, copy: Any) -> None:
        self.descriptor = copy.detach()


@contextmanager
def _starting(environment: Mapping[str, str]) -> Iterator[None]:
    """Let the processes started in the block inherit an environment, no Ctrl-C, and nothing of this main module.

    Without the main module a script needs no ``if __name__ == "__main__"``, and without the current folder on the
    path a file in it cannot stand in for a library.
    """
    before, main = dict(os.environ), sys.modules["__main__"]
    paths = [str(_PACKAGES), *filter(None, [environment.get("PYTHONPATH")])]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(environment)
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONSAFEPATH="1")
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(log: str, environment: dict[str, str], held: list[_Held], payload: bytes, forked: bool) -> None:
    """Run a child: take its log and environment, watch for the parent's end, and call the function."""
    os.setsid()  # Ctrl-C in the terminal is the parent's to handle
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _redirect(log)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_follow_parent, daemon=True, name="life").start()
    try:
        function, arguments = pickle.loads(payload)  # noqa: S301 - written by the parent a moment ago
        function(*arguments)
    finally:
        del held
        if forked:  # a fork ends by os._exit, which skips these; there is no public way to run them
            with suppress(BaseException):
                atexit._run_exitfuncs()


def _redirect(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _follow_parent() -> NoReturn:
    """Wait for the parent's end, then end this process and all that it started: first by SIGTERM, then by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when ``parent`` dies; where it cannot (macOS), do nothing."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)


def cpu_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
