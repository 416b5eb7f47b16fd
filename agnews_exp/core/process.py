"""What surrounds every command: errors become messages, signals become clean ends, exit codes mean something."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import random
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from agnews_exp.core.errors import AgnewsError, ResourceError, StorageError
from agnews_exp.core.text import visible

_THRESHOLDS = (50_000, 20, 100)


def calm_garbage_collection() -> None:
    """Look for garbage cycles less often than Python does by default, and not at all at exit.

    With the default thresholds the collector walks through all modules again and again while they are imported: a
    fifth of the time that MLflow's import takes. At exit it would walk through everything twice more, half a second of
    a short run, for memory that goes back to the system anyway. What a run allocates in bulk (arrays, texts) is freed
    without it.
    """
    gc.set_threshold(*_THRESHOLDS)
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
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n 4096"),
}

LESS_MEMORY = "data_fraction=0.5, features.blocks.word.max_features=20000, hydra.launcher.n_jobs=1"
"""What to ask for where there is too little memory."""

_MEMORY_SIGNS = ("failed to map segment from shared object", "cannot allocate memory", "Cannot allocate memory")
"""What a library says whose own code or work space does not fit."""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes every ``except Exception``."""


class JobFailed(BaseException):
    """Carries a job's exception past Hydra, which would print its own preface and swallow the type.

    Args:
        error: What the job raised.
    """

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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


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


def guarded(main: Callable[[], Any]) -> None:
    """Run a command; print errors as messages and leave with the right exit code.

    Exit codes: 0 done; 1 a bug (with traceback); 2 bad input; 3 storage or memory; 130 Ctrl-C; 143 SIGTERM.
    With HYDRA_FULL_ERROR=1 every error keeps its traceback.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra would print errors in its own way and exit with 1; we want them raised.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGTERM, _raise_terminated)
    calm_garbage_collection()
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say("Interrupted. Finished work is kept; the same command starts again.")
        sys.exit(INTERRUPTED)
    except Terminated:
        _say("Terminated (SIGTERM). Finished work is kept; the same command starts again.")
        sys.exit(TERMINATED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing can be printed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except JobFailed as failed:
        sys.exit(_report(failed.error, wants_traceback))
    except Exception as error:
        sys.exit(_report(error, wants_traceback))


def _report(error: Exception, wants_traceback: bool) -> int:
    known = _as_known(error)
    if known is None or wants_traceback:
        traceback.print_exception(error)
    text = str(known) if known else f"This is a bug: {type(error).__name__}: {error}"
    _say(text)
    _leave_word(text)
    return known.exit_code if known else 1


def _leave_word(text: str) -> None:
    if path := os.environ.get(ERROR_FILE):
        with suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(text.splitlines()[0] + "\n")


def _as_known(error: Exception) -> AgnewsError | None:
    if isinstance(error, AgnewsError):
        return error
    if storage := find_os_error(error):
        return explain_os_error(storage)
    if shortage := explain_shortage(error):
        return shortage
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, HydraException | OmegaConfBaseException) or _while_composing(error):
        from agnews_exp.config.compose import explain_composition, extra_folders

        words = [a for a in sys.argv[1:] if "=" in a and not a.startswith("-")]
        try:
            return explain_composition(error, words, extra=extra_folders(sys.argv[1:]))
        except AgnewsError as missing:  # the folder of --config-dir is not there
            return missing
    return None


def _while_composing(error: Exception) -> bool:
    """Return whether Hydra itself stumbled over a command line: it does not check all that its grammar takes."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith(("hydra.", "omegaconf.")) and "agnews_exp.experiment" not in modules


def _raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _say(text: str) -> None:
    print(visible(f"error: {text}" if not text.startswith(("Interrupted", "Terminated")) else text), file=sys.stderr)
