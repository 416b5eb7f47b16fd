"""A model folder of any family as an MLflow model: the code of its pyfunc flavour (logged as code, not pickled)."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel


class FolderModel(PythonModel):  # type: ignore[misc,unused-ignore]
    """Answers texts with class indices; the artifact ``model`` is the run's model folder."""

    def load_context(self, context: Any) -> None:
        """Load the model; a changed file is refused."""
        from agnews_exp.models.loading import load_model

        self._model = load_model(Path(context.artifacts["model"]))

    # Without annotations: MLflow would take them for a schema of its own and warn.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return shape (n,), class indices of n texts (an array, a list, or a table's first column)."""
        values = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        return self._model.predict([str(text) for text in np.asarray(values, dtype=object).ravel()]).labels


def log_folder(folder: Path, class_names: tuple[str, ...], texts: list[str]) -> str:
    """Log a model folder into the active run.

    Args:
        folder: A model folder.
        class_names: K names.
        texts: Example texts.

    Returns:
        The id of the logged model.
    """
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    from agnews_exp.models.loading import load_model

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    answers = load_model(folder).predict(texts).labels
    example = np.asarray(texts, dtype=object)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*type hint.*")  # the signature says it all
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=__file__,
            artifacts={"model": str(folder)},
            signature=infer_signature(example, answers),
            input_example=example,
            pip_requirements=["agnews-exp", "mlflow"],
            metadata={"class_names": list(class_names)},
        )
    return str(info.model_id)


if __name__ not in ("agnews_exp.tracking.folder_model", "__main__"):
    # MLflow runs this file to learn which object the model is.
    mlflow.models.set_model(FolderModel())
