"""A tracker that says nothing does not hold a run for ever."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from agnews_exp.tracking import mlflow_run as tracker_pipe
from agnews_exp.tracking import mlflow_run as tracking_process
from agnews_exp.tracking import store


def test_a_silent_tracking_process_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(tracker_pipe, "PATIENCE_SECONDS", 0.3)
    tracker = tracking_process.TrackingProcess({}, tmp_path, {}, resumed=False)
    silent = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    tracker._pipe._process = silent
    began = time.monotonic()
    with silent.stdin, silent.stdout, pytest.raises(tracker_pipe.TrackingFailure, match="no answer within"):
        tracker.mirror()
    assert time.monotonic() - began < 30
    assert silent.poll() is not None
    tracker.close("FAILED")  # nobody is there to be told


class Noting(tracking_process.Tracker):
    """Takes a while for each request, and remembers what it did."""

    def __init__(self):
        super().__init__()
        self.done = []

    def note(self, *, word):
        time.sleep(0.2)
        self.done.append(word)

    def abandoned(self):
        self.done.append("abandoned")


@pytest.mark.parametrize(("patience", "done"), [(30, ["a", "b", "c", "abandoned"]), (0.1, ["a", "b", "abandoned"])])
def test_what_a_killed_sweep_had_asked_for_is_done_still_but_not_for_ever(monkeypatch, patience, done):
    monkeypatch.setattr(tracking_process, "ORPHAN_SECONDS", patience)
    reader, answers = os.pipe()
    os.close(reader)  # nobody reads the answers
    requests = io.BytesIO(b"".join(json.dumps({"request": "note", "word": w}).encode() + b"\n" for w in "abc"))
    tracker = Noting()
    tracking_process.serve(tracker, requests, answers)
    os.close(answers)
    assert tracker.done == done


def test_a_store_that_is_cut_short_is_found_out_at_once(tmp_path):
    store.prepare_store(tmp_path, None, "one")
    for log in tmp_path.glob("mlflow.db-*"):
        log.unlink()
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"SQLite format 3\0" + b"\1" * 3000)
    began = time.monotonic()
    with pytest.raises(Exception, match="database"):
        store.prepare_store(tmp_path, None, "two")
    assert time.monotonic() - began < 10


DIE_AMID_TABLES = """
import os, pathlib, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from agnews_exp.tracking import store

left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(_connection, _cursor, statement, *_rest):
    global left
    left -= "CREATE TABLE" in statement
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

store.prepare_store(pathlib.Path(sys.argv[1]), None, "one")
"""


@pytest.mark.parametrize("n_tables", [5, 30])
def test_a_store_whose_first_process_was_killed_amid_its_tables_can_be_used(tmp_path, n_tables):
    first = subprocess.run([sys.executable, "-c", DIE_AMID_TABLES, str(tmp_path), str(n_tables)], check=False)
    assert first.returncode == -signal.SIGKILL
    _, experiment = store.prepare_store(tmp_path, None, "one")
    assert experiment
    assert [path.name for path in tmp_path.glob("*.new*")] == []
