"""A tracker that fails costs nothing: the record is replayed later."""

from __future__ import annotations

import pytest

FAST = ("data=sample", "features=word_tfidf", "model=multinomial_nb", "evaluation.latency_repeats=0")


@pytest.mark.slow
def test_run_without_a_reachable_server_is_replayed_by_sync(project):
    env = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    done = project.run(*FAST, "tracking.uri=http://127.0.0.1:9", env=env)
    assert done.returncode == 0, done.stderr
    assert "agnews sync" in done.stdout
    assert project.statuses() == ["finished"]
    synced = project.agnews("sync")
    assert synced.returncode == 0, synced.stderr
    assert "synced 1 run" in synced.stdout
    (run,) = project.mlflow_runs()
    result = project.result()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/macro_f1"] == pytest.approx(result["metrics"]["test/macro_f1"])
    assert run.data.params["model"] == "multinomial_nb"
    assert "synced 0 runs" in project.agnews("sync").stdout
    assert len(project.mlflow_runs()) == 1


def test_untracked_run_can_be_logged_later(project):
    assert project.run(*FAST, "tracking=none").returncode == 0
    assert not (project.root / "mlruns" / "mlflow.db").exists()
    assert "synced 1 run" in project.agnews("sync").stdout
    assert [r.info.status for r in project.mlflow_runs()] == ["FINISHED"]
