"""Projects whose records are written by hand, as a run writes them: what MLflow makes of them needs no training."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import to_plain
from agnews_exp.tracking import record
from agnews_exp.tracking.environment import describe_environment

WORDS = ("data=sample", "model=multinomial_nb", "features=word_tfidf", "tracking.system_metrics=false")


_SOMEWHERE = "/a/root/of/its/own"


@cache
def _composed(words: tuple[str, ...]) -> str:
    """A configuration as JSON; composing takes a quarter of a second, and many tests ask for the same one."""
    return json.dumps(to_plain(compose_config([*WORDS, f"paths.root_dir={_SOMEWHERE}", *words])))


@dataclass
class Records:
    """A project and its records."""

    root: Path

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    def plain(self, *words: str) -> dict[str, Any]:
        """A run's resolved configuration in this project."""
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # left by mlflow.set_tracking_uri in this process
        plain: dict[str, Any] = json.loads(_composed(words).replace(_SOMEWHERE, str(self.root)))
        return plain

    def begun(self, place: str, *words: str, fingerprint: str = "f" * 16) -> record.RunFolder:
        """A run at work, in a folder below outputs/."""
        folder = record.RunFolder(self.outputs / place)
        folder.path.mkdir(parents=True, exist_ok=True)
        environment = describe_environment(self.root) | {"command": ["run.py", *WORDS, *words]}
        folder.start(self.plain(*words), environment)
        folder.identify(fingerprint)
        return folder

    def finished(self, place: str, *words: str, fingerprint: str = "f" * 16, score: float = 0.8) -> record.RunFolder:
        """A run that has finished."""
        folder = self.begun(place, *words, fingerprint=fingerprint)
        plain = self.plain(*words)
        names = ["a", "b"]
        metrics = {f"{split}/{name}": score for split in ("train", "val", "test") for name in ("macro_f1", "accuracy")}
        metrics |= {f"{split}/f1/{name}": score for split in ("val", "test") for name in names}
        (folder.path / "figures").mkdir()
        (folder.path / "figures" / "confusion_matrix.png").write_bytes(b"picture")
        data = {"name": "sample", "source": "sample", "location": "here", "checksum": "c", "evaluation_checksum": "e"}
        data |= {"rows": {"train": 6, "val": 2, "test": 2}, "digests": {"train": "1", "val": "2", "test": "3"}}
        result = {"name": plain["name"], "model": "multinomial_nb", "features": "word_tfidf", "family": "classical"}
        result |= {"data_fraction": 1.0, "primary": "val/macro_f1", "metrics": metrics, "timings": {"fit": 0.5}}
        result |= {"class_names": names, "folds": {}, "data": data, "seed": plain["seed"], "split_seed": 42}
        folder.finish(result | {"fingerprint": fingerprint, "objective": score})
        record.remember(self.outputs, fingerprint, folder.path)
        return folder

    def sweep(self, name: str, states: dict[int, dict[str, Any]], **info: Any) -> Path:
        """A sweep's folder with the states of its jobs."""
        folder = self.outputs / "sweeps" / name
        times = {"created": "2026-01-02T03:04:05+00:00", "ended": "2026-01-02T04:04:05+00:00"}
        own = {"experiment": "sample", "host": "elsewhere", "pid": 1, "tags": {"sweep.command": "run.py -m x"}}
        content = {"name": name, "status": "finished", "primary": "val/macro_f1", "tracking": own, **times, **info}
        record.write_json(folder / "sweep.json", content)
        for num, state in states.items():
            record.write_json(folder / "jobs" / f"{num}.json", state)
        return folder


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """A project without any record."""
    root = tmp_path / "project"
    root.mkdir()
    return Records(root)
