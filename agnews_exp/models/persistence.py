"""Model folders: manifests with checksums, and classical models without pickle (skops and a list of trusted types)."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from agnews_exp.config.targets import is_own
from agnews_exp.core.errors import StorageError, first_line
from agnews_exp.core.files import atomic_path, sha256_of
from agnews_exp.core.text import has_control

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
READING = "reading.json"
"""The file of a model folder that says how the training files were read, where there were any."""

_CHECKSUM = "checksum"
"""Key of a checksum of the manifest's own entries: a flipped bit would rename a class."""


def write_manifest(folder: Path, family: str, class_names: Sequence[str], **more: Any) -> None:
    """Write manifest.json over all files of a complete model folder, with further entries of the family's own."""
    content = {"format": FORMAT_VERSION, "family": family, "class_names": list(class_names), **more}
    content[_CHECKSUM] = _checksum(content)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    content["sha256"] = {p.relative_to(folder).as_posix(): sha256_of(p) for p in files}
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def add_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file into a complete model folder and its manifest, without reading the other files again."""
    with atomic_path(folder / name) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["sha256"] = dict(sorted((manifest["sha256"] | {name: sha256_of(folder / name)}).items()))
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path, family: str | None = None, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the manifest of a model folder, of this family and with these files, after checking every file."""
    again = "train it again (force=true)"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if int(manifest["format"]) < FORMAT_VERSION:
            raise StorageError(
                f"{folder} was saved by agnews-exp 0.1, whose models this version does not read.", fix=again
            )
        if int(manifest["format"]) > FORMAT_VERSION:
            raise StorageError(
                f"{folder} has format {manifest['format']}; this version reads up to {FORMAT_VERSION}.",
                fix="pip install --upgrade agnews-exp",
            )
        manifest["class_names"] = [str(name) for name in manifest["class_names"]]
        if any(map(has_control, manifest["class_names"])):
            raise ValueError("a class name holds control characters")
        expected = {str(name): str(digest) for name, digest in dict(manifest["sha256"]).items()}
        if not isinstance(manifest["family"], str):
            raise TypeError("its family is no text")
        if family is not None and manifest["family"] != family:
            raise ValueError(f"its manifest is not of a {family} model")
        if missing := [name for name in needs if name not in expected]:
            raise ValueError(f"its manifest does not name {missing[0]}")
        if outside := [n for n in expected if not (folder / n).resolve().is_relative_to(folder.resolve())]:
            raise ValueError(f"its manifest names a file outside it: {outside[0]}")
        if lost := [name for name in expected if not (folder / name).is_file()]:  # opening a pipe would wait for ever
            raise ValueError(f"it lacks the file {lost[0]}")
        if manifest.get(_CHECKSUM) not in (None, _checksum(manifest)):
            raise ValueError(f"{MANIFEST} does not match its own checksum")
        actual = {name: sha256_of(folder / name) for name in expected}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StorageError(f"{folder} is not a complete model folder: {error}", fix=again) from error
    for name, digest in expected.items():
        if actual[name] != digest:
            raise StorageError(
                f"{folder / name} is damaged or was changed: sha256 {actual[name][:12]}, manifest says {digest[:12]}.",
                fix=again,
            )
    assert isinstance(manifest, dict)
    return manifest


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all entries but the files', each of which is checked against its file."""
    own = {key: value for key, value in content.items() if key not in (_CHECKSUM, "sha256")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


MODEL_FILE = "model.skops"

_TRUSTED = frozenset(
    {
        "agnews_exp.models.inner_folds.InnerFolds",
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

_OWN = ("agnews_exp.features.", "agnews_exp.ngrams.", "agnews_exp.models.")
_OWN_CLASS = re.compile(r"agnews_exp\.(features|ngrams|models)(\.[a-z_]+)+\._?[A-Z]\w*\Z")


def trusted_types(path: Path) -> list[str]:
    """Return the types in a model file that skops does not know but that are trusted here.

    Trusted are a fixed list of types from elsewhere, the estimators that this package itself defines, and those of the
    user's modules in AGNEWS_COMPONENTS; a file cannot add to any.
    """
    skops_io = import_skops()

    found = list(skops_io.get_untrusted_types(file=path))
    if refused := [name for name in found if not _is_trusted(name)]:
        raise StorageError(
            f"{path} holds types that are not trusted: {', '.join(sorted(refused))}",
            fix="load only model folders that agnews-exp wrote; an estimator of your own needs "
            "AGNEWS_COMPONENTS=<its module> in the environment, as in training",
        )
    return found


def named_types(path: Path) -> list[str]:
    """Return the trusted types beyond skops' own list that a model file names, without loading it.

    The file may name more of them than skops asks for. Its types of any other kind are not returned.
    """
    found: set[str] = set()

    def collect(node: dict[str, Any]) -> dict[str, Any]:
        if "__module__" in node and "__class__" in node:
            found.add(f"{node['__module__']}.{node['__class__']}")
        return node

    with zipfile.ZipFile(path) as archive:
        json.loads(archive.read("schema.json"), object_hook=collect)
    return sorted(name for name in found if _is_trusted(name))


def is_own_class(name: str) -> bool:
    """Return whether a type's name is that of a class that may be trusted, without importing anything.

    A manifest that names functions among its types would have MLflow's loader trust them.
    """
    return name in _TRUSTED or bool(_OWN_CLASS.match(name)) or is_own(name.rpartition(".")[0])


def _is_trusted(name: str) -> bool:
    if name in _TRUSTED:
        return True
    module, _, attribute = name.rpartition(".")
    if not name.startswith(_OWN) and not is_own(module):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    from sklearn.base import BaseEstimator

    return inspect.isclass(found) and found.__module__ == module and issubclass(found, BaseEstimator)


def save_pipeline(pipeline: Any, folder: Path, class_names: Sequence[str] = ()) -> None:
    """Write a fitted pipeline and its manifest."""
    skops_io = import_skops()

    folder.mkdir(parents=True, exist_ok=True)
    skops_io.dump(pipeline, folder / MODEL_FILE)
    write_manifest(folder, "classical", class_names, types=named_types(folder / MODEL_FILE))


def load_pipeline(folder: Path) -> Any:
    """Load a pipeline that :func:`save_pipeline` wrote."""
    skops_io = import_skops()

    read_manifest(folder, "classical", needs=[MODEL_FILE])
    path = folder / MODEL_FILE
    try:
        _check_archive(path)
        pipeline = skops_io.load(path, trusted=trusted_types(path))
        pipeline.predict, pipeline.named_steps  # noqa: B018 - a file may hold anything that is trusted
    except StorageError:
        raise
    except Exception as error:  # what a made-up file raises is in no list
        raise StorageError(
            f"{path} holds no pipeline that agnews-exp wrote: {first_line(error)}", fix="train it again (force=true)"
        ) from error
    return pipeline


def _check_archive(path: Path) -> None:
    """Refuse an archive that is larger inside than outside: skops stores, it does not compress."""
    with zipfile.ZipFile(path) as archive:
        expanded = sum(item.file_size for item in archive.infolist())
    if expanded > path.stat().st_size:
        raise StorageError(
            f"{path} expands to {expanded:,} bytes, which no model file of agnews-exp does.",
            fix="load only model folders that agnews-exp wrote",
        )


def import_skops() -> Any:
    """Import skops.io without importing torch, and without importing all of scikit-learn.

    skops lists scikit-learn's estimators, and NumPy's and SciPy's functions, when it is imported. That imports every
    module of scikit-learn and the test tools, one of which imports torch where it is installed, and looks for each
    function in every loaded module: seconds that a run does not need, because only loading asks for the lists. So each
    is made when it is first asked for; skops has no public way to do that.
    """
    if "skops.io" in sys.modules:
        return sys.modules["skops.io"]
    import sklearn.utils
    import skops

    list_estimators = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        with _torch_hidden():
            package = sys.modules["skops.io"] = ModuleType("skops.io")
            package.__path__ = [str(Path(place) / "io") for place in skops.__path__]
            utils: Any = importlib.import_module("skops.io._utils")
            del sys.modules["skops.io"]
            list_functions = utils.get_public_type_names
            utils.get_public_type_names = lambda **of: _LazyNames(partial(list_functions, **of))
            skops_io = importlib.import_module("skops.io")
            utils.get_public_type_names = list_functions
    finally:
        sklearn.utils.all_estimators = list_estimators
    for module in ("skops.io._trusted_types", "skops.io._general"):
        sys.modules[module].SKLEARN_ESTIMATOR_TYPE_NAMES = _LazyNames(_estimator_names)  # type: ignore[attr-defined]
    return skops_io


def _estimator_names() -> list[str]:
    """Return the names of scikit-learn's public estimators as skops has them."""
    from sklearn.utils import all_estimators
    from skops.io._utils import get_type_name

    with _torch_hidden():
        names = [get_type_name(estimator) for _, estimator in all_estimators()]
    return [name for name in names if name.startswith("sklearn.")]


class _LazyNames(list[str]):
    """Names that are looked up when they are first asked for.

    Args:
        make: Looks them up.
    """

    def __init__(self, make: Callable[[], list[str]]) -> None:
        super().__init__()
        self._make: Callable[[], list[str]] | None = make

    def __add__(self, other: Any) -> Any:
        """Return the names and ``other``, which is how skops reads them."""
        return [*self, *other]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        self._complete()
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        """Return whether a name is among them."""
        self._complete()
        return super().__contains__(name)

    def _complete(self) -> None:
        make, self._make = self._make, None
        if make is not None:
            self.extend(make())


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Let imports inside believe that torch is not installed, unless it is imported already."""
    if "torch" in sys.modules:
        yield
        return
    hide = _HideTorch()
    sys.meta_path.insert(0, hide)
    try:
        yield
    finally:
        sys.meta_path.remove(hide)


class _HideTorch:
    """An import hook under which torch is not installed for the thread that made it; others import it as ever."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if threading.get_ident() == self._thread and (name == "torch" or name.startswith("torch.")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
