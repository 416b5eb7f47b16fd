"""A warm command line: a server that has the imports done and forks a process for every call.

A call gives what ``subprocess.run`` gives: exit code, output and errors of ``python run.py ...`` or ``python -m
agnews_exp.cli ...`` in a process, a folder and an environment of its own. Only the imports were done before: those of
a classical run, which must not have torch. What such a run starts itself (its tracker, the fork server of a sweep) is
warm too: two spare processes are forked before the program begins, and become its children when it asks for them.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

MAY_DIFFER = ("AGNEWS_", "HYDRA_", "MLFLOW_", "COLUMNS", "LINES", "PYTHONPATH", "PATH", "NO_COLOR", "PYTEST_")
"""Variables that nobody reads while Python starts or a library is imported; a call with another one starts cold."""

PRELOAD = (
    "numba", "filelock", "psutil", "alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite",
    "opentelemetry.sdk.metrics.export", "mlflow", "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.tracing.processor.base_mlflow", "sklearn.calibration",
    "sklearn.dummy", "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.naive_bayes",
    "sklearn.neighbors", "sklearn.pipeline", "sklearn.svm", "pyarrow.parquet", "pyarrow.pandas_compat", "optuna",
    "rich.console", "rich.table", "scipy.stats", "jinja2", "hydra._internal.logging_config",
)  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
           "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT")  # fmt: skip
"""Variables that a spare process may get: it sets what the libraries have read already."""
NOT_LOADED = ("torch", "transformers", "lightning", "pytorch_lightning", "torchmetrics", "onnx", "onnxruntime")
ADDRESS = "PYTEST_WARM_PYTHON"
_OFFLINE = {"HF_HUB_OFFLINE": "1"}


def _shaping(env: Mapping[str, str], may_differ: tuple[str, ...] = MAY_DIFFER) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(may_differ)}


def _send(link: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    content = json.dumps(message).encode()
    socket.send_fds(link, [len(content).to_bytes(8, "big")], descriptors)
    link.sendall(content)


def _receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(link, 8, 64)
    if not head:
        return None
    return json.loads(link.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)), list(descriptors)


class WarmPython:
    """A server process: the one at the address in the environment, or its own, started with the first call."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

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
            message = {"words": list(words), "env": dict(env), "cwd": str(cwd), "targets": [0, 1, 2]}
            message["spares"] = 2 if words[0] != "-m" or words[2:3] == ["run"] else 0
            _send(control, message, [theirs.fileno(), 0, *writers])
        finally:
            for descriptor in (*writers, theirs.detach()):
                os.close(descriptor)
        texts = ["", ""]

        def read(number: int) -> None:
            with open(readers[number]) as stream:  # noqa: PTH123
                texts[number] = stream.read()

        threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 1)]
        for thread in threads:
            thread.start()
        with reply, reply.makefile("r") as answers:
            pid = int(answers.readline())
            reply.settimeout(timeout)
            try:
                code = int(answers.readline())
                for thread in threads:
                    thread.join(timeout)
            except BaseException as error:
                os.kill(pid, signal.SIGKILL)
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(list(words), timeout, *texts) from None
                raise
        return subprocess.CompletedProcess([sys.executable, *words], code, *texts)

    def _start(self) -> socket.socket:
        if address := os.environ.get(ADDRESS):
            self._control = socket.socket(socket.AF_UNIX)
            self._control.connect(address)
        else:
            self._control, theirs = socket.socketpair()
            self._server = start_server(theirs)
        atexit.register(self.close)
        assert self._control.recv(1) == b"!", "the warm process could not begin: see its traceback above"
        return self._control

    def close(self) -> None:
        """Leave the server; it ends with the last who uses it."""
        if self._control is not None:
            self._control.close()
            if self._server is not None:
                self._server.wait(30)
            self._control = None


WARM = WarmPython()


