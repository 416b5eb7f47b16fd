"""A saved scikit-learn pipeline as an MLflow model: the file as it is, and the description that MLflow loads it by.

``mlflow.sklearn.log_model`` would dump the pipeline a second time and serve the example to itself, which takes longer
than most fits here.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.models.manifest import MANIFEST
from agnews_exp.models.persistence import MODEL_FILE, named_types
from agnews_exp.tracking.record import read_json

_REQUIREMENTS = ("agnews-exp", "mlflow")
_REQUIREMENTS_FILE, _PYTHON_FILE, _CONDA_FILE = "requirements.txt", "python_env.yaml", "conda.yaml"
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"


def log_classical(run_id: str, folder: Path, class_names: tuple[str, ...], texts: list[str]) -> str:
    """Log a model folder into a run, for ``mlflow.sklearn`` and ``mlflow.pyfunc`` to load.

    Args:
        run_id: An open MLflow run.
        folder: What :func:`agnews_exp.models.persistence.save_pipeline` wrote.
        class_names: K names.
        texts: Example texts.

    Returns:
        The id of the logged model.
    """
    from mlflow.models import Model

    info = Model.log(
        artifact_path=None,
        name="model",
        flavor=_SavedPipeline(),
        run_id=run_id,
        metadata={"class_names": list(class_names)},
        folder=folder,
        texts=texts,
        validate_serving_input=False,
    )
    return str(info.model_id)


class _SavedPipeline:
    """An MLflow flavour: fills the folder of an MLflow model from a run's model folder."""

    __name__ = "mlflow.sklearn"  # the flavour that the logged model is listed under

    def save_model(self, path: str, mlflow_model: Any, folder: Path, texts: list[str], **_: Any) -> None:
        """Write MLmodel, the model file, the example and the environments.

        Args:
            path: Folder to make.
            mlflow_model: The ``mlflow.models.Model`` to describe.
            folder: The run's model folder.
            texts: Example texts.
        """
        from mlflow import pyfunc

        target = Path(path)
        target.mkdir(parents=True)
        _link(folder / MODEL_FILE, target / MODEL_FILE)
        _link(folder / MANIFEST, target / MANIFEST)  # so that `agnews serve models:/...` can check and load it too
        mlflow_model.signature = _signature()
        mlflow_model.saved_input_example_info = _write_example(target, texts)
        _write_environments(target)
        pyfunc.add_to_model(
            mlflow_model,
            loader_module="mlflow.sklearn",
            model_path=MODEL_FILE,
            conda_env=_CONDA_FILE,
            python_env=_PYTHON_FILE,
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
        mlflow_model.model_size_bytes = sum(file.stat().st_size for file in target.iterdir())
        mlflow_model.save(str(target / "MLmodel"))


def _types(folder: Path) -> list[str]:
    """Return the types that the loader must be told to trust; the manifest has them, without importing scikit-learn."""
    manifest = read_json(folder / MANIFEST) or {}
    return [str(name) for name in manifest["types"]] if "types" in manifest else named_types(folder / MODEL_FILE)


def _link(source: Path, target: Path) -> None:
    """Link a file that MLflow copies right after; where the file systems differ, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
    """Write the environments that ``mlflow models serve`` can build; JSON is YAML."""
    python = platform.python_version()
    (folder / _REQUIREMENTS_FILE).write_text("\n".join(_REQUIREMENTS), encoding="utf-8")
    environments: dict[str, dict[str, Any]] = {
        _PYTHON_FILE: {
            "python": python,
            "build_dependencies": ["pip", "setuptools", "wheel"],
            "dependencies": [f"-r {_REQUIREMENTS_FILE}"],
        },
        _CONDA_FILE: {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": list(_REQUIREMENTS)}],
        },
    }
    for name, content in environments.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
