"""A classical run's MLflow side in its own process: it tells how the run ended, and its loss costs a warning."""

from __future__ import annotations

import os
import sqlite3
import sys
from datetime import datetime

import psutil
import pytest
from omegaconf import OmegaConf

from agnews_exp.config.compose import compose_config
from agnews_exp.core.errors import Pruned
from agnews_exp.core.process import Terminated
from agnews_exp.tracking import record
from agnews_exp.tracking.environment import describe_environment
from agnews_exp.tracking.mlflow_run import MlflowRun


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One store for all tests: making it takes longer than they do."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def start(root, tmp_path, monkeypatch):
    """Return a function that prepares a run; it is tracked by a process, as where MLflow is not imported."""
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)

    def prepared(**paths):
        words = ["data=sample", "model=multinomial_nb", "tracking.system_metrics=false"]
        plain = OmegaConf.to_container(compose_config(words), resolve=True, throw_on_missing=False)
        plain["paths"] |= {"mlruns_dir": str(root / "mlruns"), "output_dir": str(root / "outputs")} | paths
        return MlflowRun(plain, record.RunFolder(tmp_path), describe_environment(root))

    return prepared


def children():
    return [p for p in psutil.Process().children() if any("tracking_process" in word for word in p.cmdline())]


def stored(root, query):
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as store:
        return store.execute(query).fetchall()


@pytest.mark.parametrize(
    ("error", "status"),
    [(Terminated(), "KILLED"), (ValueError("no"), "FAILED"), (Pruned(3, 0.25), "FINISHED")],
    ids=["killed", "failed", "pruned"],
)
def test_run_ends_as_its_block_does(start, root, tmp_path, error, status):
    with pytest.raises(type(error)), start() as run:
        raise error
    assert run.warning is None
    run_id = record.read_json(tmp_path / record.TRACKING)["run_id"]
    assert stored(root, f"select status from runs where run_uuid = '{run_id}'") == [(status,)]
    pruned = stored(root, f"select value from tags where run_uuid = '{run_id}' and key = 'pruned.step'")
    assert pruned == ([("3",)] if isinstance(error, Pruned) else [])
    pid = stored(root, f"select value from tags where run_uuid = '{run_id}' and key = 'pid'")
    assert pid == [(str(os.getpid()),)], "the run's process, by which a dead run is known"
    assert children() == []


def test_run_begins_in_mlflow_when_its_record_says_and_has_the_tags_of_any_run(start, root, tmp_path):
    begun = "2026-01-02T03:04:05.678+00:00"
    record.write_json(tmp_path / record.STATUS, {"status": "running", "started": begun})
    with start() as run:
        run_id = run.run_id
    expected = int(datetime.fromisoformat(begun).timestamp() * 1000)
    assert stored(root, f"select start_time from runs where run_uuid = '{run_id}'") == [(expected,)]
    tags = dict(stored(root, f"select key, value from tags where run_uuid = '{run_id}'"))
    assert tags["mlflow.runName"] == "multinomial_nb-hybrid_tfidf"
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= set(tags)


def test_lost_process_costs_a_warning_and_leaves_the_record_to_be_synced(start, root, tmp_path):
    with start() as run:
        assert run.run_id is not None
        (process,) = children()
        process.kill()
        run.log_finished()
    assert "log the results" in run.warning or "close the run" in run.warning
    assert "tracking process: killed by SIGKILL" in run.warning
    assert record.read_json(tmp_path / record.TRACKING)["complete"] is False
    assert children() == []


def test_store_that_cannot_be_made_costs_a_warning(start, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with start(mlruns_dir=str(blocked)) as run:
        assert run.run_id is None
        run.log_finished()
    assert run.warning.startswith("MLflow could not open the run")
    assert children() == []
