"""A model folder as an MLflow model: its files as they are, a signature, an example, the environments to serve it.

``mlflow.sklearn.log_model`` and ``mlflow.pyfunc.log_model`` would dump or load the model once more and serve the
example to themselves, which takes longer than most fits here.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agnews_exp.models.persistence import MANIFEST, MODEL_FILE, is_own_class, named_types, read_manifest
from agnews_exp.tracking.record import read_json

CONDA_FILE, PYTHON_FILE = "conda.yaml", "python_env.yaml"

_REQUIREMENTS = ("agnews-exp", "mlflow")
_REQUIREMENTS_FILE = "requirements.txt"
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"


class Flavour(Protocol):
    """What MLflow calls a flavour: it fills the folder of an MLflow model."""

    __name__: str

    def save_model(self, path: str, mlflow_model: Any, folder: Path, texts: list[str], **_: Any) -> None:
        """Write MLmodel and all that it names.

        Args:
            path: Folder to make.
            mlflow_model: The ``mlflow.models.Model`` to describe.
            folder: A run's model folder.
            texts: Example texts.
        """


def log_saved(flavour: Flavour, run_id: str, folder: Path, class_names: tuple[str, ...], texts: list[str]) -> str:
    """Log a model folder into a run.

    Args:
        flavour: Of the model's family.
        run_id: An open MLflow run.
        folder: The model folder.
        class_names: K names.
        texts: Example texts.

    Returns:
        The id of the logged model.
    """
    from mlflow.models import Model

    info = Model.log(
        artifact_path=None,
        name="model",
        flavor=flavour,
        run_id=run_id,
        metadata={"class_names": list(class_names)},
        folder=folder,
        texts=texts,
        validate_serving_input=False,
    )
    return str(info.model_id)


def link_model(folder: Path, target: Path) -> None:
    """Link a model folder's files, which MLflow copies right after; where the file systems differ, copy them.

    All that the manifest names comes along, so that `agnews serve models:/...` can check and load it too.
    """
    for name in [MANIFEST, *read_manifest(folder)["sha256"]]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(folder / name, target / name)
        except OSError:
            shutil.copyfile(folder / name, target / name)


def describe(mlflow_model: Any, target: Path, texts: list[str]) -> None:
    """Give an MLflow model its signature, its example and the environments that ``mlflow models serve`` can build."""
    mlflow_model.signature = _signature()
    mlflow_model.saved_input_example_info = _write_example(target, texts)
    _write_environments(target)


def complete(mlflow_model: Any, target: Path) -> None:
    """Write MLmodel, when everything else is there."""
    mlflow_model.model_size_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    mlflow_model.save(str(target / "MLmodel"))


def _signature() -> Any:
    """Return what every text classifier has: an array of texts in, an array of class indices out."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
        outputs=Schema([TensorSpec(np.dtype(np.int64), (-1,))]),
    )


def _write_example(folder: Path, texts: list[str]) -> dict[str, str]:
    (folder / _EXAMPLE).write_text(json.dumps(texts), encoding="utf-8")
    (folder / _SERVING_EXAMPLE).write_text(json.dumps({"inputs": texts}, indent=2), encoding="utf-8")
    return {"artifact_path": _EXAMPLE, "serving_input_path": _SERVING_EXAMPLE, "type": "ndarray"}


def _write_environments(folder: Path) -> None:
    """Write the environments; JSON is YAML."""
    python = platform.python_version()
    (folder / _REQUIREMENTS_FILE).write_text("\n".join(_REQUIREMENTS), encoding="utf-8")
    environments: dict[str, dict[str, Any]] = {
        PYTHON_FILE: {
            "python": python,
            "build_dependencies": ["pip", "setuptools", "wheel"],
            "dependencies": [f"-r {_REQUIREMENTS_FILE}"],
        },
        CONDA_FILE: {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": list(_REQUIREMENTS)}],
        },
    }
    for name, content in environments.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class SavedPipeline:
    """An MLflow flavour: fills the folder of an MLflow model from a run's model folder."""

    __name__ = "mlflow.sklearn"  # the flavour that the logged model is listed under

    def save_model(self, path: str, mlflow_model: Any, folder: Path, texts: list[str], **_: Any) -> None:
        """Write MLmodel, the model folder's files, the example and the environments.

        Args:
            path: Folder to make.
            mlflow_model: The ``mlflow.models.Model`` to describe.
            folder: What :func:`agnews_exp.models.persistence.save_pipeline` wrote.
            texts: Example texts.
        """
        from mlflow import pyfunc

        target = Path(path)
        target.mkdir(parents=True)
        link_model(folder, target)
        describe(mlflow_model, target, texts)
        pyfunc.add_to_model(
            mlflow_model,
            loader_module="mlflow.sklearn",
            model_path=MODEL_FILE,
            conda_env=CONDA_FILE,
            python_env=PYTHON_FILE,
            predict_fn="predict",
        )
        mlflow_model.add_flavor(
            "sklearn",
            pickled_model=MODEL_FILE,
            sklearn_version=version("scikit-learn"),
            serialization_format="skops",
            skops_trusted_types=_types(folder),
            code=None,
        )
        complete(mlflow_model, target)


def _types(folder: Path) -> list[str]:
    """Return the types that the loader must be told to trust; the manifest has them, without importing scikit-learn."""
    manifest = read_json(folder / MANIFEST) or {}
    if "types" not in manifest:
        return named_types(folder / MODEL_FILE)
    return [str(name) for name in manifest["types"] if is_own_class(str(name))]


_FOLDER = "model"


class FolderModel:
    """What ``mlflow.pyfunc.load_model`` wraps.

    Args:
        folder: A model folder; a changed file in it is refused.
    """

    def __init__(self, folder: Path) -> None:
        from agnews_exp.models.loading import load_model

        self._model = load_model(folder)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.int64]:
        """Return shape (n,), class indices of n texts.

        Args:
            model_input: An array, a list, or a table, whose first column counts.
            params: Of MLflow; there are none.
        """
        del params
        values = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        return self._model.predict([str(text) for text in np.asarray(values, dtype=object).ravel()]).labels


def _load_pyfunc(path: str) -> FolderModel:
    """Load the model; MLflow calls this."""
    return FolderModel(Path(path))


class SavedFolder:
    """An MLflow flavour: fills the folder of an MLflow model from a run's model folder."""

    __name__ = "mlflow.pyfunc"  # the flavour that the logged model is listed under

    def save_model(self, path: str, mlflow_model: Any, folder: Path, texts: list[str], **_: Any) -> None:
        """Write MLmodel, the model folder, the example and the environments.

        Args:
            path: Folder to make.
            mlflow_model: The ``mlflow.models.Model`` to describe.
            folder: A model folder of any family.
            texts: Example texts.
        """
        from mlflow import pyfunc

        target = Path(path)
        target.mkdir(parents=True)
        link_model(folder, target / _FOLDER)
        describe(mlflow_model, target, texts)
        pyfunc.add_to_model(
            mlflow_model, loader_module=__name__, data=_FOLDER, conda_env=CONDA_FILE, python_env=PYTHON_FILE
        )
        complete(mlflow_model, target)
