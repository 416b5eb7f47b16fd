"""The one format of model folders: files of every family, and a manifest that names and checks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.config.cells import has_control
from agnews_exp.config.errors import StorageError
from agnews_exp.config.storage import atomic_path, sha256_of

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_CHECKSUM = "checksum"
"""Key of a checksum of the manifest's own entries: a flipped bit would rename a class."""


def write_manifest(folder: Path, family: str, class_names: Sequence[str], **more: Any) -> None:
    """Write manifest.json over all files that lie in a model folder.

    Args:
        folder: The model folder, complete.
        family: ``classical``, ``transformer``, ``cascade`` or ``onnx``.
        class_names: K names, in the order of the class indices.
        more: Further entries of the family's own.
    """
    content = {"format": FORMAT_VERSION, "family": family, "class_names": list(class_names), **more}
    content[_CHECKSUM] = _checksum(content)
    content["sha256"] = {p.relative_to(folder).as_posix(): sha256_of(p) for p in _files(folder)}
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
    """Return the manifest of a model folder after checking every file that it names.

    Args:
        folder: The model folder.
        family: The family that it must be of; None takes any.
        needs: Files that it must name.

    Raises:
        StorageError: A file is missing or was changed, the folder is of another family or of a newer format.
    """
    again = "train it again (force=true)"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
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
        if outside := [name for name in expected if not _inside(folder, name)]:
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


def _inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() != MANIFEST)
