"""A model folder of any other family (transformer, cascade, blend) as an MLflow model, which this module loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.tracking.logged_model import CONDA_FILE, PYTHON_FILE, complete, describe, link_model

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
