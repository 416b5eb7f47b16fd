"""Every way out of a run leaves a true status in the record and in MLflow."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

SLOW_FIT = (
    "data=sample",
    "features=word_tfidf",
    "model=sgd_modified_huber",
    "model.max_iter=1000000",
    "model.tol=null",
)
"""A fit that goes on for minutes."""


def wait_until_fitting(project, process, seconds=90):
    """Wait until the run's MLflow run is open and its features are done."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        for folder in project.run_folders:
            log = folder / "run.log"
            if (folder / "tracking.json").exists() and log.exists() and "features" in log.read_text():
                return
        time.sleep(0.1)
    pytest.fail("the run never came to its fit")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_during_fit_ends_record_and_mlflow_run_as_killed(project, number, code):
    process = project.start(*SLOW_FIT)
    try:
        wait_until_fitting(project, process)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, output
    assert "the same command" in output
    assert "Traceback" not in output
    assert project.statuses() == ["killed"]
    assert [r.info.status for r in project.mlflow_runs()] == ["KILLED"]
    assert not list(project.root.rglob("result.json"))


def test_exception_during_fit_ends_record_and_mlflow_run_as_failed(project):
    # Only the fit can know that no word is that frequent.
    done = project.run("data=sample", "model=dummy", "features=word_tfidf", "features.blocks.word.min_df=100000")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "min_df" in done.stderr
    assert project.statuses() == ["failed"]
    assert [r.info.status for r in project.mlflow_runs()] == ["FAILED"]


@pytest.mark.slow
def test_sigkill_is_told_to_mlflow_by_the_process_that_tracks_the_run(project):
    process = project.start(*SLOW_FIT)
    wait_until_fitting(project, process)
    (tracker,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    tracker.wait(timeout=30)
    assert [r.info.status for r in project.mlflow_runs()] == ["KILLED"]


@pytest.mark.slow
def test_sigkill_of_run_and_tracker_leaves_a_run_that_the_next_sync_closes(project):
    process = project.start(*SLOW_FIT)
    wait_until_fitting(project, process)
    for tracker in psutil.Process(process.pid).children():
        tracker.kill()
    process.kill()
    process.wait(timeout=30)
    process.stdout.close()
    assert [r.info.status for r in project.mlflow_runs()] == ["RUNNING"]
    done = project.agnews("sync")
    assert done.returncode == 0, done.stderr
    assert [r.info.status for r in project.mlflow_runs()] == ["KILLED"]


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of a few megabytes, where the machine allows mounting one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("free_kb", [40, 400, 1200])
def test_full_disk_is_explained_and_leaves_no_running_run_and_no_half_record(small_disk, make_project, free_kb):
    project = make_project(small_disk)
    assert project.agnews("sync").returncode == 0  # makes the store while there is room
    with closing(sqlite3.connect(small_disk / "mlruns" / "mlflow.db")) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # its log is not there to be written into
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * (free - free_kb * 1024))
    done = project.run("data=sample", "model=linear_svc", "features=hybrid_tfidf", f"paths.cache_dir={small_disk}/c")
    output = done.stdout + done.stderr
    assert done.returncode == 3, output
    assert "the disk is full" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in output
    for folder in project.run_folders:
        assert not (folder / "result.json").exists()
        assert not list(folder.glob(".*.*"))
        if (folder / "status.json").exists():
            assert json.loads((folder / "status.json").read_text())["status"] != "finished"
    (small_disk / "filler").unlink()  # without room nobody can even read the store
    assert not [r for r in project.mlflow_runs() if r.info.status == "RUNNING"]


@pytest.mark.slow
def test_a_reader_that_went_away_is_no_reason_for_a_traceback(project):
    words = [
        sys.executable,
        str(Path(__file__).resolve().parents[2] / "run.py"),
        "data=sample",
        "model=dummy",
        "tracking=none",
    ]
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does after its lines
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(words, env=project.environment, cwd=project.root, stdout=gone, stderr=subprocess.PIPE,
                              text=True, timeout=120, check=False)  # fmt: skip
    assert "Traceback" not in done.stderr
    assert project.statuses() == ["finished"]
