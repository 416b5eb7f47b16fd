"""The MLflow store: one sqlite file and one artifact folder, made once, under a lock.

Eight processes that migrate an empty sqlite database at once break it, so whoever comes first creates database and
experiment while the others wait.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from agnews_exp.core.errors import AgnewsError, refuse_password
from agnews_exp.core.process import find_os_error

SHARE_KEY = "agnews"
"""The view with the best runs first."""
SWEEPS_KEY = "sweeps"
"""The view with the latest first, jobs below their sweep."""

_COLUMNS = (
    "metrics.`val/macro_f1`",
    "metrics.`val/accuracy`",
    "metrics.`val/log_loss`",
    "metrics.`time/fit`",
    "metrics.`throughput_batch`",
    "params.`model`",
    "params.`features`",
    "params.`data_fraction`",
    "params.`seed`",
    "tags.`data.source`",
)
_SECTION = "agnews-headline"
_CHARTS: tuple[dict[str, object], ...] = (
    {
        "type": "SCATTER",
        "xaxis": {"key": "time/fit", "type": "METRIC"},
        "yaxis": {"key": "val/macro_f1", "type": "METRIC"},
        "displayName": "validation macro-F1 by seconds of fitting",
    },
    {"type": "BAR", "metricKey": "val/macro_f1", "displayName": "validation macro-F1"},
    {"type": "BAR", "metricKey": "time/fit", "displayName": "seconds of fitting"},
    {
        "type": "SCATTER",
        "xaxis": {"key": "throughput_batch", "type": "METRIC"},
        "yaxis": {"key": "val/macro_f1", "type": "METRIC"},
        "displayName": "validation macro-F1 by documents a second",
    },
    {
        "type": "PARALLEL",
        "selectedParams": ["model", "features", "data_fraction"],
        "selectedMetrics": ["val/macro_f1"],
        "showAllRuns": False,
        "displayName": "choices and validation macro-F1",
    },
)


def experiment_tags() -> dict[str, str]:
    """Return the tags that an experiment gets: kind of page, note, and the shared views."""
    best = {"orderByKey": "metrics.`val/macro_f1`", "orderByAsc": False}
    latest = {"orderByKey": "attributes.start_time", "orderByAsc": False}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{SHARE_KEY}": json.dumps(_view() | best),
        f"mlflow.sharedViewState.{SWEEPS_KEY}": json.dumps(_view() | latest),
        "mlflow.note.content": (
            "Runs of agnews-exp. Choose models by `val/macro_f1`; `test/` metrics were computed once, at the end. "
            "Runs are comparable when their tag `data.evaluation_checksum` is equal."
        ),
    }


def _view() -> dict[str, object]:
    # The names and fields are those that MLflow's own "share" button stores.
    section = {"uuid": _SECTION, "name": "headline", "display": True, "isReordered": False, "deleted": False}
    common = {"runsCountToCompare": 10, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return {
        "searchFilter": "",
        "lifecycleFilter": "Active",
        "selectedColumns": list(_COLUMNS),
        "isAccordionReordered": True,  # else sections come in alphabetical order
        "compareRunSections": [section | {"isGenerated": False}],
        "compareRunCharts": [common | {"uuid": f"agnews-{i}"} | chart for i, chart in enumerate(_CHARTS)],
    }


def runs_address(host: str, port: int, experiment_id: str, view: str = SHARE_KEY) -> str:
    """Return the address of an experiment's runs in a shared view."""
    page = f"http://{host}:{port}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={view}&workflowType=machine_learning"  # else its menu is that for language models


LOCK_SECONDS = 120
_RESERVE_BYTES = 512 * 1024
_NETWORK_DISKS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "fuse", "9p", "virtiofs")


def tracking_uri(mlruns_dir: Path, configured: str | None) -> str:
    """Return the configured server, or the sqlite store under ``mlruns_dir``.

    Raises:
        ConfigError: The server's address holds a password.
    """
    refuse_password("tracking.uri", configured)
    return configured or f"sqlite:///{mlruns_dir.resolve() / 'mlflow.db'}"


def existing_store(plain: Mapping[str, Any]) -> str:
    """Return the address of the configured store.

    Raises:
        AgnewsError: It is a local one, and nothing was logged there yet.
    """
    uri = tracking_uri(Path(plain["paths"]["mlruns_dir"]), plain["tracking"]["uri"])
    if is_local(uri) and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise AgnewsError(f"There is no MLflow store at {uri}.", fix="agnews sync")
    return uri


def is_local(uri: str) -> bool:
    """Return whether the store is a sqlite file on this machine."""
    return uri.startswith("sqlite:")


def prepare_store(mlruns_dir: Path, configured: str | None, experiment: str | None) -> tuple[str, str]:
    """Create store and experiment if they are missing; return the tracking URI and the experiment's id.

    ``configured`` is ``tracking.uri``, None for the local store under ``mlruns_dir``. Without an experiment it only
    looks whether the store answers, and the id is empty.
    """
    quieten()
    from filelock import FileLock

    commit_quickly()
    uri = tracking_uri(mlruns_dir, configured)
    if not is_local(uri):
        _wait_within_reason()
        return uri, _experiment_id(uri, experiment, None)
    mlruns_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(mlruns_dir / ".store.lock", timeout=LOCK_SECONDS):
        artifacts = (mlruns_dir / "artifacts").resolve().as_uri()
        database = Path(uri.partition("?")[0].removeprefix("sqlite:///"))
        _create(database, artifacts)
        _check_readable(database)
        if database.parent.resolve() == mlruns_dir.resolve():  # another one may be that of several projects
            _relocate(database, artifacts)
        _reserve(mlruns_dir)
        return uri, _experiment_id(uri, experiment, artifacts)


