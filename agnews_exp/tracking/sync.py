"""`agnews sync`: replay finished records that MLflow missed, and close runs whose process is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agnews_exp.tracking import record
from agnews_exp.tracking.mirror import log_record, log_start
from agnews_exp.tracking.store import prepare_store

log = logging.getLogger(__name__)


def sync_runs(plain: Mapping[str, Any], folders: Iterable[record.RunFolder] | None = None) -> tuple[int, int]:
    """Log every finished run that is not completely in MLflow.

    Args:
        plain: The resolved config: ``paths`` and ``tracking`` say where from and where to.
        folders: Finished records to look at; all of them by default.

    Returns:
        How many runs were logged, and how many could not be.

    Raises:
        MlflowException: The store itself cannot be reached.
    """
    settings = plain["tracking"]
    uri, experiment_id = prepare_store(Path(plain["paths"]["mlruns_dir"]), settings["uri"], settings["experiment"])
    import mlflow

    mlflow.set_tracking_uri(uri)
    close_stale_runs(experiment_id)
    done = failed = 0
    for folder in folders if folders is not None else record.finished_runs(Path(plain["paths"]["output_dir"])):
        note = record.read_json(folder.path / record.TRACKING) or {}
        if note.get("complete"):
            continue
        try:
            _replay(folder, experiment_id, note.get("run_id"), with_model=bool(settings["log_model"]))
            done += 1
        except Exception as error:
            log.warning("%s: %s", folder.path.name, error)
            failed += 1
    return done, failed


def _replay(folder: record.RunFolder, experiment_id: str, run_id: str | None, *, with_model: bool) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    plain = folder.config()
    environment = record.read_json(folder.path / record.ENVIRONMENT)
    assert environment is not None
    if run_id is not None:
        try:
            client.get_run(run_id)
        except MlflowException:  # it was never created, or in another store
            run_id = None
    if run_id is None:
        name, tags = str(plain["name"]), _sweep_of(folder)
        created = client.create_run(experiment_id, start_time=folder.started_ms, run_name=name, tags=tags)
        run_id = str(created.info.run_id)
    note = {"run_id": run_id, "complete": False, "experiment": plain["tracking"]["experiment"]}
    record.write_json(folder.path / record.TRACKING, note)
    log_start(run_id, plain, environment, folder.path)
    log_record(run_id, folder.path, with_model=with_model)
    client.set_terminated(run_id, "FINISHED")
    record.write_json(folder.path / record.TRACKING, note | {"complete": True})


def _sweep_of(folder: record.RunFolder) -> dict[str, str]:
    """Return the tags that nest a job's run below its sweep's; empty for a run that is no job."""
    sweep = record.read_json(folder.path.parent / "sweep.json")
    if sweep is None or not sweep.get("parent_run_id"):
        return {}
    return {"mlflow.parentRunId": sweep["parent_run_id"], "sweep": sweep["name"], "sweep.job": folder.path.name}


def close_stale_runs(experiment_id: str) -> int:
    """Mark runs KILLED that say RUNNING though their process on this machine is gone; return how many."""
    import platform

    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    closed = 0
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    for run in running:
        tags = run.data.tags
        if tags.get("host") != platform.node() or not tags.get("pid", "").isdigit():
            continue
        pid = int(tags["pid"])
        # A sweep that goes on is older than the process that works on it now.
        started = int(tags.get("resumed") or run.info.start_time) / 1000
        if is_gone(pid, started):
            client.set_terminated(run.info.run_id, "KILLED")
            closed += 1
    return closed


def is_gone(pid: int, started: float) -> bool:
    """Return whether the process that had ``pid`` at ``started`` (seconds since the epoch) has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.create_time() > started + 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