def start_server(link: socket.socket) -> subprocess.Popen[bytes]:
    """Start a server for the other end of a pair of sockets, or for all who connect to a listening one."""
    own = ("MLFLOW_", "AGNEWS_", "HYDRA_", "PYTHONPATH")
    with link:
        return subprocess.Popen(
            [sys.executable, __file__, str(link.fileno())],
            pass_fds=[link.fileno()],
            env={name: value for name, value in (os.environ | _OFFLINE).items() if not name.startswith(own)},
        )


def share_server(folder: Path) -> subprocess.Popen[bytes]:
    """Start one server for all test processes that this one starts; it is to be ended by who started it."""
    os.environ[ADDRESS] = str(folder / "warm")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ[ADDRESS])
    listener.listen(64)
    return start_server(listener)


def serve(link: socket.socket) -> None:
    """Fork a process for every message, and say its pid and its exit code on the socket that came with it.

    Args:
        link: The socket of one client, whose end is the server's end, or a listening one.
    """
    listening = bool(link.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    clients: set[socket.socket] = set()
    running: dict[int, tuple[int, socket.socket]] = {}

    def welcome(client: socket.socket) -> None:
        with suppress(BrokenPipeError):
            client.sendall(b"!")
        clients.add(client)

    if not listening:
        welcome(link)
    while listening or clients:
        ready, _, _ = select.select([*([link] if listening else []), *clients, *running], [], [])
        for watch in set(ready) & set(running):
            pid, reply = running.pop(watch)
            os.close(watch)
            _, status = os.waitpid(pid, 0)
            with reply, suppress(BrokenPipeError):
                reply.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        if listening and link in ready:
            welcome(link.accept()[0])
        for client in set(ready) & clients:
            received = _receive(client)
            if received is None:
                clients.remove(client)
                client.close()
                continue
            _answer(received, running)


def _answer(received: tuple[dict[str, Any], list[int]], running: dict[int, tuple[int, socket.socket]]) -> None:
    """Fork the process that a message asks for; it stands in ``running`` under its pidfd until it has ended."""
    message, (answers, *output) = received
    assert threading.active_count() == 1, f"the server must not have threads: {threading.enumerate()}"
    pid = os.fork()
    if pid == 0:
        _become(message, output)
    for descriptor in output:
        os.close(descriptor)
    reply = socket.socket(fileno=answers)
    running[os.pidfd_open(pid)] = (pid, reply)
    reply.sendall(b"%d\n" % pid)


def _become(message: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """In a forked process: take files, folder and environment of a call, run it, and end as Python ends."""
    code: object = 1
    try:
        _take_files(message["targets"], descriptors)
        if message.get("session"):
            os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, message.get("mask", ()))
        os.environ.clear()
        os.environ.update(message["env"])
        os.chdir(message["cwd"])
        sys.modules["numpy"].random.seed()
        if "threads" in message:
            sys.modules["threadpoolctl"].threadpool_limits(message["threads"])
        if message.get("spares"):
            _keep_spares(message["spares"])
        _run(message["words"])
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    with suppress(BaseException):
        threading._shutdown()
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _take_files(targets: Sequence[int], descriptors: Sequence[int]) -> None:
    """Give the received files their numbers, close all others, and open Python's three streams on them anew."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 200) for descriptor in descriptors]
    for target, descriptor in zip(targets, high, strict=True):
        os.dup2(descriptor, target)
    for number in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {0, 1, 2, *targets}:
        with suppress(OSError):
            os.close(number)
    encoding = sys.__stdout__.encoding
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115


def _keep_spares(count: int) -> None:
    """Fork processes that wait to become the Python children of this one, which then are children as any other."""
    spares = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for link in (ours, *(other for _, other in spares)):
                link.close()
            received = _receive(theirs)
            if received is None:  # nobody needed it
                os._exit(0)
            _become(*received)
        theirs.close()
        spares.append((pid, ours))
    import _posixsubprocess

    real, may_differ = _posixsubprocess.fork_exec, MAY_DIFFER + THREADS
    begun_with, threads = _shaping(os.environ, may_differ), os.environ.get("OMP_NUM_THREADS")

    def fork_exec(*call: Any) -> int:
        words = [os.fsdecode(word) for word in call[0]]
        keep, cwd, env, streams = *call[3:6], (call[6], call[9], call[11])
        report, session, group, before = call[13], call[15], call[16], call[-2]
        settings = dict(os.environ) if env is None else dict(os.fsdecode(pair).split("=", 1) for pair in env)
        ours = _module_of(words) or "multiprocessing.forkserver" in words[-1]
        if not (spares and ours) or before is not None or _shaping(settings, may_differ) != begun_with:
            return real(*call)
        pid, link = spares.pop()
        files = {number: number if given == -1 else given for number, given in enumerate(streams)}
        files |= {number: number for number in keep if number != report}
        message = {"words": words[1:], "env": settings, "cwd": os.fsdecode(cwd or Path.cwd()), "targets": list(files)}
        message |= {"session": session, "mask": [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())]}
        if (asked := settings.get("OMP_NUM_THREADS", threads)) != threads:
            message["threads"] = int(asked)
        if group >= 0:
            os.setpgid(pid, group)
        with link:
            _send(link, message, list(files.values()))
        return pid

    _posixsubprocess.fork_exec = subprocess._fork_exec = fork_exec


def _module_of(words: Sequence[str]) -> str | None:
    """Return the module of ours that ``python -m`` is to run."""
    named = "-m" in words and words[words.index("-m") + 1]
    return named if named and named.startswith("agnews_exp.") else None


def _run(words: list[str]) -> None:
    """Run a script, ``-m module`` or ``-c code`` as the main program; ``-P`` and ``-B`` may precede it."""
    flags = [word for word in words[:2] if word in ("-P", "-B")]
    words = words[len(flags) :]
    first = {"-m": str(Path.cwd()), "-c": ""}.get(words[0]) or str(Path(words[0]).resolve().parent)
    more = [str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [*([] if "-P" in flags else [first]), *more, *sys.path[1:]]
    importlib.invalidate_caches()
    for place in more:  # Python runs it when it starts
        if (custom := Path(place, "sitecustomize.py")).is_file():
            runpy.run_path(str(custom), run_name="sitecustomize")
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(words[1], main.__dict__)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


class _NotLoaded:
    """Refuses what a classical run does not import."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name.partition(".")[0] in NOT_LOADED:
            raise ImportError(name)


def preload() -> None:
    """Import what commands need, and let parsers and kernels set themselves up; starts no thread."""
    import agnews_exp

    sys.meta_path.insert(0, _NotLoaded())  # our modules that need torch as soon as they are imported stay out
    ours = [module.name for module in pkgutil.walk_packages(agnews_exp.__path__, "agnews_exp.", onerror=lambda _: None)]
    for name in (*PRELOAD, *ours):
        with suppress(ImportError):  # also an extra that is not installed
            importlib.import_module(name)
    from agnews_exp.config.compose import compose_config, register
    from agnews_exp.models.persistence import import_skops
    from agnews_exp.ngrams import TfidfVectorizer
    from agnews_exp.sweeps import register_plugins

    import_skops()
    del sys.meta_path[0]
    register()
    register_plugins()
    compose_config(["data=sample", "seed=1", "data_fraction=0.5", "hydra.run.dir='/a b/0'"])
    TfidfVectorizer(n_jobs=1).fit_transform(["one text", "another text"])


def main() -> None:
    """Entry point of the server: ``warm.py DESCRIPTOR``."""
    link = socket.socket(fileno=int(sys.argv[1]))
    with redirect_stdout(sys.stderr):
        preload()
    gc.collect()
    gc.freeze()
    serve(link)


if __name__ == "__main__":
    main()
