"""What surrounds every command: errors become messages, signals become clean ends, exit codes mean something."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from agnews_exp.config.errors import AgnewsError, StorageError
from agnews_exp.config.garbage import calm_garbage_collection

INTERRUPTED = 130
TERMINATED = 143

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
    _say(str(known) if known else f"This is a bug: {type(error).__name__}: {error}")
    return known.exit_code if known else 1


def _as_known(error: Exception) -> AgnewsError | None:
    if isinstance(error, AgnewsError):
        return error
    if storage := find_os_error(error):
        return explain_os_error(storage)
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, HydraException | OmegaConfBaseException):
        from agnews_exp.config.compose import explain_composition

        return explain_composition(error, [a for a in sys.argv[1:] if "=" in a and not a.startswith("-")])
    return None


def _raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _say(text: str) -> None:
    print(f"error: {text}" if not text.startswith(("Interrupted", "Terminated")) else text, file=sys.stderr)
