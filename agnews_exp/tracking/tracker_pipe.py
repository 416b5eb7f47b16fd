"""The two pipes to a process that talks to MLflow: requests go, answers come, both JSON lines and in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import agnews_exp
from agnews_exp.config.entry import explain_exit

_CLOSE_SECONDS = 10
ORPHAN_SECONDS = 20.0
"""How long the process goes on with what was asked for when nobody reads its answers any more."""
PATIENCE_SECONDS = 120.0
"""How long an answer is waited for; a server that takes longer gets the rest by `agnews sync`, which waits."""


class TrackingFailure(Exception):
    """MLflow, in the other process, could not do something.

    Args:
        reason: The first line of its error.
        storage: Whether the disk was the reason.
    """

    def __init__(self, reason: str, *, storage: bool = False) -> None:
        super().__init__(reason)
        self.storage = storage


class TrackerPipe:
    """A tracking process and what was said to it; it starts with the first request.

    Args:
        module: What to start; its ``main`` answers requests (see :mod:`agnews_exp.tracking.tracking_process`).
        keep: File descriptors that the process inherits.
    """

    def __init__(self, module: str, keep: Sequence[int] = ()) -> None:
        self._module, self._keep = module, tuple(keep)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._sent = 0
        self._answers: dict[int, dict[str, Any]] = {}

    @property
    def started(self) -> bool:
        """Whether there is a process to talk to."""
        return self._process is not None

    def start(self) -> None:
        """Start the process; returns at once."""
        package = Path(agnews_exp.__file__).resolve().parents[1]
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            process_group=0,  # Ctrl-C is the run's: it says what becomes of the MLflow run
            pass_fds=self._keep,
        )

    def send(self, request: str, **arguments: Any) -> int:
        """Send a request and return its number, counted from 1.

        Raises:
            TrackingFailure: The process is gone.
        """
        if self._process is None and not self._ended:
            self.start()
        if self._process is None:
            raise self._gone()
        assert self._process.stdin is not None
        line = json.dumps({"request": request, **arguments}, default=str)
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        self._sent += 1
        return self._sent

    def answer(self, number: int) -> Any:
        """Wait for an answer; those to earlier requests, whose waiting was interrupted, come before it.

        Raises:
            TrackingFailure: What was asked for could not be done, or the process is gone.
        """
        while number not in self._answers:
            line = self._read_line()
            if not line:
                raise self._gone()
            self._answers[len(self._answers) + 1] = json.loads(line)
        answer = self._answers[number]
        if answer["error"] is not None:
            raise TrackingFailure(answer["error"], storage=answer["storage"])
        return answer["value"]

    def stop(self) -> None:
        """Let the process end."""
        process, self._process, self._ended = self._process, None, True
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            process.wait(ORPHAN_SECONDS + _CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read_line(self) -> bytes:
        """Return the next answer, empty when the process is gone; one that is silent for too long is given up."""
        process = self._process
        if process is None:
            raise self._gone()
        assert process.stdout is not None
        gave_up = threading.Event()

        def give_up() -> None:
            gave_up.set()
            process.kill()

        timer = threading.Timer(PATIENCE_SECONDS, give_up)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line and gave_up.is_set():
            process.wait()
            self._process, self._ended = None, True
            raise TrackingFailure(f"no answer within {PATIENCE_SECONDS:.0f} s")
        return line

    def _gone(self) -> TrackingFailure:
        if self._process is None:
            return TrackingFailure("the tracking process has ended")
        try:
            end = explain_exit(self._process.wait(_CLOSE_SECONDS))
        except subprocess.TimeoutExpired:
            end = "does not answer any more"
        return TrackingFailure(f"the tracking process: {end}")
