"""A run's MLflow side in a process of its own, so that the run need not wait for it.

Importing MLflow and opening its store take longer than many classical fits. Beside the run they cost it nothing, and
its own imports and warnings stay apart from MLflow's. Requests and answers are JSON lines over two pipes. When the run
dies, its end of the pipe closes, and this process closes the MLflow run as KILLED and goes too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import agnews_exp

_CLOSE_SECONDS = 10
PATIENCE_SECONDS = 120.0
"""How long a run waits for an answer; a server that takes longer gets the rest by `agnews sync`, which waits."""


class TrackingFailure(Exception):
    """MLflow, in the other process, could not do something.

    Args:
        reason: The first line of its error.
        storage: Whether the disk was the reason.
    """

    def __init__(self, reason: str, *, storage: bool = False) -> None:
        super().__init__(reason)
        self.storage = storage


class TrackingProcess:
    """Stands for an :class:`agnews_exp.tracking.open_run.OpenRun` in another process.

    Args:
        plain: The resolved config.
        folder: The run's record.
        environment: :func:`agnews_exp.tracking.environment.describe_environment`.
        resumed: Whether the folder's earlier MLflow run goes on.
    """

    def __init__(
        self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, Any], *, resumed: bool
    ) -> None:
        setup = {"plain": plain, "folder": str(folder.resolve()), "environment": environment, "resumed": resumed}
        self._setup = {**setup, "argv": sys.argv}
        self._process: subprocess.Popen[bytes] | None = None
        self._sent = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def open(self) -> None:
        """Start the process and let it open the run; returns at once."""
        package = Path(agnews_exp.__file__).resolve().parents[1]
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agnews_exp.tracking.tracking_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            process_group=0,  # Ctrl-C is the run's: it says what becomes of the MLflow run
        )
        self._send("open", **self._setup)

    def opened(self) -> str | None:
        """Wait until the run is open and return its id.

        Raises:
            TrackingFailure: It could not be opened.
        """
        return str(self._answer(1)["run_id"]) if self._process is not None else None

    def log_curves(self, values: Mapping[str, float], step: int, timestamp_ms: int) -> None:
        """Classical models have no training curves."""
        raise NotImplementedError

    def mirror(self) -> None:
        """Log the finished record and wait for it.

        Raises:
            TrackingFailure: It could not be logged.
        """
        self._answer(self._send("mirror"))

    def close(self, status: str, pruned: tuple[int, float] | None = None) -> None:
        """End the run and the process.

        Args:
            status: MLflow's word for how it ended.
            pruned: Step and value at which a search gave up on it.

        Raises:
            TrackingFailure: The run could not be ended.
        """
        process, number = self._process, None
        if process is None:
            return
        try:
            number = self._send("close", status=status, pruned=pruned)
            self._answer(number)
        finally:
            self._process = None
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            try:
                process.wait(_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _send(self, request: str, **arguments: Any) -> int:
        """Send a request and return its number, counted from 1."""
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"request": request, **arguments}, default=str)
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        self._sent += 1
        return self._sent

    def _answer(self, number: int) -> dict[str, Any]:
        """Wait for an answer; those to earlier requests, whose waiting was interrupted, come before it."""
        assert self._process is not None
        assert self._process.stdout is not None
        while number not in self._answers:
            line = self._read_line()
            if not line:
                raise self._gone()
            self._answers[len(self._answers) + 1] = json.loads(line)
        answer = self._answers[number]
        if answer["error"] is not None:
            raise TrackingFailure(answer["error"], storage=answer["storage"])
        return answer

    def _read_line(self) -> bytes:
        """Return the next answer, empty when the process is gone; one that is silent for too long is given up."""
        process = self._process
        assert process is not None
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
            self._process = None
            raise TrackingFailure(f"no answer within {PATIENCE_SECONDS:.0f} s")
        return line

    def _gone(self) -> TrackingFailure:
        assert self._process is not None
        try:
            code = str(self._process.wait(_CLOSE_SECONDS))
        except subprocess.TimeoutExpired:
            code = "unknown"
        return TrackingFailure(f"the tracking process ended (exit code {code})")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Do what the run asks for, one request a line, until it closes the run or is gone."""
    from agnews_exp.tracking.open_run import OpenRun
    from agnews_exp.tracking.store import is_of_storage

    run: OpenRun | None = None
    try:
        for line in requests:
            asked = json.loads(line)
            answer: dict[str, Any] = {"error": None, "storage": False, "run_id": None}
            try:
                if asked["request"] == "open":
                    sys.argv = asked["argv"]  # MLflow tags the run with the program's name
                    folder = Path(asked["folder"])
                    run = OpenRun(asked["plain"], folder, asked["environment"], resumed=asked["resumed"])
                    run.open()
                elif run is not None and asked["request"] == "mirror":
                    run.mirror()
                elif run is not None:
                    run.close(asked["status"], tuple(asked["pruned"]) if asked["pruned"] else None)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                answer |= {"error": reason, "storage": is_of_storage(error)}
            answer["run_id"] = run.run_id if run is not None else None
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
            if asked["request"] == "close":
                return
    finally:
        # Gone without a word, perhaps before the run was open; after a proper end this changes nothing.
        if run is not None:
            with suppress(Exception):
                run.close("KILLED")


def main() -> None:
    """Entry point: ``python -m agnews_exp.tracking.tracking_process``."""
    # Whatever ends the run is the run's to tell; without it the pipe closes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from agnews_exp.config.garbage import calm_garbage_collection

    calm_garbage_collection()
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever MLflow prints must not end up among the answers
    code = 1
    try:
        serve(os.fdopen(requests, "rb"), os.fdopen(answers, "wb"))
        code = 0
    except BrokenPipeError:
        pass  # the run is gone and wants no answer
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # No exit handlers: MLflow's would call a run FINISHED whose process is gone.
        os._exit(code)


if __name__ == "__main__":
    main()
