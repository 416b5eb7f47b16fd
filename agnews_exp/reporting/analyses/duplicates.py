"""Near-duplicates of a corpus, found once for all models and explorations of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.data.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.evaluation.errors.near_duplicates import NearDuplicates, find_near_duplicates

_CACHE_KIND = "near_duplicates"


def cached_near_duplicates(cache_dir: Path, texts: Sequence[str], settings: Mapping[str, Any]) -> NearDuplicates:
    """Return the near-duplicates among texts.

    Args:
        cache_dir: The project's cache.
        texts: The texts of all splits together.
        settings: ``threshold``, ``shingle_words``, ``permutations`` of :func:`find_near_duplicates`.

    Raises:
        MissingDependencyError: datasketch is not installed.
    """

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(vars(find_near_duplicates(texts, **settings))), {}

    key = cache_key(1, digest_texts(texts), *(settings[name] for name in sorted(settings)))
    return NearDuplicates(**ArrayCache(cache_dir / "analyses").get_or_build(_CACHE_KIND, key, build).arrays)
