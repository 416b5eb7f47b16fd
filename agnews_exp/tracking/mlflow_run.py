"""One MLflow run from start to end: opened by us, closed by us, on every way out."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

import agnews_exp
from agnews_exp.core.errors import Pruned
from agnews_exp.core.process import Terminated, explain_exit, find_os_error
from agnews_exp.tracking import record
from agnews_exp.tracking.mirror import OpenRun
from agnews_exp.tracking.record import NAMES, PARENT_RUN
from agnews_exp.tracking.store import is_of_storage, release_reserve

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
        module: What to start; its ``main`` answers requests (see :mod:`agnews_exp.tracking.mlflow_run`).
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


MODULE = "agnews_exp.tracking.mlflow_run"


class TrackingProcess:
    """Stands for an :class:`agnews_exp.tracking.mirror.OpenRun` in another process.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.
    """

    def __init__(
        self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
    ) -> None:
        self._setup = run_setup(plain, folder, environment, resumed=resumed)
        self._pipe = TrackerPipe(MODULE)

    def open(self) -> None:
        """Start the process and let it open the run; returns at once."""
        self._pipe.send("open", **self._setup)

    def opened(self) -> str | None:
        """Wait until the run is open and return its id.

        Raises:
            TrackingFailure: It could not be opened.
        """
        return str(self._pipe.answer(1)) if self._pipe.started else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Classical models have no training curves."""
        raise NotImplementedError

    def mirror(self) -> None:
        """Log the finished record and wait for it.

        Raises:
            TrackingFailure: It could not be logged.
        """
        self._pipe.answer(self._pipe.send("mirror"))

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """End the run and the process.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.

        Raises:
            TrackingFailure: The run could not be ended.
        """
        if not self._pipe.started:
            return
        try:
            self._pipe.answer(self._pipe.send("close", status=status, pruned=pruned))
        finally:
            self._pipe.stop()


def run_setup(
    plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
) -> dict[str, Any]:
    """Return what the request ``open`` says of a run."""
    setup = {"plain": plain, "folder": str(folder.resolve()), "environment": environment, "resumed": resumed}
    return {**setup, "argv": sys.argv}


class Tracker:
    """Does in the tracking process what a run asks for; every method that is no private one is a request."""

    last: ClassVar[str] = "close"
    """The request after which the process ends."""

    def __init__(self) -> None:
        from agnews_exp.tracking.mirror import OpenRun

        self._make = OpenRun
        self._run: OpenRun | None = None

    def open(
        self,
        *,
        plain: Mapping[str, Any],
        folder: str,
        environment: Mapping[str, Any],
        resumed: bool,
        argv: list[str],
    ) -> str | None:
        """Open the run and return its id."""
        sys.argv = argv  # MLflow tags the run with the program's name
        self._run = self._make(plain, Path(folder), environment, resumed=resumed)
        self._run.open()
        return self._run.run_id

    def mirror(self) -> None:
        """Log the finished record."""
        if self._run is not None:
            self._run.mirror()

    def close(self, *, status: str, pruned: list[Any] | None) -> None:
        """End the run."""
        if self._run is not None:
            self._run.close(status, (pruned[0], pruned[1]) if pruned else None)

    def abandoned(self) -> None:
        """End what is still open as KILLED: whoever asked has gone without a word."""
        if self._run is not None:
            with suppress(Exception):
                self._run.close("KILLED")


def serve(tracker: Tracker, requests: BinaryIO, answers: int) -> None:
    """Do what is asked for, one request a line, until the last one.

    When whoever asks is gone, what was asked for before is done still, for ``ORPHAN_SECONDS``: a killed sweep's jobs
    have finished before MLflow was told of them.
    """
    from agnews_exp.tracking.store import is_of_storage

    orphaned: float | None = None
    try:
        for line in requests:
            if orphaned is not None and time.monotonic() - orphaned > ORPHAN_SECONDS:
                return
            asked = json.loads(line)
            request = str(asked.pop("request"))
            answer: dict[str, Any] = {"error": None, "storage": False, "value": None}
            try:
                answer["value"] = getattr(tracker, request)(**asked)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                answer |= {"error": reason, "storage": is_of_storage(error)}
            try:
                os.write(answers, json.dumps(answer).encode() + b"\n")
            except BrokenPipeError:
                orphaned = time.monotonic() if orphaned is None else orphaned
            if request == tracker.last:
                return
    finally:
        # Perhaps before the run was open; after a proper end this changes nothing.
        tracker.abandoned()


