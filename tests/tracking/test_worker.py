"""The process that tells MLflow: it hears of a run by its folder, ends with it, and is never waited for in vain."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from agnews_exp.tracking import record, worker
from agnews_exp.tracking.mlflow_mirror import Store
from agnews_exp.tracking.worker import Mirroring

ONE = "runs/20260101-000000-000000-aaaaaa"


def workers():
    return [p for p in psutil.Process().children() if worker.MODULE in p.cmdline()]


def runs_of(records):
    store = Store(records.plain())
    experiment_id, _ = store.experiment()
    return store.client.search_runs([experiment_id])


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.2)


def test_a_run_shows_while_it_works_and_has_ended_when_it_has(records):
    folder = records.begun(ONE)
    mirroring = Mirroring(folder.path, records.plain())
    mirroring.start()
    wait_for((folder.path / record.TRACKING).is_file)
    wait_for(lambda: [run.info.status for run in runs_of(records)] == ["RUNNING"])
    folder.abandon("failed", "boom")
    assert mirroring.finish() is None
    (run,) = runs_of(records)
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "boom")
    assert workers() == []


def test_a_worker_that_was_started_early_and_has_nothing_to_tell_is_gone(records):
    folder = records.begun(ONE)
    for words, wanted, started in (
        (["model=logreg"], True, True), (["-m", "seed=1,2"], False, True), (["--help"], False, False),
        (["tracking=none"], False, False),
    ):  # fmt: skip
        worker.start_early(words)
        assert bool(workers()) == started
        with worker.only_if(wanted):
            assert bool(workers()) == wanted
        assert workers() == []
    worker.start_early([])
    Mirroring(folder.path, records.plain("tracking.enabled=false")).start()
    assert workers() == []
    assert not (folder.path / record.TRACKING).exists()


def test_a_worker_that_was_started_early_mirrors_the_folder_in_which_the_run_goes_on(records):
    new, earlier = records.begun(ONE), records.begun("runs/20251231-000000-000000-bbbbbb")
    worker.start_early(["model=logreg"])
    (begun,) = workers()
    with worker.only_if(True):
        mirroring = Mirroring(earlier.path, records.plain())
        mirroring.start()
        assert [found.pid for found in workers()] == [begun.pid]
        earlier.abandon("failed", "boom")
        assert mirroring.finish() is None
    assert [run.info.status for run in runs_of(records)] == ["FAILED"]
    assert not (new.path / record.TRACKING).exists()


def test_a_worker_that_was_told_nothing_ends_with_its_command():
    program = (
        "import psutil, sys; from agnews_exp.tracking.worker import start_early; start_early([]);"
        "print(psutil.Process().children()[0].pid); sys.exit(2)"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=60)
    assert done.returncode == 2
    assert not psutil.pid_exists(int(done.stdout))


def test_a_server_that_accepts_and_says_nothing_costs_its_patience_and_a_warning(records, monkeypatch):
    monkeypatch.setitem(worker.PATIENCE_SECONDS, "server", 1.0)
    folder = records.finished(ONE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        mirroring = Mirroring(folder.path, records.plain(f"tracking.uri={address}"))
        mirroring.start()
        warning = mirroring.finish()
    assert "no answer within 1 s" in warning
    assert workers() == []
    assert not (folder.path / record.TRACKING).exists(), "agnews sync finds what is missing by that"


def test_a_lost_worker_costs_a_warning(records):
    folder = records.finished(ONE)
    mirroring = Mirroring(folder.path, records.plain())
    mirroring.start()
    (process,) = workers()
    process.kill()
    assert "killed by SIGKILL" in mirroring.finish()
    assert workers() == []


@pytest.mark.slow
def test_a_store_that_cannot_be_made_costs_a_warning(records):
    folder = records.finished(ONE)
    blocked = records.root / "file"
    blocked.write_text("in the way")
    mirroring = Mirroring(folder.path, records.plain(f"paths.mlruns_dir={blocked}"))
    mirroring.start()
    assert "MLflow is not up to date" in mirroring.finish()


@pytest.mark.parametrize("words", [("tracking=none",), ()])
def test_what_is_not_tracked_and_the_job_of_a_sweep_have_no_worker_of_their_own(records, words):
    if not words:
        records.sweep("s", {})
    folder = records.begun(ONE if words else "sweeps/s/0", *words)
    mirroring = Mirroring(folder.path, records.plain(*words))
    mirroring.start()
    assert workers() == []
    assert mirroring.finish() is None


@pytest.mark.parametrize(
    ("case", "end"),
    [("tried again", "FAILED"), ("amid the last look", "KILLED"), ("of a killed call", "KILLED"), ("ended", "KILLED")],
)
def test_a_cleared_attempt_failed_where_its_own_call_tries_again_and_was_killed_otherwise(records, case, end):
    over = threading.Event()
    call = "2026-01-01T00:00:30+00:00" if case == "of a killed call" else "2026-01-01T00:00:00+00:00"
    sweep = records.sweep("s", {}, status="running", resumed=call)
    looking = worker.Watch(sweep, Store(records.plain()), over)
    for started in ("2026-01-01T00:00:10+00:00", "2026-01-01T00:01:00+00:00"):
        shutil.rmtree(sweep / "0", ignore_errors=True)
        folder = records.begun("sweeps/s/0")
        status = record.read_json(folder.path / record.STATUS)
        record.write_json(folder.path / record.STATUS, status | {"started": started})
        if case == "ended" and "00:00:10" in started:
            folder.abandon("killed", "Terminated")
        looking.look(ended=False)
        if case == "amid the last look":  # its parent was killed, and the next call is quick
            over.set()
    ends = [run.info.status for run in runs_of(records) if run.data.tags.get("kind") != "sweep"]
    assert sorted(ends) == sorted([end, "RUNNING"])


KILLED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import Records
from agnews_exp.tracking.worker import Mirroring
records = Records(Path(sys.argv[2]))
folder = records.begun("runs/20260101-000000-000000-aaaaaa")
Mirroring(folder.path, records.plain()).start()
while not (folder.path / "tracking.json").exists():
    time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_worker_of_a_killed_run_says_so_and_ends(records):
    words = [sys.executable, "-c", KILLED, os.path.dirname(__file__), str(records.root)]  # noqa: PTH120
    done = subprocess.run(words, check=False, timeout=200)
    assert done.returncode == -signal.SIGKILL
    place = str(records.outputs / ONE)

    def left():
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if place in (process.info["cmdline"] or []):
                found.append(process)
        return found

    wait_for(lambda: not left())
    (run,) = runs_of(records)
    assert (run.info.status, run.data.tags["reason"]) == ("KILLED", "the process is gone")
