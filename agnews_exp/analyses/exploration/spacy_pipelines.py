"""spaCy's pipelines: packages of their own, which pip does not get from a package index."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from agnews_exp.core.errors import MissingDependencyError


def load_spacy(model: str, what: str, exclude: Sequence[str] = ()) -> Any:
    """Load an installed pipeline.

    Args:
        model: Its name, or its folder.
        what: What needs it, for the message: "typed entities".
        exclude: Components that are not needed.

    Raises:
        MissingDependencyError: spaCy or the pipeline is not installed, or cannot be read.
    """
    try:
        return import_module("spacy").load(model, exclude=list(exclude))
    except (ImportError, OSError, ValueError) as error:
        what_is_missing = "the package 'spacy'" if isinstance(error, ImportError) else f"spaCy's pipeline '{model}'"
        raise MissingDependencyError(
            f"{what.capitalize()} need {what_is_missing}, which is not installed.",
            fix=f"pip install spacy && python -m spacy download {model}",
        ) from error
