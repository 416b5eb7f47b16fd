"""The process that starts every job of a sweep, each in a process and session of its own.

It imports what classical jobs need once, before anything starts a thread, and forks: a job is as isolated as a fresh
interpreter, without paying seconds of imports. It also is the sweep's dead man's switch: when the sweep's parent
dies, however it dies, the command pipe closes, and the server ends all jobs, politely first. Should the server itself
be killed, the kernel kills the jobs (Linux).

Commands arrive on stdin and events leave on stdout, one JSON object a line:
``{"op": "start", "num": 3, "words": [...], "env": {...}, "log": "...", "cwd": "...", "fresh": false}``,
``{"op": "check", ...}`` likewise, ``{"op": "kill", "num": 3, "signal": 15}``; ``{"event": "ready"}``,
``{"event": "started", "num": 3, "pid": 99}``, ``{"event": "ended", "num": 3, "code": -9, "max_rss_mb": 120.5}``.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any, NoReturn

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
        from agnews_exp.sweeps.checking import check_words

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
    """Entry point: ``python -m agnews_exp.sweeps.job_server warm|cold``."""
    events = os.dup(1)
    os.dup2(2, 1)  # whatever an import prints must not end up among the events
    commands = os.dup(0)
    die_with_parent(os.getppid(), signal.SIGTERM)  # while it imports, it does not look at the pipe
    if sys.argv[1] == "warm":
        from agnews_exp.sweeps.preloading import preload

        preload()
    JobServer(commands, events).serve()


if __name__ == "__main__":
    main()
