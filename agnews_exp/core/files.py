"""Atomic writing of files, and checksums that tell a file that is no longer what was written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from agnews_exp.core.errors import StorageError

STATUS = "status.json"
"""The file of a run folder that says how the run ended, and what checksums its files have."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it replaces ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content, or of the names and contents of all files below a folder.

    Hidden files and caches of compiled code are left out. A file that has not changed is read once a process.
    """
    try:
        if not path.is_dir():
            status = path.stat()
            return _file_checksum(path.resolve(), status.st_size, status.st_mtime_ns)
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            parts = file.relative_to(path).parts
            if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
                digest.update(f"{'/'.join(parts)}\0{content_checksum(file)}\0".encode())
        return digest.hexdigest()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.", fix="check the file and its rights") from error


@cache
def _file_checksum(path: Path, _size: int, _modified_ns: int) -> str:
    return sha256_of(path)


def is_intact(path: Path) -> bool:
    """Return whether a run's file is what the run wrote; True where the run has noted nothing about it.

    A flipped bit can leave a file that reads well and says another number.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        noted = json.loads((path.parent / STATUS).read_text(encoding="utf-8"))["sha256"][path.name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True
    return bool(noted == sha256_of(path))
