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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.models.persistence import MANIFEST, MODEL_FILE, is_own_class, named_types, read_manifest

_CONDA, _PYTHON, _REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
_PACKAGES = ("agnews-exp", "mlflow")
_FOLDER = "model"


def log_saved(run_id: str, folder: Path, class_names: tuple[str, ...], texts: list[str]) -> str:
    """Log a model folder with example texts into an open MLflow run; return the id of the logged model."""
    from mlflow.models import Model

    info = Model.log(
        artifact_path=None,
        name="model",
        flavor=SavedModel(folder),
        run_id=run_id,
        metadata={"class_names": list(class_names)},
        texts=texts,
        validate_serving_input=False,
    )
    return str(info.model_id)


class SavedModel:
    """An MLflow flavour: fills the folder of an MLflow model from a run's model folder.

    Classical models are listed as ``mlflow.sklearn``, which loads them without this package's pyfunc; all others as
    ``mlflow.pyfunc``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._manifest = folder, read_manifest(folder)
        self._classical = self._manifest.get("family") == "classical"
        self.__name__ = "mlflow.sklearn" if self._classical else "mlflow.pyfunc"

    def save_model(self, path: str, mlflow_model: Any, texts: list[str], **_: Any) -> None:
        """Make the folder ``path``: MLmodel, the model folder's files, the example texts and the environments."""
        from mlflow import pyfunc

        target = Path(path)
        target.mkdir(parents=True)
        self._link(target if self._classical else target / _FOLDER)
        mlflow_model.signature = _signature()
        mlflow_model.saved_input_example_info = _write_example(target, texts)
        _write_environments(target)
        environments = {"conda_env": _CONDA, "python_env": _PYTHON}
        if self._classical:
            loader = {"loader_module": "mlflow.sklearn", "model_path": MODEL_FILE, "predict_fn": "predict"}
            pyfunc.add_to_model(mlflow_model, **loader, **environments)
            mlflow_model.add_flavor(
                "sklearn",
                pickled_model=MODEL_FILE,
                sklearn_version=version("scikit-learn"),
                serialization_format="skops",
                skops_trusted_types=trusted_types(self._folder),
                code=None,
            )
        else:
            pyfunc.add_to_model(mlflow_model, loader_module=__name__, data=_FOLDER, **environments)
        mlflow_model.model_size_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        mlflow_model.save(str(target / "MLmodel"))  # last, when everything else is there

    def _link(self, target: Path) -> None:
        """Link the files, which MLflow copies right after; where the file systems differ, copy them.

        All that the manifest names comes along, so that `agnews serve models:/...` can check and load it too.
        """
        for name in [MANIFEST, *self._manifest["sha256"]]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._folder / name, target / name)
            except OSError:
                shutil.copyfile(self._folder / name, target / name)


def trusted_types(folder: Path) -> list[str]:
    """Return the types that a loader of a classical model must trust, read from its manifest without scikit-learn."""
    manifest = read_manifest(folder)
    if "types" not in manifest:
        return named_types(folder / MODEL_FILE)
    return [str(name) for name in manifest["types"] if is_own_class(str(name))]


def _signature() -> Any:
    """Return the signature of every text classifier: an array of texts in, an array of class indices out."""
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
    """Write the environments that ``mlflow models serve`` can build; JSON is YAML."""
    python = platform.python_version()
    (folder / _REQUIREMENTS).write_text("\n".join(_PACKAGES), encoding="utf-8")
    builds, needs = ["pip", "setuptools", "wheel"], [f"-r {_REQUIREMENTS}"]
    conda = [f"python={python}", "pip", {"pip": list(_PACKAGES)}]
    environments = {
        _PYTHON: {"python": python, "build_dependencies": builds, "dependencies": needs},
        _CONDA: {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": conda},
    }
    for name, content in environments.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class FolderModel:
    """A model folder, of which a changed file is refused, as ``mlflow.pyfunc.load_model`` wraps it."""

    def __init__(self, folder: Path) -> None:
        from agnews_exp.models.loading import load_model

        self._model = load_model(folder)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.int64]:
        """Return shape (n,), class indices of n texts: an array, a list, or a table, whose first column counts."""
        del params
        values = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        return self._model.predict([str(text) for text in np.asarray(values, dtype=object).ravel()]).labels


def _load_pyfunc(path: str) -> FolderModel:
    """Load the model; MLflow calls this."""
    return FolderModel(Path(path))
