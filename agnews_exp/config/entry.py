"""What surrounds every command: errors become messages, signals become clean ends, exit codes mean something."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from agnews_exp.config.cells import visible
from agnews_exp.config.errors import AgnewsError, StorageError
from agnews_exp.config.garbage import calm_garbage_collection

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
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error
        error = error.__cause__ or error.__context__
    return None


def guarded(main: Callable[[], Any]) -> None:
    """Run a command; print errors as messages and leave with the right exit code.

    Exit codes: 0 done; 1 a bug (with traceback); 2 bad input; 3 storage; 130 Ctrl-C; 143 SIGTERM.
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
