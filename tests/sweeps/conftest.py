"""A project whose sweeps run quickly: the shipped sample, few terms, dummy models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
LIGHT = (
    "data=sample",
    "features=word_tfidf",
    "features.blocks.word.max_features=200",
    "evaluation.latency_repeats=0",
    "tracking.log_model=false",
    "tracking.system_metrics=false",
)
FAULTY = yaml.safe_dump(
    {
        "name": "faulty", "family": "classical", "accepts": ["sparse"],
        "_target_": "agnews_exp.models.faults.Faulty", "fault": "none", "seconds": 0.0,
        "strategy": "most_frequent", "random_state": "${seed}",
    }
)  # fmt: skip
"""The configuration of tests/sweeps/faults/estimators.py; commands get it with --config-dir."""


@dataclass(frozen=True)
class Sweeps:
    """Runs sweeps in a project and reads what they left."""

    project: object
    extra: Path

    @property
    def env(self) -> dict[str, str]:
        """Environment of a sweep: the ill-behaved estimators are importable."""
        return {"PYTHONPATH": str(HERE / "faults")}

    def words(self, *words: str) -> list[str]:
        return ["-m", f"--config-dir={self.extra}", *LIGHT, *words]

    def run(self, *words: str, timeout: float = 300, **env: str):
        """Run a sweep to its end."""
        return self.project.run(*self.words(*words), env=self.env | env, timeout=timeout)

    def start(self, *words: str):
        """Start a sweep without waiting."""
        return self.project.start(*self.words(*words), env=self.env)

    @property
    def folders(self) -> list[Path]:
        return sorted(p.parent for p in (self.project.root / "outputs" / "sweeps").glob("*/sweep.json"))

    @property
    def folder(self) -> Path:
        """The only sweep's folder."""
        (folder,) = self.folders
        return folder

    def info(self) -> dict:
        return json.loads((self.folder / "sweep.json").read_text())

    def states(self) -> list[dict]:
        """States of the only sweep's jobs, by number."""
        paths = [p for p in (self.folder / "jobs").glob("*.json") if p.stem.isdigit()]
        return [json.loads(p.read_text()) for p in sorted(paths, key=lambda p: int(p.stem))]

    def finished_records(self) -> list[int]:
        """Numbers of the jobs whose run record is finished."""
        found = []
        for path in self.folder.glob("*/status.json"):
            if json.loads(path.read_text())["status"] == "finished" and (path.parent / "result.json").is_file():
                found.append(int(path.parent.name))
        return sorted(found)

    def runs(self) -> tuple[list, list]:
        """MLflow's parent runs and the runs of jobs."""
        runs = self.project.mlflow_runs()
        parents = [r for r in runs if r.data.tags.get("kind") == "sweep"]
        return parents, [r for r in runs if r.data.tags.get("kind") != "sweep"]


@pytest.fixture
def sweeps(project, tmp_path) -> Sweeps:
    """Sweeps in an empty project."""
    extra = tmp_path / "extra"
    (extra / "model").mkdir(parents=True)
    (extra / "model" / "faulty.yaml").write_text(FAULTY)
    return Sweeps(project, extra)
