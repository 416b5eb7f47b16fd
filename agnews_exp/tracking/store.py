"""The MLflow store: one sqlite file and one artifact folder, made once, under a lock.

Eight processes that migrate an empty sqlite database at once break it, so whoever comes first creates database and
experiment while the others wait.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

LOCK_SECONDS = 120
_RESERVE_BYTES = 512 * 1024


def tracking_uri(mlruns_dir: Path, configured: str | None) -> str:
    """Return the configured server, or the sqlite store under ``mlruns_dir``."""
    return configured or f"sqlite:///{mlruns_dir.resolve() / 'mlflow.db'}"


def is_local(uri: str) -> bool:
    """Return whether the store is a sqlite file on this machine."""
    return uri.startswith("sqlite:")


def prepare_store(mlruns_dir: Path, configured: str | None, experiment: str) -> tuple[str, str]:
    """Create store and experiment if they are missing.

    Args:
        mlruns_dir: Folder of mlflow.db and artifacts/.
        configured: ``tracking.uri``; None for the local store.
        experiment: The experiment's name.

    Returns:
        The tracking URI and the experiment's id.
    """
    quieten()
    from filelock import FileLock

    uri = tracking_uri(mlruns_dir, configured)
    if not is_local(uri):
        return uri, _experiment_id(uri, experiment, None)
    mlruns_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(mlruns_dir / ".store.lock", timeout=LOCK_SECONDS):
        _reserve(mlruns_dir)
        return uri, _experiment_id(uri, experiment, (mlruns_dir / "artifacts").resolve().as_uri())


def _experiment_id(uri: str, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from agnews_exp.tracking.ui_view import experiment_tags

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=experiment_tags()))
        except MlflowException:  # another process was faster, on a server that has no lock of ours
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _reserve(mlruns_dir: Path) -> None:
    """Keep some bytes aside, so that a run's end can still be written when the disk fills up."""
    path = mlruns_dir / ".reserve"
    if not path.exists() or path.stat().st_size < _RESERVE_BYTES:
        with suppress(OSError):
            path.write_bytes(os.urandom(_RESERVE_BYTES))


def release_reserve(mlruns_dir: Path) -> None:
    """Give the reserved bytes back to a full disk."""
    with suppress(OSError):
        (mlruns_dir / ".reserve").unlink(missing_ok=True)


def quieten() -> None:
    """Keep MLflow's and Alembic's start-up chatter out of the terminal; warnings still show."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its import sets levels anew
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs each database error with its traceback before it raises it; we report what is raised.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def flatten(values: Any, prefix: str = "") -> dict[str, str]:
    """Return nested config as short dotted keys with text values: MLflow params."""
    if isinstance(values, dict) and values:
        flat: dict[str, str] = {}
        for key, value in values.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: str(values)[:6000]}
