"""A warm command line: a server that has the imports done and forks a process for every call.

A call gives what ``subprocess.run`` gives: exit code, output and errors of ``python run.py ...`` or ``python -m
agnews_exp.cli ...`` in a process, a folder and an environment of its own. Only the imports were done before: those of a
classical run, which must not have torch.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MAY_DIFFER = ("AGNEWS_", "HYDRA_", "MLFLOW_", "COLUMNS", "LINES", "PYTHONPATH", "PATH", "NO_COLOR", "PYTEST_")
"""Variables that nobody reads while Python starts or a library is imported; a call with another one starts cold."""

PRELOAD = (
    "numba", "filelock", "psutil", "alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite",
    "opentelemetry.sdk.metrics.export", "mlflow", "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.tracing.processor.base_mlflow", "sklearn.calibration",
    "sklearn.dummy", "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.naive_bayes",
    "sklearn.neighbors", "sklearn.pipeline", "sklearn.svm", "pyarrow.parquet", "pyarrow.pandas_compat",
    "matplotlib.backends.backend_agg", "matplotlib.figure", "optuna", "rich.console", "rich.table", "scipy.stats",
    "jinja2", "hydra._internal.logging_config", "agnews_exp.experiment", "agnews_exp.ngrams",
    "agnews_exp.features.build", "agnews_exp.report.build", "agnews_exp.runners.sklearn_runner",
    "agnews_exp.runners.cross_validation", "agnews_exp.tracking.mirror", "agnews_exp.tracking.logged_model",
    "agnews_exp.analyses.performing", "agnews_exp.analyses.commands", "agnews_exp.analyses.exploration.commands",
    "agnews_exp.compare.commands", "agnews_exp.compare.summary", "agnews_exp.serving.commands",
    "agnews_exp.sweeps.commands", "agnews_exp.study.session", "agnews_exp.models.persistence",
    "agnews_exp.data.bundled", "agnews_exp.data.csv_files",
)  # fmt: skip


class WarmPython:
    """A server process, started with the first call, and ended with this process."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None

    def can_run(self, words: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a forked process is as good as a new one: our entry points, and no variable that shapes a start."""
        ours = list(words[:2]) == ["-m", "agnews_exp.cli"] or words[0].endswith("/run.py")
        return ours and hasattr(os, "pidfd_open") and _shaping(env) == _shaping(os.environ | _OFFLINE)

    def run(
        self, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, as ``subprocess.run([sys.executable, *words], ...)`` does.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds, and was killed.
        """
        control = self._control or self._start()
        reply, theirs = socket.socketpair()
        readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        try:
            message = json.dumps({"words": list(words), "env": dict(env), "cwd": str(cwd)}).encode()
            socket.send_fds(control, [len(message).to_bytes(8, "big")], [theirs.fileno(), *writers])
            control.sendall(message)
        finally:
            for descriptor in (*writers, theirs.detach()):
                os.close(descriptor)
        texts: list[str] = ["", ""]

        def read(number: int) -> None:
            with open(readers[number], errors="strict") as stream:  # a descriptor
                texts[number] = stream.read()

        threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 1)]
        for thread in threads:
            thread.start()
        with reply, reply.makefile("r") as answers:
            reply.settimeout(timeout)
            pid = int(answers.readline())
            try:
                code = int(answers.readline())
                for thread in threads:
                    thread.join(timeout)
            except BaseException as error:
                os.kill(pid, signal.SIGKILL)
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(list(words), timeout, texts[0], texts[1]) from None
                raise
        return subprocess.CompletedProcess([sys.executable, *words], code, texts[0], texts[1])

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={
                k: v for k, v in (os.environ | _OFFLINE).items() if not k.startswith(("MLFLOW_", "AGNEWS_", "HYDRA_"))
            },
        )
        theirs.close()
        atexit.register(self.close)
        return self._control

    def close(self) -> None:
        """End the server."""
        if self._control is not None:
            self._control.close()
            self._server.wait(30)
            self._control = None


WARM = WarmPython()
_OFFLINE = {"HF_HUB_OFFLINE": "1"}


def _shaping(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(MAY_DIFFER)}


def serve(control: socket.socket) -> None:
    """Fork a process for every message, and say its pid and its exit code on the socket that came with it."""
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([control, *running], [], [])
        for watch in set(ready) - {control}:
            pid, reply = running.pop(watch)
            os.close(watch)
            _, status = os.waitpid(pid, 0)
            with reply, suppress(BrokenPipeError):
                reply.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        if control not in ready:
            continue
        head, descriptors, _, _ = socket.recv_fds(control, 8, 3)
        if not head:
            return
        message = json.loads(control.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
        reply = socket.socket(fileno=descriptors[0])
        assert threading.active_count() == 1, f"the server must not have threads: {threading.enumerate()}"
        pid = os.fork()
        if pid == 0:
            for inherited in (control, reply, *(r for _, r in running.values())):
                inherited.close()
            for watch in running:
                os.close(watch)
            _become(message, descriptors[1:])
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        running[os.pidfd_open(pid)] = (pid, reply)
        reply.sendall(b"%d\n" % pid)


def _become(message: Mapping, output: Sequence[int]) -> NoReturn:
    """In the forked process: take folder, environment and output of the call, run it, and end as Python ends."""
    code = 1
    try:
        for target, descriptor in enumerate(output, start=1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        encoding = sys.__stdout__.encoding
        sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(message["env"])
        os.chdir(message["cwd"])
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        _run(message["words"])
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            threading._shutdown()
        with suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code & 0xFF)


def _run(words: list[str]) -> None:
    """Run ``run.py`` or ``-m agnews_exp.cli`` as the main program."""
    first = str(Path.cwd()) if words[0] == "-m" else str(Path(words[0]).resolve().parent)
    more = [str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [first, *more, *sys.path[1:]]
    importlib.invalidate_caches()
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def preload() -> None:
    """Import what commands need, and let parsers and kernels set themselves up; starts no thread."""
    for name in PRELOAD:
        with suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    from agnews_exp.config.compose import compose_config, register
    from agnews_exp.models.persistence import import_skops
    from agnews_exp.ngrams import TfidfVectorizer
    from agnews_exp.sweeps import register_plugins

    import_skops()
    register()
    register_plugins()
    compose_config(["data=sample", "seed=1", "data_fraction=0.5", "hydra.run.dir='/a b/0'"])
    TfidfVectorizer(n_jobs=1).fit_transform(["one text", "another text"])


def main() -> None:
    """Entry point of a server: ``warm.py DESCRIPTOR``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    control = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.redirect_stdout(sys.stderr):
        preload()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(control)


if __name__ == "__main__":
    main()
