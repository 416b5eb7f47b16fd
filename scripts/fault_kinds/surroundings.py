"""A clock that jumps, memory and files that run out, databases that others hold, servers that fail."""

from __future__ import annotations

import os
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from agnews_exp.tracking import record
from fault_kinds.lab import COMMANDS, LIGHT, SEARCH, SWEEP, UNTRACKED, Lab, can_mount, fault, skipped
from fault_kinds.projects import Project
from fault_kinds.verdicts import Outcome, Verdict, judge

FAKETIME = "AGNEWS_FAKETIME"
"""Environment variable: libfaketime.so.1, where it is not in a system folder."""

_LIBRARIES = "usr/lib/*/faketime/libfaketime.so.1"
_JUMPS = ("-400d", "+400d", "-2h", "+1d", "-1d")
_LOCK_SECONDS = 60
_SLOW_SECONDS = 30


def _run(lab: Lab, project: Project, words: Sequence[str] = LIGHT, *, kind: str = "run", **options: Any) -> Verdict:
    done = project.run(words, **options)
    return judge(project.outputs, done, lab.reference(kind), COMMANDS[kind][1])


# ---------------------------------------------------------------- clock


@fault("clock-jump")
def clock_jump(lab: Lab) -> list[Verdict]:
    """The clock jumps by hours or a year while a run works, and is wrong from then on."""
    library = os.environ.get(FAKETIME) or next((str(p) for p in Path("/").glob(_LIBRARIES)), None)
    if library is None:
        return skipped(f"libfaketime is not installed (apt install libfaketime, or {FAKETIME}=<libfaketime.so.1>)")
    verdicts, chance = [], lab.chance("clock-jump")
    for jump in _JUMPS[: lab.times]:
        project = lab.project("clock-jump", store=True)
        clock = project.root / "clock"
        clock.write_text("+0\n")
        env = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        process = project.start(LIGHT, env=env)
        time.sleep(chance.uniform(0.2, 0.8) * lab.seconds("run"))
        clock.write_text(f"{jump}\n")
        verdict = judge(project.outputs, project.wait(process), lab.reference("run"), 1)
        if verdict.outcome is Outcome.RIGHT:  # back at the true time, the same command finds that run
            again = project.run(LIGHT)
            verdict = judge(project.outputs, again, lab.reference("run"), 1, may_fail=False)
        verdicts.append(Verdict(verdict.outcome, f"{jump}: {verdict.note}"))
    return verdicts


# ---------------------------------------------------------------- limits


@fault("few-files")
def few_files(lab: Lab) -> list[Verdict]:
    """At most 64 open files for a run, then for a sweep of two jobs at once."""
    limits = {resource.RLIMIT_NOFILE: 64}
    one = _run(lab, lab.project("few-files", store=True), limits=limits)
    words = [*SWEEP, "hydra.launcher.n_jobs=2"]
    return [one, _run(lab, lab.project("few-files-sweep", store=True), words, kind="sweep", limits=limits)]


@fault("no-shm")
def no_shm(lab: Lab) -> list[Verdict]:
    """Nothing can be put into /dev/shm; a run, and a sweep of two jobs at once."""
    if not can_mount():
        return skipped("this user may not mount file systems")
    prepare = "mount -t tmpfs -o ro,size=4k none /dev/shm"
    one = _run(lab, lab.project("no-shm"), [*LIGHT, UNTRACKED], prepare=prepare)
    words = [*SWEEP, UNTRACKED, "hydra.launcher.n_jobs=2"]
    return [one, _run(lab, lab.project("no-shm-sweep"), words, kind="sweep", prepare=prepare)]


# ---------------------------------------------------------------- databases


@contextmanager
def _held(database: Path, seconds: float) -> Iterator[None]:
    """Hold a sqlite database for some time, or until the block is left."""
    left = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            held.set()
            left.wait(seconds)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        yield
    finally:
        left.set()
        thread.join()


