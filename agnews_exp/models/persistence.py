"""Saving and loading classical models without pickle: skops with a fixed list of trusted types."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import StorageError

FORMAT_VERSION = 1
MODEL_FILE = "model.skops"
_MANIFEST_FILE = "manifest.json"

_TRUSTED = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "numpy.dtype",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
    }
)
"""Types from elsewhere that are trusted beyond skops' own list: containers of numbers, and boosters."""

_OWN = ("agnews_exp.features.", "agnews_exp.models.")


def trusted_types(path: Path) -> list[str]:
    """Return the types in a model file that skops does not know and we trust.

    Trusted are a fixed list of types from elsewhere and the estimators that this package itself defines; a file cannot
    add to either.

    Raises:
        StorageError: The file holds any other type.
    """
    skops_io = import_skops()

    found = list(skops_io.get_untrusted_types(file=path))
    if refused := [name for name in found if not _is_trusted(name)]:
        raise StorageError(
            f"{path} holds types that are not trusted: {', '.join(sorted(refused))}",
            fix="load only model folders that agnews-exp wrote",
        )
    return found


def _is_trusted(name: str) -> bool:
    if name in _TRUSTED:
        return True
    if not name.startswith(_OWN):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    from sklearn.base import BaseEstimator

    return inspect.isclass(found) and found.__module__ == module and issubclass(found, BaseEstimator)


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Write a fitted pipeline and its manifest.

    Args:
        pipeline: A scikit-learn pipeline of our own and scikit-learn's types.
        folder: Created if needed.
    """
    skops_io = import_skops()

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    skops_io.dump(pipeline, path)
    manifest = {"format": FORMAT_VERSION, "family": "classical", "sha256": {MODEL_FILE: _sha256(path)}}
    (folder / _MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def load_pipeline(folder: Path) -> Any:
    """Load a pipeline that :func:`save_pipeline` wrote.

    Raises:
        StorageError: A file is missing, changed, or holds a type that is not trusted.
    """
    skops_io = import_skops()

    path = folder / MODEL_FILE
    try:
        manifest = json.loads((folder / _MANIFEST_FILE).read_text(encoding="utf-8"))
        expected = manifest["sha256"][MODEL_FILE]
        actual = _sha256(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{folder} is not a complete model folder: {error}", fix="train it again (force=true)"
        ) from error
    if actual != expected:
        raise StorageError(
            f"{path} is damaged or was changed: sha256 {actual[:12]}, manifest says {str(expected)[:12]}.",
            fix="train it again (force=true)",
        )
    return skops_io.load(path, trusted=trusted_types(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_skops() -> Any:
    """Import skops.io without importing torch.

    skops imports every module of scikit-learn to list its estimators, and one of those imports torch where it is
    installed: more than a second that no classical model needs. For the moment there is none.
    """
    if "skops.io" in sys.modules or "torch" in sys.modules:
        return importlib.import_module("skops.io")
    hide = _HideTorch()
    sys.meta_path.insert(0, hide)
    try:
        return importlib.import_module("skops.io")
    finally:
        sys.meta_path.remove(hide)


class _HideTorch:
    """An import hook under which torch is not installed."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == "torch" or name.startswith("torch."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
