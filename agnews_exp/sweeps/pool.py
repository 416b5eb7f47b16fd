"""The parent's side of the job server: start jobs, see them end, keep timeouts, take everything down."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.job_server import GRACE_SECONDS


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
        words = [sys.executable, "-P", "-m", "agnews_exp.sweeps.job_server", "warm" if self._warm else "cold"]
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