def _create(database: Path, artifacts: str) -> None:
    """Make an empty database that is there as a whole or not at all: one cut off amid its tables cannot be opened."""
    if database.exists() or not database.parent.is_dir():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f".{database.name}.new")
    for left in database.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    store: Any = SqlAlchemyStore(f"sqlite:///{unfinished.resolve()}", artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()  # writes the log back into the file
    unfinished.replace(database)


def _check_readable(database: Path) -> None:
    """Find out at once that a database is damaged; MLflow would try to open it for a minute.

    Raises:
        sqlite3.DatabaseError: It is no database, or not all of it is there.
    """
    if database.is_file():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


_PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Tables and columns of MLflow's database that hold absolute addresses of artifacts."""


def _relocate(database: Path, artifacts: str) -> None:
    """Let the addresses of all artifacts begin where the store is now; it may have been moved or copied.

    MLflow stores absolute addresses, takes a relative one as relative to each process's working directory, and has no
    command that changes those of what is there already; so this is SQL on its tables. The first experiment, which
    MLflow makes with the database, says where the artifacts were.
    """
    if not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection:
        try:
            found = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
        except sqlite3.OperationalError:  # another database of the user's, without these tables
            return
        before = str(found[0]).removesuffix("/0") if found else artifacts
        if before == artifacts or not before.startswith(("file:", "/")):
            return
        with connection:
            for table, columns in _PLACES.items():
                known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in known.intersection(columns):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - our own words
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (artifacts, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


def _wait_within_reason() -> None:
    """Give a server some seconds to come back, not four minutes a request as MLflow would."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # after 0 and 4 seconds
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


def _experiment_id(uri: str, name: str | None, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    if name is None:
        client.search_experiments(max_results=1)
        return ""
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


@cache
def commit_quickly() -> None:
    """Let sqlite databases on disks of this machine keep a write-ahead log that is not flushed at every commit.

    A run commits some 16 times, and each would wait for the disk. After a power cut the last commits may be missing,
    which `agnews sync` mends from the records; the database stays whole (https://www.sqlite.org/wal.html).
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.listen(Engine, "connect", _keep_log)


def _keep_log(connection: Any, _record: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    # The log needs memory that all writers share: no database in memory has one, nor two machines on a network disk.
    if file and _on_local_disk(Path(file).parent):
        with suppress(sqlite3.OperationalError):  # another process writes at this moment: next time
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # A log of at most some 400 KB, given back when it is written into the database: disks fill up.
        connection.execute("PRAGMA wal_autocheckpoint=100")
        connection.execute("PRAGMA journal_size_limit=0")


@cache
def _on_local_disk(folder: Path) -> bool:
    import psutil

    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    kind = next((mounts[p] for p in (folder.resolve(), *folder.resolve().parents) if p in mounts), "")
    return not kind.startswith(_NETWORK_DISKS)


def _reserve(mlruns_dir: Path) -> None:
    """Keep some bytes aside, so that a run's end can still be written when the disk fills up."""
    path = mlruns_dir / ".reserve"
    if not path.exists() or path.stat().st_size < _RESERVE_BYTES:
        with suppress(OSError):
            path.write_bytes(os.urandom(_RESERVE_BYTES))


def is_of_storage(error: BaseException) -> bool:
    """Return whether an error, or its cause, means that the disk failed or is full; sqlite has words of its own."""
    return isinstance(error, OSError) or find_os_error(error) is not None or "disk is full" in str(error)


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


def _latest_experiment(uri: str) -> str | None:
    """Return the name of the experiment with the run that was started last."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    names = {found.experiment_id: str(found.name) for found in client.search_experiments()}
    latest = client.search_runs(list(names), max_results=1, order_by=["attributes.start_time DESC"])
    return names[latest[0].info.experiment_id] if latest else None


def open_ui(plain: Mapping[str, Any], host: str, port: int, experiment: str | None = None) -> None:
    """Replace this process by ``mlflow server`` on the store, at an experiment or that of the latest run.

    Raises:
        AgnewsError: The port is taken, or the store is a remote server that has a UI of its own.
    """
    settings = plain["tracking"]
    mlruns = Path(plain["paths"]["mlruns_dir"])
    uri, _ = prepare_store(mlruns, settings["uri"], None)
    if not is_local(uri):
        raise AgnewsError(f"The runs are on a server, which has its own UI: {uri}", fix=f"open {uri} in a browser")
    _check_port(host, port)
    name = experiment or _latest_experiment(uri) or settings["experiment"]
    _, experiment_id = prepare_store(mlruns, settings["uri"], name)
    _renew_views(uri, experiment_id)
    log = mlruns / "ui.log"
    said = (
        f"MLflow UI: {runs_address(host, port, experiment_id)}    (Ctrl-C ends it)\n"
        f"sweeps:    {runs_address(host, port, experiment_id, SWEEPS_KEY)}"
    )
    if os.fork() == 0:
        _say_when_it_answers(host, port, said, log)
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", uri,
        "--default-artifact-root", (mlruns / "artifacts").resolve().as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # Nobody asks this server for jobs, and the workers for them take most of its start.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | os.environ
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter, fixed words


def _say_when_it_answers(host: str, port: int, said: str, log: Path) -> NoReturn:
    """Be the child that tells the address as soon as the server, its parent, answers there, or that it has ended."""
    import signal
    import socket

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the server
    server = os.getppid()
    while os.getppid() == server:
        with suppress(OSError), socket.create_connection((host.replace("0.0.0.0", "127.0.0.1"), port), timeout=1):  # noqa: S104
            print(said, flush=True)
            os._exit(0)
        time.sleep(0.2)
    print(f"The server has ended before it answered; its log: {log}", file=sys.stderr, flush=True)
    os._exit(1)


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