def answer_requests(make: type[Tracker]) -> None:
    """Be the tracking process: read requests from standard input, answer on standard output, end with the process.

    Args:
        make: Makes the one who answers.
    """
    # Whatever ends the run is the run's to tell; without it the pipe closes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from agnews_exp.core.process import calm_garbage_collection

    calm_garbage_collection()
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever MLflow prints must not end up among the answers
    code = 1
    try:
        serve(make(), os.fdopen(requests, "rb"), answers)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # No exit handlers: MLflow's would call a run FINISHED whose process is gone.
        os._exit(code)


if __name__ == "__main__":
    answer_requests(Tracker)


log = logging.getLogger(__name__)

_AHEAD = 96
"""How many requests may be unanswered: some thirty jobs."""

_current: list[SharedTracker] = []


def shared_tracker() -> SharedTracker | None:
    """Return the tracker that the runs of this process share, if there is one."""
    return _current[-1] if _current else None


class SharedTracker:
    """A tracking process that several runs use, one after the other.

    Args:
        pipe: To the process.
        mlruns: Folder of the local store.
    """

    def __init__(self, pipe: TrackerPipe, mlruns: Path) -> None:
        self._pipe, self._mlruns = pipe, mlruns
        self._unanswered: deque[tuple[int, str]] = deque()
        self._parent: int | None = None
        self._announced = False

    @contextmanager
    def used(self) -> Iterator[SharedTracker]:
        """Let the runs of this process use it until the block ends, when all that was asked for has been done."""
        _current.append(self)
        try:
            yield self
        finally:
            _current.remove(self)
            if self._announced:
                os.environ.pop(PARENT_RUN, None)
            self.settle()
            self._pipe.stop()

    def ask(self, what: str, request: str, **arguments: Any) -> int:
        """Ask for something that nobody waits for; what could not be done is a warning later.

        Args:
            what: The request in words, for the warning.
            request: Its name.
            arguments: Its arguments.

        Returns:
            The request's number.

        Raises:
            TrackingFailure: The process is gone.
        """
        number = self._pipe.send(request, **arguments)
        self._unanswered.append((number, what))
        self.settle(_AHEAD)
        return number

    def settle(self, ahead: int = 0) -> None:
        """Wait until no more than ``ahead`` requests are unanswered."""
        while len(self._unanswered) > ahead:
            number, what = self._unanswered.popleft()
            try:
                self._pipe.answer(number)
            except TrackingFailure as failure:
                if failure.storage:
                    release_reserve(self._mlruns)
                log.warning("MLflow could not %s: %s. Log it later with: agnews sync", what, failure)
                if not self._pipe.started:
                    self._unanswered.clear()

    def answer(self, number: int) -> Any:
        """Wait for the answer to a request.

        Raises:
            TrackingFailure: It could not be done.
        """
        return self._pipe.answer(number)

    def parent_asked(self, number: int) -> None:
        """Remember which request opens the parent run."""
        self._parent = number

    def announce_parent(self) -> None:
        """Put the parent run's id where a run looks for it that speaks to MLflow by itself."""
        if self._parent is not None and not os.environ.get(PARENT_RUN):
            with suppress(TrackingFailure):
                os.environ[PARENT_RUN] = str(self.answer(self._parent))
                self._announced = True


