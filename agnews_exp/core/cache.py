"""A content-addressed store of numpy arrays on disk: what was computed once is read by every later process.

An entry is a folder ``<cache>/<kind>/<key>`` with one ``.npy`` file per array and a ``manifest.json`` of sizes and
CRC-32 checksums. Entries appear by one rename, so a reader sees all of an entry or none of it; a lock per key lets
one of several jobs build while the others wait. Arrays come back memory-mapped, copy-on-write: processes share the
pages, and a caller may write into its own view without changing the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
DEFAULT_SIZE_LIMIT = 4 << 30
"""Bytes that a cache may hold unless told otherwise."""

_MANIFEST = "manifest.json"
_BLOCK = 1 << 22


Arrays = dict[str, NDArray[Any]]
"""The arrays of one entry by name."""


@dataclass(frozen=True)
class CacheInfo:
    """Number and size of a cache's entries."""

    folder: Path  # the cache's folder
    entries: int  # number of entries
    size: int  # bytes of all entries
    by_kind: dict[str, tuple[int, int]]  # (entries, bytes) of each kind


def cache_key(*parts: str | bytes | int | float | bool | None) -> str:
    """Return the key of everything that a result depends on: equal exactly when all parts are equal, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for part in (FORMAT_VERSION, *parts):
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        digest.update(f"{type(part).__name__}{len(data)}:".encode() + data)
    return digest.hexdigest()


def digest_texts(texts: Sequence[str]) -> str:
    """Return a hash of texts and their order (about a gigabyte a second)."""
    lengths = np.fromiter((len(text) for text in texts), "<i8", len(texts))
    digest = hashlib.blake2b(lengths.tobytes(), digest_size=20)
    for first in range(0, len(texts), 4096):
        digest.update("".join(texts[first : first + 4096]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _checksum(path: Path) -> tuple[int, int]:
    """Return (bytes, CRC-32) of a file."""
    crc = size = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
            size += len(block)
    return size, crc


class ArrayCache:
    """A folder of cached arrays; beyond ``size_limit`` bytes the entries used longest ago are removed."""

    def __init__(self, folder: Path, size_limit: int = DEFAULT_SIZE_LIMIT) -> None:
        self.folder = Path(folder)
        self.size_limit = size_limit

    def load(self, kind: str, key: str) -> Arrays | None:
        """Return the verified arrays of an entry, or None when there is none; a damaged one is reported and removed."""
        place = self.folder / kind / key
        try:
            manifest = json.loads((place / _MANIFEST).read_text("utf-8"))
        except FileNotFoundError:
            if place.is_dir():
                self._discard(place, f"{_MANIFEST} is missing")
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._discard(place, f"{_MANIFEST} cannot be read ({error})")
            return None
        try:
            body = manifest["body"]
            if zlib.crc32(_canonical(body)) != manifest["crc32"]:
                raise ValueError(f"{_MANIFEST} does not match its checksum")
            arrays = {name: _read_array(place, name, listed) for name, listed in body["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self._discard(place, str(error))
            return None
        with contextlib.suppress(OSError):
            os.utime(place / _MANIFEST)
        return arrays

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Store arrays, of any shape and dtype without objects, under a key; return whether the cache has them now.

        It is not when it alone exceeds the size limit or when the disk refuses it; a cache is a convenience, so that is
        a log line and not an error.
        """
        size = sum(array.nbytes for array in arrays.values())
        if size > self.size_limit:
            logger.info("%s of %d bytes is not cached: the limit is %d bytes", kind, size, self.size_limit)
            return False
        parent = self.folder / kind
        draft = parent / f".draft-{uuid.uuid4().hex}"
        try:
            draft.mkdir(parents=True)
            files = {}
            for name, array in arrays.items():
                np.save(draft / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
                files[name] = _checksum(draft / f"{name}.npy")
            body = {"files": files}
            manifest = {"crc32": zlib.crc32(_canonical(body)), "body": body}
            (draft / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
            self._make_room(size)
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                draft.rename(parent / key)
        except OSError as error:
            if (parent / key / _MANIFEST).is_file():
                return True  # another process stored the same entry first
            logger.warning("%s could not be cached in %s: %s", kind, self.folder, error)
            return False
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def get_or_build(self, kind: str, key: str, build: Callable[[], Arrays]) -> Arrays:
        """Return the arrays under a key, building and storing them when they are missing.

        Several processes that ask for the same key at once build it once; the others wait.
        """
        found = self.load(kind, key)
        if found is not None:
            return found
        with self.locked(kind, key):
            found = self.load(kind, key)
            if found is not None:
                return found
            arrays = build()
            self.save(kind, key, arrays)
            return arrays

    @contextlib.contextmanager
    def locked(self, kind: str, key: str) -> Any:
        """Hold the lock of a key; without effect where the folder cannot be written."""
        from filelock import FileLock

        locks = self.folder / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{kind}-{key}.lock")
            lock.acquire()
        except OSError:
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _discard(self, place: Path, reason: str) -> None:
        logger.warning("cache entry %s is damaged and will be rebuilt: %s", place, reason)
        _remove(place)

    def _make_room(self, size: int) -> None:
        entries = sorted(_entries(self.folder), key=lambda entry: entry[2])
        total = size + sum(entry[1] for entry in entries)
        for place, used, _ in entries:
            if total <= self.size_limit:
                return
            _remove(place)
            total -= used


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()


def _read_array(place: Path, name: str, listed: Sequence[int]) -> NDArray[Any]:
    path = place / f"{name}.npy"
    if path.resolve().parent != place.resolve():
        raise ValueError(f"{_MANIFEST} names a file outside of the entry: {name!r}")
    found = _checksum(path)
    if found[0] != listed[0]:
        raise ValueError(f"{path.name} has {found[0]} bytes instead of {listed[0]}")
    if found[1] != listed[1]:
        raise ValueError(f"{path.name} does not match its checksum")
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _remove(place: Path) -> None:
    # Renamed first, so that no reader sees half an entry; who has it mapped keeps the data until it lets go.
    grave = place.with_name(f".draft-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        place.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _entries(folder: Path) -> list[tuple[Path, int, float]]:
    """Return (place, bytes, time of last use) of every entry, whole or damaged."""
    found = []
    for place in folder.glob("[!.]*/[!.]*"):
        with contextlib.suppress(OSError):
            if place.is_dir():
                manifest = place / _MANIFEST
                used = (manifest if manifest.exists() else place).stat().st_mtime
                found.append((place, sum(file.stat().st_size for file in place.iterdir()), used))
    return found


def cache_info(cache_dir: Path) -> CacheInfo:
    """Return how many entries of which kind a cache folder holds, and their sizes in bytes."""
    by_kind: dict[str, tuple[int, int]] = {}
    for place, size, _ in _entries(Path(cache_dir)):
        count, total = by_kind.get(place.parent.name, (0, 0))
        by_kind[place.parent.name] = (count + 1, total + size)
    return CacheInfo(
        Path(cache_dir), sum(n for n, _ in by_kind.values()), sum(size for _, size in by_kind.values()), by_kind
    )


def cache_clear(cache_dir: Path) -> CacheInfo:
    """Remove all entries, and drafts that interrupted jobs left; return number and size of the entries before."""
    before = cache_info(cache_dir)
    for place, _, _ in _entries(Path(cache_dir)):
        _remove(place)
    for draft in Path(cache_dir).glob("*/.draft-*"):
        shutil.rmtree(draft, ignore_errors=True)
    return before
