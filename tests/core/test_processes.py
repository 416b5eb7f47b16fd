"""Child processes: output, environment, ends, and that nothing outlives its parent."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from agnews_exp.core.errors import ResourceError
from agnews_exp.core.processes import WarmProcesses

KINDS = pytest.mark.parametrize("preload", [["json"], []], ids=["fork of the server", "new interpreter"])


def report(path: str) -> None:
    """Write what a child sees."""
    print("to the log")
    print("errors too", file=sys.stderr)
    Path(path).write_text(f"{os.environ.get('MINE')} {os.getpid() == os.getpgrp()} {Path.cwd()}")


def leave(code: object) -> None:
    """End with a code."""
    raise SystemExit(code)


def fail() -> None:
    """Break."""
    raise ValueError("it broke")


def ignore_sigterm(path: str) -> None:
    """Go on whatever is asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).touch()
    time.sleep(60)


def hold(path: str) -> None:
    """Take some time."""
    Path(path).touch()
    time.sleep(60)


class Slow(str):
    """A text that takes a while to be unpickled: a child that gets it is not ready yet."""

    def __reduce__(self):
        return slowly, (str(self),)


def slowly(text: str) -> str:
    """Return a text after a while."""
    time.sleep(60)
    return text


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@KINDS
def test_a_child_has_its_own_log_environment_and_process_group(tmp_path, monkeypatch, preload):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with WarmProcesses(preload) as processes:
        log, told = tmp_path / "log", tmp_path / "told"
        child = processes.start(report, (str(told),), log=log, environment={"MINE": "yes"})
        assert child.wait(60) == 0
        assert told.read_text() == f"yes True {tmp_path}"
        assert sorted(log.read_text().splitlines()) == ["errors too", "to the log"]
    assert dict(os.environ) == before


@KINDS
def test_the_exit_code_says_how_a_child_ended(tmp_path, preload):
    with WarmProcesses(preload) as processes:
        log = tmp_path / "log"
        children = [processes.start(leave, (7,), log=log), processes.start(fail, log=log)]
        assert [child.wait(60) for child in children] == [7, 1]
        assert "ValueError: it broke" in log.read_text()


def test_children_are_reported_as_they_end(tmp_path):
    with WarmProcesses(["json"]) as processes:
        slow = processes.start(hold, (str(tmp_path / "flag"),), log=tmp_path / "log")
        quick = processes.start(leave, (0,), log=tmp_path / "log")
        assert processes.wait([slow, quick], 60) == [quick]
        assert processes.wait([slow], 0.1) == []
        assert slow.peak_memory_mb > 1
    assert slow.exit_code == -signal.SIGTERM  # the end of the block ends what still runs


@KINDS
def test_a_child_that_does_not_listen_is_killed_after_its_grace(tmp_path, preload):
    with WarmProcesses(preload) as processes:
        child = processes.start(ignore_sigterm, (str(tmp_path / "flag"),), log=tmp_path / "log")
        wait_for(tmp_path / "flag")
        assert child.stop(grace=0.2) == -signal.SIGKILL


@KINDS
def test_a_lock_is_held_as_long_as_the_child_lives(tmp_path, preload):
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with WarmProcesses(preload) as processes:
        child = processes.start(hold, (str(tmp_path / "flag"),), log=tmp_path / "log", keep_open=[descriptor])
        wait_for(tmp_path / "flag")
        os.close(descriptor)
        other = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.stop(grace=5)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


@KINDS
def test_nothing_outlives_a_parent_that_is_killed(tmp_path, preload):
    script = tmp_path / "parent.py"  # without a main guard, as scripts of users are
    script.write_text(
        textwrap.dedent(f"""
        import time
        from pathlib import Path
        from agnews_exp.core.processes import WarmProcesses
        with WarmProcesses({preload!r}) as processes:
            processes.start(time.sleep, (60,), log=Path({str(tmp_path / "log")!r}))
            Path({str(tmp_path / "flag")!r}).touch()
            time.sleep(60)
        """)
    )
    with subprocess.Popen([sys.executable, str(script)]) as parent:
        wait_for(tmp_path / "flag")
        family = psutil.Process(parent.pid).children(recursive=True)
        assert family
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_a_child_whose_server_was_killed_is_ended_and_the_next_one_starts(tmp_path):
    with WarmProcesses(["json"]) as processes:
        child = processes.start(hold, (str(tmp_path / "flag"),), log=tmp_path / "log")
        wait_for(tmp_path / "flag")
        process = psutil.Process(child.pid)
        process.parent().kill()
        assert processes.wait([child], 30) == [child]
        assert child.exit_code == -signal.SIGKILL
        process.wait(10)
        again = processes.start(leave, (3,), log=tmp_path / "log")
        assert again.wait(60) == 3


def test_a_child_whose_server_was_killed_before_it_was_ready_does_not_go_on_alone(tmp_path):
    with WarmProcesses(["json"]) as processes:
        child = processes.start(leave, (0,), log=tmp_path / "log", environment={"MINE": Slow("yes")})
        process = psutil.Process(child.pid)
        process.parent().kill()
        assert processes.wait([child], 30) == [child]
        assert child.exit_code == -signal.SIGKILL
        process.wait(10)


def test_a_server_that_dies_while_a_child_is_asked_for_is_told_with_what_to_do(tmp_path, monkeypatch):
    for failure in (EOFError("unexpected EOF"), BrokenPipeError(32, "Broken pipe"), ConnectionResetError(104, "Reset")):
        monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", Mock(side_effect=failure))
        with WarmProcesses(["json"]) as processes, pytest.raises(ResourceError, match="was killed") as told:
            processes.start(leave, (0,), log=tmp_path / "log")
        assert "repeat the command" in str(told.value)
        assert "EOF" not in str(told.value)
