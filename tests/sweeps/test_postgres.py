"""Eight jobs at once on real servers: PostgreSQL behind `mlflow server`, and behind an Optuna study."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def program(name: str) -> str | None:
    """Find a program of PostgreSQL, which Debian keeps out of the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((found for place in ("", *map(str, places)) if (found := shutil.which(name, path=place or None))), None)


@dataclass(frozen=True)
class Servers:
    """Where the servers listen."""

    postgres: str
    mlflow: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(ready, process: subprocess.Popen, what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"{what} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{what} does not answer"
        time.sleep(0.2)


@contextmanager
def running(words: list[str], **options) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    initdb, postgres = program("initdb"), program("postgres")
    if not initdb or not postgres:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'agnews-exp[postgres]'")
    import psycopg

    user = "nobody" if os.geteuid() == 0 else getpass.getuser()  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory(prefix="agnews-postgres-") as folder:
        shutil.chown(folder, user)
        unprivileged = {"user": user, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        options = {"cwd": folder, **unprivileged}
        data, port = f"{folder}/data", free_port()
        words = [initdb, "-D", data, "-U", "agnews", "--auth=trust", "--no-sync", "--locale=C.UTF-8"]
        subprocess.run(words, check=True, capture_output=True, **options)
        address = {"host": "127.0.0.1", "port": port, "user": "agnews"}

        def answers() -> bool:
            try:
                psycopg.connect(dbname="postgres", **address).close()
            except psycopg.OperationalError:
                return False
            return True

        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with running(
            [postgres, "-D", data, "-p", str(port), *settings], **options, stderr=subprocess.DEVNULL
        ) as server:
            wait_for(answers, server, "postgres")
            connection = psycopg.connect(dbname="postgres", autocommit=True, **address)
            for name in ("mlflow", "optuna"):
                connection.execute(f"CREATE DATABASE {name}")
            connection.close()
            url = f"postgresql+psycopg://agnews@127.0.0.1:{port}"
            with mlflow_server(f"{url}/mlflow", tmp_path_factory.mktemp("artifacts")) as tracking:
                yield Servers(url, tracking)


@contextmanager
def mlflow_server(store: str, artifacts: Path) -> Iterator[str]:
    port = free_port()
    words = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
        artifacts.as_uri(), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    with (artifacts / "server.log").open("w") as log, running(words, stderr=log, start_new_session=True) as server:
        wait_for(answers, server, "mlflow server")
        yield address


def runs_on(address: str, sweep: str) -> tuple[list, list]:
    """The parent runs and the runs of jobs of a sweep, on a server."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=address)
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.sweep = '{sweep}'", max_results=1000)
    parents = [r for r in runs if r.data.tags.get("kind") == "sweep"]
    return parents, [r for r in runs if r.data.tags.get("kind") != "sweep"]


def test_eight_jobs_at_once_on_a_server_leave_eight_whole_runs_and_a_model_that_answers(sweeps, servers, tmp_path):
    import mlflow
    import numpy as np

    done = sweeps.run(
        "model=multinomial_nb", "seed=range(8)", "hydra.launcher.n_jobs=8", "sweep.name=eight",
        "tracking.log_model=true", f"tracking.uri={servers.mlflow}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow could not" not in done.stdout + done.stderr
    assert "MLflow could not" not in "".join(p.read_text() for p in sweeps.folder.glob("logs/*.log"))
    (parent,), children = runs_on(servers.mlflow, "eight")
    assert parent.info.status == "FINISHED"
    assert [c.info.status for c in children] == ["FINISHED"] * 8
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert sorted(c.data.tags["sweep.job"] for c in children) == [str(n) for n in range(8)]
    assert all(c.info.artifact_uri.startswith("mlflow-artifacts:") for c in children)
    assert not (sweeps.project.root / "mlruns" / "mlflow.db").exists()
    client = mlflow.MlflowClient(tracking_uri=servers.mlflow)
    child = children[0]
    stored = client.download_artifacts(child.info.run_id, "result.json", str(tmp_path))
    folder = sweeps.folder / child.data.tags["sweep.job"]
    assert Path(stored).read_text() == (folder / "result.json").read_text()
    assert "jobs.csv" in {a.path for a in client.list_artifacts(parent.info.run_id)}
    mlflow.set_tracking_uri(servers.mlflow)
    try:
        model = mlflow.pyfunc.load_model(f"runs:/{child.info.run_id}/model")
    finally:
        mlflow.set_tracking_uri(None)
    assert len(model.predict(np.asarray(["Oil prices rise as the champions win the cup"], dtype=object))) == 1


def test_eight_workers_of_a_search_write_to_one_study_in_postgresql(sweeps, servers):
    import optuna

    done = sweeps.run(
        "model=sgd_modified_huber", "model.alpha=tag(log,interval(1e-5,1e-1))", "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=16", "hydra.sweeper.plots=false", f"hydra.sweeper.storage={servers.postgres}/optuna",
        "hydra.sweeper.pruner.name=median", "hydra.sweeper.pruner.n_startup_trials=100", "hydra.launcher.n_jobs=8",
        "sweep.name=search", f"tracking.uri={servers.mlflow}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    trials = optuna.load_study(study_name="search", storage=f"{servers.postgres}/optuna").get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"] * 16
    assert all(len(t.intermediate_values) >= 2 for t in trials)
    (parent,), children = runs_on(servers.mlflow, "search")
    assert parent.info.status == "FINISHED"
    assert [c.info.status for c in children] == ["FINISHED"] * 16
    by_number = {c.data.tags["sweep.job"]: c.data.metrics["val/macro_f1"] for c in children}
    assert by_number == {str(t.number): pytest.approx(t.value) for t in trials}