class SharedRun:
    """Stands for an :class:`agnews_exp.tracking.mirror.OpenRun` in the shared process.

    Args:
        tracker: The shared tracker.
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.
    """

    def __init__(
        self,
        tracker: SharedTracker,
        plain: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, Any],
        *,
        resumed: bool,
    ) -> None:
        self._tracker, self._number = tracker, 0
        self._setup = run_setup(plain, folder, environment, resumed=resumed)
        self._what = f"of {folder.name}"

    def open(self) -> None:
        """Ask for the run to be opened."""
        job = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
        self._number = self._tracker.ask(f"open the run {self._what}", "open_job", job=job, **self._setup)

    def opened(self) -> str | None:
        """Wait until the run is open and return its id.

        Raises:
            TrackingFailure: It could not be opened.
        """
        return str(self._tracker.answer(self._number)) if self._number else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Classical models have no training curves."""
        raise NotImplementedError

    def mirror(self) -> None:
        """Ask for the finished record to be logged."""
        self._tracker.ask(f"log the results {self._what}", "mirror")

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """Ask for the run to be ended.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.
        """
        if self._number:
            self._tracker.ask(f"close the run {self._what}", "close", status=status, pruned=pruned)


class MlflowRun:
    """Context manager around a run; a tracker that fails costs a warning, never the run.

    The run of a classical model is tracked by another process, unless MLflow is imported already (in a sweep's job that
    has a process to itself): it is open soon after the block is entered, and nobody waits for that. The jobs that a
    sweep runs in its own process share one such process, and do not wait for their end in MLflow either.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.

    Attributes:
        warning: What MLflow could not do, for the summary; None when all went well.
    """

    def __init__(
        self,
        plain: Mapping[str, Any],
        folder: record.RunFolder,
        environment: Mapping[str, Any],
        *,
        resumed: bool = False,
    ) -> None:
        self._enabled = bool(plain["tracking"]["enabled"])
        self._mlruns = Path(plain["paths"]["mlruns_dir"])
        self._run = _backend(plain, folder.path, environment, resumed=resumed)
        self._is_open = False
        self.warning: str | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            try:
                self._is_open = self._try("open the run", self._run.open)
            except BaseException:
                # A signal while it opens: __exit__ will not be called, and MLflow would call the run FINISHED at exit.
                self._try("close the run", lambda: self._run.close("KILLED"))
                raise
        return self

    @property
    def run_id(self) -> str | None:
        """MLflow's id, when the run is open; None when nothing is tracked."""
        found: list[str | None] = []
        if self._is_open:
            self._is_open = self._try("open the run", lambda: found.append(self._run.opened()))
        return found[0] if found else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Take a point of some training curves; never raises."""
        if self._is_open:
            self._run.log_curves(values, step, timestamp_ms)

    def log_finished(self) -> None:
        """Mirror the finished record: metrics, tags, artifacts, model."""
        if self._is_open and (isinstance(self._run, SharedRun) or self.run_id is not None):
            self._try("log the results", self._run.mirror)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self._enabled:
            return
        if find_os_error(error) is not None:
            release_reserve(self._mlruns)
        killed = isinstance(error, KeyboardInterrupt | Terminated)
        # MLflow knows no PRUNED. Such a run ended as it was decided: FINISHED, as Optuna's own callback has it, and
        # tags say how far it came.
        good = error is None or isinstance(error, Pruned)
        status = "KILLED" if killed else "FINISHED" if good else "FAILED"
        pruned = (error.step, error.value) if isinstance(error, Pruned) else None
        self._try("close the run", lambda: self._run.close(status, pruned))

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        """Do it; return whether it went well, and warn when not."""
        try:
            action()
        except Exception as error:
            if error.storage if isinstance(error, TrackingFailure) else is_of_storage(error):
                release_reserve(self._mlruns)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.warning = f"MLflow could not {what}: {reason}"
            log.warning("%s. The run's record is complete without it; log it later with: agnews sync", self.warning)
            log.debug("tracking failure", exc_info=True)
            return False
        return True


def _backend(
    plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
) -> OpenRun | TrackingProcess | SharedRun:
    """Return who speaks to MLflow for this run."""
    classical, shared = plain["model"]["family"] == "classical", shared_tracker()
    if shared is not None and classical:
        return SharedRun(shared, plain, folder, environment, resumed=resumed)
    if shared is not None:
        shared.announce_parent()
    backend = TrackingProcess if classical and "mlflow" not in sys.modules else OpenRun
    return backend(plain, folder, environment, resumed=resumed)
