"""Finished matrices on disk, so that a later process with the same texts and settings does no counting at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agnews_exp.data.cache import DEFAULT_SIZE_LIMIT, ArrayCache

_active: list[ArrayCache] = []


@contextlib.contextmanager
def cached_matrices(cache_dir: Path, *, size_limit: int = DEFAULT_SIZE_LIMIT) -> Iterator[ArrayCache]:
    """Let all fast vectorisers of this process keep what ``fit_transform`` and ``transform`` return on disk.

    An entry's key is a hash of the texts and of every setting that matters, so another corpus, fold or parameter
    never gets it.

    Args:
        cache_dir: Folder of the cache.
        size_limit: Bytes that it may hold.
    """
    cache = ArrayCache(cache_dir, size_limit)
    _active.append(cache)
    try:
        yield cache
    finally:
        _active.remove(cache)


def active_cache() -> ArrayCache | None:
    """Return the cache of the innermost open context."""
    return _active[-1] if _active else None
