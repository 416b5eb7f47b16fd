"""Finding the model that a word means: a run's, a model folder, or a version in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError, first_line
from agnews_exp.models.answers import FittedModel
from agnews_exp.models.loading import load_model
from agnews_exp.models.persistence import MANIFEST, read_manifest
from agnews_exp.tracking.record import MODEL
from agnews_exp.tracking.runs import one_run


@dataclass(frozen=True, eq=False)
class FoundModel:
    """A model folder and the name by which it was asked for."""

    folder: Path  # the model folder
    name: str  # its name for people

    @property
    def identity(self) -> str:
        """Checksums of the folder's files: equal exactly for equal models."""
        return str(sorted(read_manifest(self.folder)["sha256"].items()))

    def load(self, device: str = "auto") -> FittedModel:
        """Load the model of the folder."""
        return load_model(self.folder, device)


def find_model(plain: Mapping[str, Any], word: str) -> FoundModel:
    """Return the model that a model folder, a run (folder, name, MLflow id or filter) or ``models:/name@alias`` means.

    Raises:
        ConfigError: It means none, or several.
    """
    if word.startswith("models:/"):
        return FoundModel(_registered(plain, word), word.removeprefix("models:/"))
    path = Path(word).expanduser()
    if (path / MANIFEST).is_file():
        return FoundModel(path, path.parent.name if path.name == MODEL else path.name)
    run = one_run(plain, word)
    return FoundModel(run.model, str((run.result() or {}).get("name", run.path.name)))


def _registered(plain: Mapping[str, Any], uri: str) -> Path:
    """Fetch a registered model's files and return the model folder among them."""
    from agnews_exp.tracking.store import existing_store

    store = existing_store(plain)
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(store)
    try:
        fetched = Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as error:
        raise ConfigError(
            f"MLflow cannot give {uri}: {first_line(error)}", fix="agnews register <run> --name <name>"
        ) from error
    folders = [path.parent for path in fetched.rglob(MANIFEST)]
    if not folders:
        raise ConfigError(f"{uri} holds no model folder of agnews-exp.", fix="agnews register <run> --name <name>")
    return min(folders, key=lambda folder: len(folder.parts))  # a cascade's holds those of its two models
