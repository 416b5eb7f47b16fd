"""A saved scikit-learn pipeline as an MLflow model, for ``mlflow.sklearn`` and ``mlflow.pyfunc`` to load."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from agnews_exp.models.manifest import MANIFEST
from agnews_exp.models.persistence import MODEL_FILE, is_own_class, named_types
from agnews_exp.tracking.logged_model import CONDA_FILE, PYTHON_FILE, complete, describe, link_model
from agnews_exp.tracking.record import read_json


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
