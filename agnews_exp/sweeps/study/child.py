"""A study's command in a process of its own that never outlives the study for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agnews_exp.config.entry import Terminated
from agnews_exp.sweeps.job_server import die_with_parent

GRACE_SECONDS = 60.0
"""How long a command has to end after a signal before it is killed: a sweep ends its jobs first."""


@dataclass(frozen=True)
class Ended:
    """A command's end.

    Attributes:
        code: Exit code; negative is a signal.
        seconds: Wall time.
    """

    code: int
    seconds: float


def run_command(words: Sequence[str], environment: Mapping[str, str], lock: int) -> Ended:
    """Run ``agnews <words>`` with this process's output; a signal to this process ends the command first.

    Should this process be killed, the kernel tells the command to end (Linux).

    Args:
        words: The words after ``agnews``.
        environment: More environment.
        lock: A file descriptor that the command inherits: the study is locked until it is gone.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the command has ended.
        Terminated: After SIGTERM, likewise.
    """
    parent = os.getpid()
    package = Path(__file__).resolve().parents[3]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}  # our own entry point has set it
    start = time.monotonic()
    command = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "agnews_exp.cli", *words],
        stdin=subprocess.DEVNULL,
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment),
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on
        preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
    )
    try:
        code = command.wait()
    except BaseException as stop:
        _end(command, signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        raise
    return Ended(code, time.monotonic() - start)


def _end(command: subprocess.Popen[bytes], number: signal.Signals) -> None:
    command.send_signal(number)
    try:
        command.wait(GRACE_SECONDS)
    except BaseException:  # out of time, or a second Ctrl-C
        command.kill()
        command.wait()
