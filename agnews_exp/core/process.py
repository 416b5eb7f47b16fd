"""The frame of every command: errors become messages, signals a clean end, and each exit code has a meaning."""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from agnews_exp.core.errors import AgnewsError, ResourceError, StorageError, refuse_password
from agnews_exp.core.text import masked, painted, visible


def calm_garbage_collection() -> None:
    """Look for garbage cycles less often than Python does by default, and not at all at exit.

    With the default thresholds the collector walks through all modules again and again while they are imported: a
    fifth of the time that MLflow's import takes. At exit it would walk through everything twice more, half a second of
    a short run, for memory that goes back to the system anyway. What a run allocates in bulk (arrays, texts) is freed
    without it.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def seed_everything(seed: int) -> None:
    """Seed Python's and NumPy's global generators (torch's is seeded by the transformer runner)."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that know only the global generator


INTERRUPTED = 130
TERMINATED = 143

ERROR_FILE = "AGNEWS_ERROR_FILE"
"""Environment variable: a file that the first line of a command's error is added to, for whoever started it."""

_DISK_ERRORS = {
    errno.ENOSPC: (
        "the disk is full",
        "free some space or set paths.output_dir and paths.mlruns_dir to another disk",
    ),
    errno.EDQUOT: ("the disk quota is used up", "free some space or set paths.output_dir to another disk"),
    errno.EROFS: (
        "the file system is read-only",
        "set paths.output_dir and paths.mlruns_dir to a writable folder",
    ),
    errno.EACCES: ("permission denied", "set paths.output_dir and paths.mlruns_dir to a writable folder"),
    errno.EPERM: ("permission denied", "set paths.output_dir and paths.mlruns_dir to a writable folder"),
    errno.ENOTDIR: ("a part of the path is a file", "set paths.output_dir and paths.mlruns_dir to a folder"),
    errno.EFBIG: (
        "a file would be larger than allowed",
        "raise the limit (ulimit -f), or write to another file system",
    ),
    errno.EIO: (
        "the disk failed to read or write",
        "look at the disk (dmesg), and set paths.output_dir to another one",
    ),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter name, or a shorter path"),
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n 4096"),
}

LESS_MEMORY = "data_fraction=0.5, features.blocks.word.max_features=20000, hydra.launcher.n_jobs=1"
"""Overrides with which a run needs less memory."""

_MEMORY_SIGNS = ("failed to map segment from shared object", "cannot allocate memory", "Cannot allocate memory")
"""Parts of the messages of libraries whose code or work space does not fit into memory."""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes every ``except Exception``."""


_unheard: list[type[BaseException]] = []
"""At most one item: the exception of the signal that asked this process to end, until somebody has caught it."""


def listen_for_signals() -> None:
    """Raise :class:`Terminated` at SIGTERM and KeyboardInterrupt at Ctrl-C, and remember either until it is heard.

    An exception that a signal raises can get lost: Python wraps it in a RuntimeError where a class body is being
    created (as during imports); :func:`check_terminated` finds it again. In ``__del__`` and in the callbacks of C
    code Python drops it and says so; there the signal is sent again.
    """
    _unheard.clear()
    signal.signal(signal.SIGTERM, _raise_signal)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores Ctrl-C
        signal.signal(signal.SIGINT, _raise_signal)
    sys.unraisablehook = _send_again


def _raise_signal(number: int, _frame: FrameType | None) -> None:
    kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    _unheard[:] = [kind]
    raise kind


def _send_again(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python drops; whatever else it drops is told as ever."""
    number = {Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(dropped.exc_type)
    if number is None:
        sys.__unraisablehook__(dropped)
        return

    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        if _unheard:
            signal.pthread_kill(main, number)  # also where it waits for the system

    again = threading.Timer(0.05, send)  # what is raised in here would be dropped, too
    again.daemon = True
    again.start()


def check_terminated() -> None:
    """Raise the signal's exception again when it was lost on its way; call it after whatever swallows exceptions.

    Raises:
        Terminated: SIGTERM arrived, and nobody has heard of it yet.
        KeyboardInterrupt: Likewise for Ctrl-C.
    """
    if _unheard:
        raise _unheard.pop()


def is_stop(error: BaseException | None) -> bool:
    """Return whether an exception says that a signal asked this process to end, also where another one wraps it.

    The request counts as heard from then on: what tidies up is not interrupted by :func:`check_terminated`.
    """
    # Its context does not count: an error amid tidying up is an error.
    stopped = any(isinstance(link, KeyboardInterrupt | Terminated) for link in _chain(error, contexts=False))
    if stopped:
        _unheard.clear()
    return stopped


class JobFailed(BaseException):
    """Carries a job's exception past Hydra, which would print its own preface and swallow the type."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def explain_os_error(error: OSError) -> StorageError | None:
    """Return the user's version of an operating-system error about storage, or None for any other kind."""
    if error.errno not in _DISK_ERRORS:
        return None
    reason, fix = _DISK_ERRORS[error.errno]
    return StorageError(f"{error.filename or 'writing'}: {reason}", fix=fix)


def find_os_error(error: BaseException | None) -> OSError | None:
    """Return the storage error at the root of an exception chain, if there is one."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _DISK_ERRORS:
            return link
    return None


def _chain(error: BaseException | None, *, contexts: bool = True) -> Iterator[BaseException]:
    """Yield an exception, then its cause or (with ``contexts``) context, and so on to the first, each once.

    Where somebody writes ``raise error from error`` an exception is its own cause.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (error.__context__ if contexts else None)


def explain_shortage(error: BaseException) -> AgnewsError | None:
    """Return the user's version of an exception at whose root memory or a database gave out, or None."""
    for link in _chain(error):
        short = isinstance(link, OSError) and link.errno == errno.ENOMEM
        if isinstance(link, MemoryError) or short or any(sign in str(link) for sign in _MEMORY_SIGNS):
            return ResourceError(
                "Not enough memory for this command.",
                fix=f"free some or raise its limit (ulimit -v), or ask for less: {LESS_MEMORY}",
            )
        if isinstance(link, sqlite3.DatabaseError):
            return _database_error(link)
    return None


def _database_error(error: sqlite3.DatabaseError) -> AgnewsError:
    if "locked" in str(error) or "busy" in str(error):
        return ResourceError(
            f"Another process holds a database of this project ({error}).",
            fix="end that process or wait for it; the same command goes on where it was",
        )
    return StorageError(
        f"A database of this project cannot be used: {error}.",
        fix="move the damaged file away (outputs/optuna/<search>.db or mlruns/mlflow.db); `agnews sync` fills a new "
        "MLflow store from the runs' records",
    )


def explain_exit(code: int) -> str:
    """Say in words how a process without a reason of its own ended."""
    if code >= 0:
        return f"ended with exit code {code} and no result"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def born(pid: int | None = None) -> float:
    """Return when a process (this one by default) began, in seconds after the machine did: no clock step changes it."""
    import psutil

    return round(psutil.Process(pid).create_time() - psutil.boot_time(), 1)


def is_gone(pid: int, started: float, birth: object = None) -> bool:
    """Return whether the process that had ``pid`` at ``started`` has ended, whatever the clock did since.

    Args:
        pid: Its number, which another process may have by now.
        started: When it was at work, in seconds since the epoch.
        birth: :func:`born` of it, where that was noted (a number, or one as text).
    """
    import psutil

    try:
        process = psutil.Process(pid)
        with suppress(ValueError, TypeError):
            if abs(born(pid) - float(str(birth))) <= _SAME_BIRTH:
                return process.status() == psutil.STATUS_ZOMBIE
        return process.create_time() > started + 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_SAME_BIRTH = 1.5
"""Seconds by which :func:`born` of one process may differ: the system tells its own beginning in whole seconds."""


_FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable with which Hydra raises errors; without it, it prints them in its own way and exits with 1."""

_lent: dict[str, str | None] = {}
"""Variables that :func:`guarded` has set for libraries in this process, with the user's own values."""


def own_environment() -> dict[str, str]:
    """Return this process's environment as its user gave it, for processes that it starts or becomes."""
    environment = dict(os.environ)
    for name, value in _lent.items():
        environment.pop(name, None)
        environment |= {} if value is None else {name: value}
    return environment


Explain = Callable[[Exception], AgnewsError | None]
"""A function from an exception to the error that a user can act on, or to None where it knows none."""


def guarded(main: Callable[[], Any], explain: Explain = lambda _error: None) -> None:
    """Run a command; print errors as messages and leave with the right exit code.

    Exit codes: 0 done; 1 a bug (with traceback); 2 bad input; 3 storage or memory; 130 Ctrl-C; 143 SIGTERM.
    With HYDRA_FULL_ERROR=1 of the user's every error keeps its traceback.

    ``explain`` explains exceptions that are neither an AgnewsError nor about storage or memory.
    """
    wants_traceback = os.environ.get(_FULL_ERROR) == "1"
    if not wants_traceback:
        _lent.update({_FULL_ERROR: os.environ.get(_FULL_ERROR)})
        os.environ[_FULL_ERROR] = "1"
    logging.raiseExceptions = False  # a log line that nobody reads any more (`| head`) is no reason for a traceback
    listen_for_signals()
    calm_garbage_collection()
    try:
        for word in sys.argv[1:]:  # before Hydra writes them down
            refuse_password(*word.partition("=")[::2])
        main()
        sys.stdout.flush()
        check_terminated()
    except (KeyboardInterrupt, Terminated) as stop:
        sys.exit(_report_stop(stop))
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing can be printed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except JobFailed as failed:
        sys.exit(_report(failed.error, explain, wants_traceback))
    except Exception as error:
        sys.exit(_report(error, explain, wants_traceback))


def _report_stop(stop: BaseException) -> int:
    terminated = any(isinstance(link, Terminated) for link in _chain(stop))
    how = "Terminated (SIGTERM)" if terminated else "Interrupted"
    _say(f"{how}. Finished work is kept; the same command starts again, a network's training goes on with resume=auto.")
    return TERMINATED if terminated else INTERRUPTED


def _report(error: Exception, explain: Explain, wants_traceback: bool) -> int:
    if is_stop(error):
        return _report_stop(error)
    known: AgnewsError | None
    if isinstance(error, AgnewsError):
        known = error
    elif storage := find_os_error(error):
        known = explain_os_error(storage)
    else:
        known = explain_shortage(error) or explain(error)
    if known is None or wants_traceback:
        traceback.print_exception(error)
    text = masked(str(known) if known else f"This is a bug: {type(error).__name__}: {error}")
    _say(text)
    _leave_word(text)
    return known.exit_code if known else 1


def _leave_word(text: str) -> None:
    if path := os.environ.get(ERROR_FILE):
        with suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(text.splitlines()[0] + "\n")


def _say(text: str) -> None:
    stopped = text.startswith(("Interrupted", "Terminated"))
    lines = visible(text if stopped else f"error: {text}").split("\n")
    for line in lines:
        colour = "red" if line.startswith("error:") else "green" if line.startswith("  fix:") else None
        word, sign, rest = line.partition(":")
        print(painted(word + sign, colour, sys.stderr) + rest if colour else line, file=sys.stderr)
