"""`agnews ui`: MLflow's own UI on this project's store, opened at a view worth comparing runs in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import AgnewsError
from agnews_exp.tracking.store import is_local, prepare_store
from agnews_exp.tracking.ui_view import SWEEPS_KEY, experiment_tags, runs_address


def open_ui(plain: Mapping[str, Any], host: str, port: int) -> None:
    """Replace this process by ``mlflow server`` on the store; ends with Ctrl-C.

    Args:
        plain: The resolved config.
        host: Address to bind.
        port: Port to bind.

    Raises:
        AgnewsError: The port is taken, or the store is a remote server that has a UI of its own.
    """
    settings = plain["tracking"]
    mlruns = Path(plain["paths"]["mlruns_dir"])
    uri, experiment_id = prepare_store(mlruns, settings["uri"], settings["experiment"])
    if not is_local(uri):
        raise AgnewsError(f"The runs are on a server, which has its own UI: {uri}", fix=f"open {uri} in a browser")
    _check_port(host, port)
    _renew_views(uri, experiment_id)
    print(f"MLflow UI: {runs_address(host, port, experiment_id)}    (Ctrl-C ends it)")
    print(f"sweeps:    {runs_address(host, port, experiment_id, SWEEPS_KEY)}", flush=True)
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", uri,
        "--default-artifact-root", (mlruns / "artifacts").resolve().as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, fixed words


def _renew_views(uri: str, experiment_id: str) -> None:
    """Give an experiment that an earlier version made the views of this one."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment(experiment_id).tags
    for name, text in experiment_tags().items():
        if name.startswith("mlflow.sharedViewState.") and known.get(name) != text:
            client.set_experiment_tag(experiment_id, name, text)


def _check_port(host: str, port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AgnewsError(
                f"port {port} on {host} cannot be used: {error.strerror}", fix=f"agnews ui --port {port + 1}"
            ) from error
