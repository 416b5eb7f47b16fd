"""A signal ends a command also where the exception that it raises gets lost."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import subprocess
import sys

import psutil
import pytest

from agnews_exp.core.process import INTERRUPTED, TERMINATED, born, explain_os_error, guarded, is_gone, is_stop
from agnews_exp.core.text import TerminalFormatter, painted

LOSSES = {
    "in a class body": """
class Named:
    def __set_name__(self, owner, name):
        stop()
try:
    class Owner:
        field = Named()
except Exception:
    pass
""",
    "wrapped and not caught": """
class Named:
    def __set_name__(self, owner, name):
        stop()
class Owner:
    field = Named()
""",
    "in a finaliser": """
class Dying:
    def __del__(self):
        stop()
Dying()
""",
    "in a callback before long work": """
import ctypes, time
ctypes.CFUNCTYPE(None)(stop)()
time.sleep(60)
""",
    "not at all": "stop()\n",
}
PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
from agnews_exp.core.process import check_terminated, guarded, is_stop

def stop():
    os.kill(os.getpid(), int(sys.argv[1]))
    for _ in range(10_000):
        pass

def main():
    try:
{body}
        for step in range(3):
            print("step", step, flush=True)
            check_terminated()
    except BaseException as error:
        if is_stop(error):
            check_terminated()  # heard: tidying up is not interrupted again
            print("tidied", flush=True)
        raise

guarded(main)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_signal_ends_the_command_wherever_it_falls(loss, number, code):
    body = "\n".join(f"        {line}" for line in LOSSES[loss].splitlines())
    words = [sys.executable, "-c", PROGRAM.replace("{body}", body), str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=os.environ)
    assert done.returncode == code, done.stderr
    assert "step 1" not in done.stdout
    assert "tidied" in done.stdout
    assert "the same command starts again" in done.stderr


def test_an_exception_that_is_its_own_cause_is_reported_and_not_followed_for_ever():
    error = ValueError("round and round")
    error.__cause__ = error
    assert not is_stop(error)
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: (_ for _ in ()).throw(error))
    assert ended.value.code == 1


@pytest.mark.parametrize("name", ["EFBIG", "EIO", "ENAMETOOLONG", "ENOSPC"])
def test_every_storage_error_has_a_message_and_its_own_exit_code(name):
    explained = explain_os_error(OSError(getattr(errno, name), "no", "/a/file"))
    assert explained is not None
    assert explained.exit_code == 3
    assert "/a/file" in str(explained)


def test_a_process_is_gone_when_it_has_ended_or_another_one_has_its_number():
    began = psutil.Process().create_time()
    assert not is_gone(os.getpid(), began)
    assert not is_gone(os.getpid(), began + 3600)
    assert is_gone(os.getpid(), began - 60)  # the process of that time had this number before
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(child.pid, began + 3600)  # a zombie
    child.wait()
    assert is_gone(child.pid, began + 3600)


def test_a_step_of_the_clock_neither_ends_a_living_process_nor_revives_a_dead_one():
    began, birth = psutil.Process().create_time(), born()
    for step in (-86_400, -3600, -2, 0, 2, 3600, 86_400):
        assert not is_gone(os.getpid(), began - step, birth), f"the clock went {step} s forward"
        assert not is_gone(os.getpid(), began - step, str(birth))
    assert is_gone(os.getpid(), began - 60, birth - 60)  # another process had this number
    for unknown in (None, "None", "", [], birth + 60):  # nothing was noted: the clock's word counts
        assert is_gone(os.getpid(), began - 60, unknown)
        assert not is_gone(os.getpid(), began + 60, unknown)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


def test_only_a_terminal_that_may_has_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted("error:", "red", Terminal()) == "\x1b[1;31merror:\x1b[0m"
    monkeypatch.setattr(sys, "stdout", Terminal())
    warning = logging.makeLogRecord({"msg": "a leak", "levelno": logging.WARNING})
    assert TerminalFormatter("%(message)s").format(warning) == "\x1b[33ma leak\x1b[0m"
    assert TerminalFormatter("%(message)s").format(logging.makeLogRecord({"msg": "read", "levelno": 20})) == "read"
    assert painted("error:", "red", io.StringIO()) == "error:"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert painted("error:", "red", Terminal()) == "error:"


def test_an_error_on_a_terminal_is_red_and_its_fix_green(monkeypatch, capsys):
    from agnews_exp.core.errors import ConfigError

    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # an earlier test of this process may have left it
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "argv", ["agnews"])

    def refuse():
        raise ConfigError("no such model", fix="agnews list model")

    with pytest.raises(SystemExit):
        guarded(refuse)
    assert screen.getvalue() == "\x1b[1;31merror:\x1b[0m no such model\n\x1b[32m  fix:\x1b[0m agnews list model\n"
