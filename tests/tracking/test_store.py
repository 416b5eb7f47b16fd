"""A local store that was damaged or only half made does not hold a run for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from agnews_exp.tracking import store


def test_a_store_that_is_cut_short_is_found_out_at_once(tmp_path):
    store.prepare_store(tmp_path, None, "one")
    for log in tmp_path.glob("mlflow.db-*"):
        log.unlink()
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"SQLite format 3\0" + b"\1" * 3000)
    began = time.monotonic()
    with pytest.raises(Exception, match="database"):
        store.prepare_store(tmp_path, None, "two")
    assert time.monotonic() - began < 30, "MLflow tries for a minute"


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


@pytest.mark.parametrize("n_tables", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_store_whose_first_process_was_killed_amid_its_tables_can_be_used(tmp_path, n_tables):
    first = subprocess.run([sys.executable, "-c", DIE_AMID_TABLES, str(tmp_path), str(n_tables)], check=False)
    assert first.returncode == -signal.SIGKILL
    _, experiment = store.prepare_store(tmp_path, None, "one")
    assert experiment
    assert [path.name for path in tmp_path.glob("*.new*")] == []
