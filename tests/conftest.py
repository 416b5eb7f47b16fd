"""Fixtures that run the real entry points in a project folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm import WARM, share_server

from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import column_key, confusion_matrix
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.tracking.record import RunFolder
from agnews_exp.tracking.record_files import write_predictions

LONGEST = ("test_study_fast.py", "test_doc_examples.py", "test_readme.py", "test_transformer_run.py", "test_exits.py")
REPO = Path(__file__).resolve().parents[1]


def _hear_interrupts() -> None:
    """Undo what a shell does to its background jobs: they and their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Project:
    """An empty project root; commands run against it as a user's would.

    Attributes:
        root: The folder.
        cold: Whether every command is a new interpreter, for tests about starting, importing and ending.
    """

    root: Path
    cold: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command: nothing of the caller's tracking or data settings."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AGNEWS_", "HYDRA_"))}
        return keep | {"AGNEWS_ROOT": str(self.root), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}

    def run(
        self, *overrides: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python run.py`` to its end."""
        return self.command(str(REPO / "run.py"), *overrides, env=env, cwd=cwd, timeout=timeout)

    def agnews(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the ``agnews`` command to its end."""
        return self.command("-m", "agnews_exp.cli", *words, **options)  # type: ignore[arg-type]

    def command(
        self, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python command line to its end: our entry points in a warm process, unless the project is cold."""
        environment, folder = self.environment | (env or {}), cwd or self.root
        if not self.cold and WARM.can_run(words, environment):
            return WARM.run(words, env=environment, cwd=folder, timeout=timeout)
        return subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=folder,
            check=False,
        )

    def start(self, *overrides: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ``python run.py`` without waiting; its output is merged into stdout."""
        return subprocess.Popen(
            [sys.executable, str(REPO / "run.py"), *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment | (env or {}),
            cwd=self.root,
            preexec_fn=_hear_interrupts,
        )

    def start_agnews(self, *words: str) -> subprocess.Popen[bytes]:
        """Start ``agnews`` without waiting and without its output."""
        return subprocess.Popen(
            [sys.executable, "-m", "agnews_exp.cli", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            cwd=self.root,
            preexec_fn=_hear_interrupts,
        )

    @property
    def run_folders(self) -> list[Path]:
        """All run folders, oldest first."""
        return sorted(p for p in (self.root / "outputs" / "runs").glob("*") if p.is_dir())

    def result(self, folder: Path | None = None) -> dict[str, object]:
        """Content of result.json of a run (the only one by default)."""
        if folder is None:
            (folder,) = self.run_folders
        content = json.loads((folder / "result.json").read_text())
        assert isinstance(content, dict)
        return content

    def statuses(self) -> list[str]:
        """Statuses of all run records, oldest first."""
        return [json.loads((p / "status.json").read_text())["status"] for p in self.run_folders]

    def mlflow_runs(self) -> list:
        """All MLflow runs of this project's store."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.root}/mlruns/mlflow.db")
        experiments = [e.experiment_id for e in client.search_experiments()]
        return list(client.search_runs(experiments, max_results=1000))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project root."""
    root = tmp_path / "project"
    root.mkdir()
    return Project(root)


@pytest.fixture
def cold_project(project: Project) -> Project:
    """An empty project root whose commands are new interpreters."""
    return replace(project, cold=True)


@pytest.fixture(autouse=True)
def no_tracking_address_left_behind() -> Iterator[None]:
    """Undo what ``mlflow.set_tracking_uri`` does to the environment: later runs would log to that store."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project root that the tests of a module share."""
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def ag_news_dir() -> Path:
    """Folder of the real corpus; tests that need it are skipped without it."""
    value = os.environ.get("AGNEWS_DATA_DIR")
    if not value or not (Path(value) / "train.csv").is_file():
        pytest.skip("AGNEWS_DATA_DIR does not name a folder with the AG News CSV files")
    return Path(value)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages as good as not installed, for the rest of the test."""

    def without(*packages: str) -> None:
        for package in packages:
            loaded = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
            for name in {package, *loaded}:
                monkeypatch.setitem(sys.modules, name, None)

    return without


@pytest.fixture(scope="session")
def make_project() -> Callable[[Path], Project]:
    """Make a project at a given path."""

    def make(path: Path) -> Project:
        path.mkdir(parents=True, exist_ok=True)
        return Project(path)

    return make


def pytest_configure(config: pytest.Config) -> None:
    """Start the warm command line while the test processes collect; they share it."""
    # There are more threads than cores: those of OpenMP that wait for each other by counting take the cores from all.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        server = share_server(folder)

        def end() -> None:
            server.terminate()
            server.wait(30)
            shutil.rmtree(folder)

        config.add_cleanup(end)


def pytest_xdist_auto_num_workers() -> int:
    """Half as many test processes again as there are cores: many tests wait for processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that no worker waits for one of them alone at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


NAMES = ("World", "Sports", "Business", "Sci/Tech")
N = 240


def _store_run(output: Path, number: int, model: str, val: float, test: float, **more: Any) -> RunFolder:
    """Store a run whose answers have the given accuracies, as a real run stores them."""
    names: tuple[str, ...] = more.get("class_names", NAMES)
    rng = np.random.default_rng(number)
    labels = np.arange(N) % len(names)
    parts, answers, metrics, confusion = {}, {}, {}, {}
    for split, accuracy in (("val", val), ("test", test)):
        given = labels.copy()
        wrong = rng.permutation(N)[: round(N * (1 - accuracy))]
        given[wrong] = (given[wrong] + 1 + rng.integers(0, len(names) - 1, len(wrong))) % len(names)
        probabilities = np.full((N, len(names)), 0.1)
        probabilities[np.arange(N), given] = 1 - 0.1 * (len(names) - 1)
        parts[split] = TextRows(tuple(f"text {i}" for i in range(N)), labels, np.arange(N))
        answers[split] = Predictions(given, None, probabilities)
        matrix = confusion_matrix(labels, given, len(names))
        confusion[split] = matrix.tolist()
        f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
        metrics |= {f"{split}/macro_f1": float(f1.mean()), f"{split}/accuracy": float((given == labels).mean())}
        metrics |= {f"{split}/f1/{column_key(c, names)}": float(v) for c, v in zip(names, f1, strict=True)}
    folder = RunFolder(output / "runs" / f"20260101-000000-{number:06d}-{number:06x}")
    folder.path.mkdir(parents=True)
    seed, source = more.get("seed", 42), more.get("source", "ag_news:csv")
    folder.start(
        {"model": {"name": model} | more.get("parameters", {}), "seed": seed},
        {"cpu": "test", "command": ["run.py", f"model={model}"]},
    )
    write_predictions(folder.path / "predictions.parquet", parts, answers, names)
    folder.finish(
        {
            "name": more.get("name", f"{model}-hybrid_tfidf"), "model": model, "features": "hybrid_tfidf",
            "family": more.get("family", "classical"), "data_fraction": more.get("fraction", 1.0), "metrics": metrics,
            "timings": {"fit": 1.5}, "class_names": list(names), "folds": {}, "confusion": confusion, "seed": seed,
            "split_seed": 42, "objective": metrics["val/macro_f1"], "fingerprint": f"{number:016x}",
            "group_fingerprint": more.get("group", f"group{number}"),
            "data": {
                "name": source.partition(":")[0], "source": source, "location": "here", "checksum": "c",
                "evaluation_checksum": more.get("checksum", "rows"),
                "rows": {"train": more.get("n_train", 1000), "val": N, "test": N},
            },
        }
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def store_run() -> Callable[..., RunFolder]:
    """Store a run with the given answers: `store_run(outputs, number, model, val, test, ...)`."""
    return _store_run