@fault("locked-store")
def locked_store(lab: Lab) -> list[Verdict]:
    """Another process holds MLflow's database for a minute."""
    project = lab.project("locked-store", store=True)
    with _held(project.store, _LOCK_SECONDS):
        verdict = _run(lab, project)
    return [verdict, _replayed(lab, project)]


@fault("locked-search")
def locked_search(lab: Lab) -> list[Verdict]:
    """Another process holds Optuna's database, for half a minute and for as long as the search lasts."""
    verdicts = []
    for seconds in (_LOCK_SECONDS / 2, 1000):
        project = lab.finished("search", "locked-search")
        (database,) = (project.outputs / "optuna").glob("*.db")
        with _held(database, seconds):
            verdicts.append(_run(lab, project, [*SEARCH, UNTRACKED], kind="search"))
    return verdicts


@fault("two-sweeps")
def two_sweeps(lab: Lab) -> list[Verdict]:
    """The same sweep is started twice at once: one does it, the other is refused, and a repeat finds all done."""
    project = lab.project("two-sweeps", store=True)
    first, second = project.start(SWEEP), project.start(SWEEP, log="second.txt")
    expected = lab.reference("sweep")
    ends = [project.wait(first), project.wait(second, log="second.txt")]
    verdicts = [judge(project.outputs, end, expected, 3) for end in ends]
    if sum(end.code == 0 for end in ends) == 0:
        verdicts.append(Verdict(Outcome.LOST, "neither of them did the sweep"))
    return verdicts


def _replayed(lab: Lab, project: Project, words: Sequence[str] = ()) -> Verdict:
    """After the fault: `agnews sync` logs what MLflow missed."""
    done = project.run(["agnews", "sync", *words])
    verdict = judge(project.outputs, done, lab.reference("run"), 1, may_fail=False)
    notes = [record.read_json(run.path / record.TRACKING) for run in record.finished_runs(project.outputs)]
    if verdict.outcome is Outcome.RIGHT and not all(note and note.get("complete") for note in notes):
        return Verdict(Outcome.LOST, "agnews sync left a run out")
    return verdict


# ---------------------------------------------------------------- MLflow's server


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


Gate = Callable[[int], bool]
"""Takes the number of a request, counted from 1; returns whether it may pass. It may take its time."""


@contextmanager
def _mlflow_server(folder: Path, gate: Gate) -> Iterator[str]:
    """Run MLflow's own server behind a gate; requests that may not pass get status 500. Yields its address.

    MLflow's application reads its store's address once a process, so all servers of a campaign share one folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder / 'server.db'}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = (folder / "artifacts").as_uri()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.server import app

    count = 0

    def gated(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        nonlocal count
        count += 1
        if gate(count):
            return app(environ, start_response)
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"no"]

    server = make_server("127.0.0.1", 0, gated, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _with_server(lab: Lab, name: str, gate: Gate) -> list[Verdict]:
    project = lab.project(name)
    with _mlflow_server(lab.root / "server", gate) as address:
        return [_run(lab, project, [*LIGHT, f"tracking.uri={address}"]), _replayed(lab, project)]


@fault("server-gone")
def server_gone(lab: Lab) -> list[Verdict]:
    """Nobody listens at the server's address."""
    project = lab.project("server-gone")
    return [_run(lab, project, [*LIGHT, "tracking.uri=http://127.0.0.1:9"]), _replayed(lab, project)]


@fault("server-500")
def server_500(lab: Lab) -> list[Verdict]:
    """The server answers every request with status 500."""
    return _with_server(lab, "server-500", lambda _number: False)


@fault("server-slow")
def server_slow(lab: Lab) -> list[Verdict]:
    """The server takes half a minute for every answer."""

    def wait(_number: int) -> bool:
        time.sleep(_SLOW_SECONDS)
        return True

    return _with_server(lab, "server-slow", wait)


@fault("server-back")
def server_back(lab: Lab) -> list[Verdict]:
    """The server fails in the middle of a run for some requests and then comes back."""
    return _with_server(lab, "server-back", lambda number: number not in (1, 4, 5, 9))


assert sys.platform == "linux", "resource limits and mount namespaces are Linux's"
