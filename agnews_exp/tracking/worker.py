"""The process that writes to MLflow: it mirrors a run's or a sweep's folder while work goes on there.

The folder is the message, so nothing is said to the worker but where to look. A pipe tells it that the work has ended,
or that whoever started it is gone; a worker that gets no answer from its store is left behind after a few seconds, and
`agnews sync` mirrors later what it could not.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import agnews_exp
from agnews_exp.core.errors import AgnewsError, first_line
from agnews_exp.core.process import calm_garbage_collection, explain_exit
from agnews_exp.tracking import record
from agnews_exp.tracking.mlflow_mirror import (
    State,
    Store,
    close_stale_runs,
    is_sweep,
    milliseconds,
    mirror,
    run_state,
    watched,
)
from agnews_exp.tracking.store import is_local, is_of_storage, quieten, release_reserve, tracking_uri

log = logging.getLogger(__name__)

MODULE = "agnews_exp.tracking.worker"
START_SECONDS = 60.0
"""How long the worker may take to begin: it imports MLflow."""
PATIENCE_SECONDS = {"server": 10.0, "local": 60.0}
"""How long, after the work has ended, the worker may be silent before it is left behind."""
STOPPED_SECONDS = 15.0
"""How long it may be silent when somebody asked the command to end."""
ORPHAN_SECONDS = 5.0
"""How long the worker goes on when whoever started it is gone."""
LOOK_SECONDS = 0.5
_RETRY_SECONDS = 10.0
_LAST_TRIES = (0.5, 1.5, 0.0)
"""Pauses after the tries that are made once the work has ended."""


class Mirroring:
    """A worker for one folder, as whoever works in the folder sees it; a tracker that fails costs a warning.

    The folder has all that is known at the beginning.
    """

    _process: subprocess.Popen[bytes] | None

    def __init__(self, folder: Path, plain: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, {key: plain[key] for key in ("paths", "tracking")}
        self._process = None
        self._mlruns = Path(plain["paths"]["mlruns_dir"])
        uri = tracking_uri(self._mlruns, plain["tracking"]["uri"])
        self._patience = PATIENCE_SECONDS["local" if is_local(uri) else "server"]

    def start(self) -> None:
        """Start the worker; returns at once. A job of a sweep needs none, for its sweep's worker sees its folder."""
        if not self._settings["tracking"]["enabled"] or is_sweep(self._folder.parent):
            _end_early()
            return
        try:
            self._process = _early.pop() if _early else _start()
            assert self._process.stdin is not None
            told = self._settings | {"folder": str(self._folder.resolve())}
            self._process.stdin.write(json.dumps(told, default=str).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            log.debug("no tracking worker", exc_info=True)
            self._warn(error.strerror or str(error))

    def finish(self, *, stopped: bool = False) -> str | None:
        """Let the worker look for the last time, and wait within reason; return why MLflow is not up to date, or None.

        ``stopped``: somebody asked the process to end, and waits for that.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            limit = STOPPED_SECONDS if stopped else max(START_SECONDS, self._patience)
            return self._drain(process, limit)
        except BaseException:  # a second Ctrl-C
            process.kill()
            raise
        finally:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _drain(self, process: subprocess.Popen[bytes], limit: float) -> str | None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        said = b""
        while True:
            patience = min(limit, self._patience if said else START_SECONDS)
            if not select.select([process.stdout], [], [], patience)[0]:
                process.kill()
                return self._warn(f"no answer within {patience:.0f} s")
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            said = (said + data).lstrip(b".") or b"."
        try:
            end = json.loads(said.lstrip(b"."))
        except ValueError:
            return self._warn(f"its process: {explain_exit(process.wait())}")
        return self._warn(str(end["failure"])) if end["failure"] else None

    def _warn(self, reason: str) -> str:
        warning = f"MLflow is not up to date: {reason}"
        log.warning("%s. The record is complete without it; log it later with: agnews sync", warning)
        return warning


def _start() -> subprocess.Popen[bytes]:
    package = Path(agnews_exp.__file__).resolve().parents[1]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        process_group=0,  # Ctrl-C is for those who work
    )


_early: list[subprocess.Popen[bytes]] = []
"""At most one worker that waits to be told a folder."""


def start_early(words: Sequence[str]) -> None:
    """Start a worker at the beginning of a command, so that it imports MLflow while Hydra composes and data are read.

    It does nothing until :meth:`Mirroring.start` tells it settings and folder; :func:`only_if` and the end of this
    process end one that is not wanted.

    Args:
        words: The command's words; those that ask for help or for no tracking need no worker.
    """
    other = any(word.startswith("-") and word not in ("-m", "--multirun") for word in words)
    if not other and "tracking=none" not in words and not _early:
        with suppress(OSError):  # the next try tells it
            _early.append(_start())
            atexit.register(_end_early)


@contextmanager
def only_if(wanted: bool) -> Iterator[None]:
    """Keep the worker that was started early where it is wanted, or start it; end one to whom nobody said anything.

    Args:
        wanted: Whether the run is tracked, and no job of a sweep, whose worker sees all jobs.
    """
    if wanted:
        start_early(())
    try:
        if not wanted:
            _end_early()
        yield
    finally:
        _end_early()


def _end_early() -> None:
    for process in _early:
        process.kill()
        process.communicate()
    _early.clear()


class Watch:
    """Mirrors a run's folder, or a sweep's with its jobs' folders, again and again until ``over`` is set."""

    def __init__(self, folder: Path, store: Store, over: threading.Event) -> None:
        self._folder, self._store, self._over = folder, store, over
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._known: dict[Path, tuple[str, State]] = {}
        self._monitors: dict[Path, Any] = {}

    def look(self, *, ended: bool) -> None:
        """Mirror what has changed since the last look; one folder that fails does not keep the others from MLflow.

        Raises:
            Exception: The first failure.
        """
        failure: Exception | None = None
        for folder in self._folders():
            now = self._changes(folder)
            if now == self._seen.get(folder) and not ended:
                continue
            try:
                self._mirror(folder, ended=ended)
                self._seen[folder] = now
            except FileNotFoundError:  # the folder goes away amid a look: a job is tried again, or was not needed
                if folder.is_dir():
                    raise
            except AgnewsError as error:  # a damaged record is the run's to tell
                log.debug("%s", error)
                self._seen[folder] = now
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
        if ended and is_sweep(self._folder):
            close_stale_runs(self._store)

    def _folders(self) -> list[Path]:
        if not is_sweep(self._folder):
            return [self._folder]
        jobs = [path.parent for path in self._folder.glob(f"*/{record.STATUS}")]
        return [*sorted(jobs, key=lambda path: (len(path.name), path.name)), self._folder]

    def _changes(self, folder: Path) -> tuple[int, ...]:
        """Return when the files that count were changed, in nanoseconds; 0 for those that are not there."""
        names = (folder / record.STATUS, folder / record.HISTORY, folder / "sweep.json")
        return tuple(_changed(path) for path in (*names, folder.parent / "jobs" / f"{folder.name}.json"))

    def _mirror(self, folder: Path, *, ended: bool) -> None:
        if not is_sweep(folder):
            state = run_state(folder, ended=ended)
            settings = record.RunFolder(folder).config() if state is not None else {}
            if state is None or not settings["tracking"]["enabled"]:
                return
            if state.status != "running":
                self._stop_monitor(folder)
        run_id = mirror(folder, self._store, ended=ended)
        if run_id is None or is_sweep(folder):
            return
        assert state is not None
        before, attempt = self._known.get(folder, (run_id, state))
        self._known[folder] = run_id, state
        if before != run_id and attempt.status == "running":  # an earlier attempt of a job, whose folder was cleared
            self._store.client.set_terminated(before, "FAILED" if self._is_own(attempt) else "KILLED")
        if state.status == "running":
            self._start_monitor(folder, settings, run_id)

    def _is_own(self, attempt: State) -> bool:
        """Return whether an attempt of a job belongs to the call that is watched, and not to one that was killed."""
        sweep = record.read_json(self._folder / "sweep.json") or {}
        begun = milliseconds(sweep.get("resumed") or sweep.get("created")) or 0
        # Amid the last look of a killed call the next one may already begin a job anew.
        return not self._over.is_set() and (attempt.started_ms or 0) >= begun

    def _start_monitor(self, folder: Path, plain: Mapping[str, Any], run_id: str) -> None:
        """Let MLflow sample processor, memory and GPU while a run works, unless its model is a classical one."""
        settings = plain["tracking"]
        asked = settings["system_metrics"]
        wanted = plain["model"]["family"] not in ("classical", "answers") if asked is None else bool(asked)
        if not wanted or folder in self._monitors:
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        interval = settings["system_metrics_interval"]
        self._monitors[folder] = SystemMetricsMonitor(run_id, sampling_interval=interval, resume_logging=True)  # type: ignore[no-untyped-call]
        self._monitors[folder].start()

    def _stop_monitor(self, folder: Path) -> None:
        if (monitor := self._monitors.pop(folder, None)) is not None:
            monitor.finish()


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def watch(folder: Path, store: Store, over: threading.Event) -> str | None:
    """Mirror a folder until ``over`` is set, and then for the last time; return what could not be mirrored, or None."""
    looking = Watch(folder, store, over)
    pause = LOOK_SECONDS
    while not over.wait(pause):
        try:
            looking.look(ended=False)
            pause = LOOK_SECONDS
        except Exception:  # the last look says it
            log.debug("tracking failure", exc_info=True)
            pause = _RETRY_SECONDS
    reason = ""
    for rest in _LAST_TRIES:
        try:
            looking.look(ended=True)
        except Exception as error:
            reason = first_line(error)
            if is_of_storage(error):
                release_reserve(Path(store.mlruns))
            time.sleep(rest)
        else:
            return None
    return reason


def main() -> None:
    """Be the worker: ``python -m agnews_exp.tracking.worker``, told folder and settings by a line on standard input."""
    # Whatever ends the work is the work's to tell; the pipe closes then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    calm_garbage_collection()
    starter = os.getppid()
    answers = os.dup(1)
    os.set_blocking(answers, False)
    os.dup2(2, 1)  # whatever MLflow prints must not end up among the answers
    over = threading.Event()

    def progress() -> None:
        with suppress(OSError):
            os.write(answers, b".")

    failure: str | None = "interrupted"
    try:
        _import_mlflow()
        settings = json.loads(sys.stdin.buffer.readline() or "null")
        if settings is None:
            os._exit(0)
        threading.Thread(target=_listen, args=(over, starter), daemon=True).start()
        progress()
        failure = _watch_alone(Path(settings["folder"]), settings, over, progress)
    except Exception as error:
        failure = first_line(error)
    finally:
        with suppress(OSError):
            os.write(answers, json.dumps({"failure": failure}).encode())
        # No exit handlers: MLflow's would wait for a server that does not answer.
        os._exit(0)


def _import_mlflow() -> None:
    """Import MLflow and what it imports late, which takes seconds; from then on it is the store that is waited for."""
    quieten()
    from mlflow import models, pyfunc  # noqa: F401 - what a model is logged with
    from mlflow.store.tracking import sqlalchemy_workspace_store  # noqa: F401 - what a local store is made of
    from sqlalchemy.orm import configure_mappers

    configure_mappers()


def _watch_alone(folder: Path, settings: Mapping[str, Any], over: threading.Event, progress: Any) -> str | None:
    """Watch a folder when no other worker does, such as that of a killed call, which ends within seconds."""
    with watched(folder):
        return watch(folder, Store(settings, progress), over)


def _listen(over: threading.Event, starter: int) -> None:
    """Note the end of the work, and end the process soon after whoever started it is gone."""
    sys.stdin.buffer.read()
    over.set()
    while os.getppid() == starter:
        time.sleep(LOOK_SECONDS)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
