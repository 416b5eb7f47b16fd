"""Downloads from the Hugging Face hub: pinned, checked, cached, and with a deadline."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agnews_exp.core.errors import DataError, StorageError
from agnews_exp.core.files import sha256_of
from agnews_exp.data.files import reading

logger = logging.getLogger(__name__)
T = TypeVar("T")

_DOWNLOAD_SECONDS = 900.0
"""Seconds after which a download is given up (20 MB at 25 kB/s takes 800)."""

OFFLINE_FIX = (
    "set AGNEWS_DATA_DIR (or data.dir) to a folder with train.csv and test.csv, "
    "or use data=sample, which needs no network"
)


def fetch_dataset_file(
    repository: str, revision: str, filename: str, *, sha256: str | None, cache_dir: Path, timeout: float
) -> Path:
    """Return the local path of one file of a dataset repository, downloading it when no cache holds it.

    The hub's own cache layout under ``cache_dir`` is used: files are written under a lock and renamed when
    whole. A copy in the user's common hub cache (HF_HOME) is taken too.

    Args:
        repository: Such as ``"fancyzhx/ag_news"``.
        revision: Commit, tag or branch.
        filename: Path inside the repository.
        sha256: Expected digest; None leaves the content unchecked.
        cache_dir: Folder of the project's hub cache; made when absent.
        timeout: Seconds that the hub has to answer the first request. Name resolution counts.

    Raises:
        DataError: The hub does not answer in time, or has no such file.
        StorageError: The cache cannot be written, or what came is not what was expected.
    """
    cached = _from_cache(repository, revision, filename, sha256, cache_dir)
    if cached is not None:
        return cached
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Given explicitly, because huggingface_hub reads the variable only once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    what = f"{repository}@{revision[:12]}/{filename}"
    url = hf_hub_url(repository, filename, repo_type="dataset", revision=revision, endpoint=endpoint)
    if constants.HF_HUB_OFFLINE:
        raise DataError(f"{what} is in no cache, and HF_HUB_OFFLINE forbids the download.", fix=OFFLINE_FIX)
    call_hub(lambda: get_hf_file_metadata(url, timeout=timeout), timeout, what)
    logger.info("Downloading %s from the Hugging Face hub", what)
    path = call_hub(
        lambda: hf_hub_download(
            repository,
            filename,
            repo_type="dataset",
            revision=revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
            etag_timeout=timeout,
        ),
        _DOWNLOAD_SECONDS,
        what,
    )
    found = Path(path)
    with reading(found):
        digest = sha256_of(found)
    if sha256 is not None and digest != sha256:
        _forget(found)
        raise StorageError(
            f"{what} came with SHA-256 {digest}, expected {sha256}; the file was deleted.",
            fix="run the same command again; if it happens twice, a proxy or mirror changes the file",
        )
    return found


def cached_model(repository: str, revision: str | None) -> Path | None:
    """Return the hub cache's folder of a model, if it has its configuration, fast tokenizer and weights in one file."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "tokenizer.json", "model.safetensors")
    found = [try_to_load_from_cache(repository, name, revision=revision) for name in files]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) else None  # type: ignore[arg-type]


def ask_for_model(repository: str, revision: str | None) -> str:
    """Return the commit at which the hub has a model's config.json; offline, a revision that the cache has.

    Asked once before transformers tries: its own attempts are repeated with growing pauses, which takes a minute when
    nobody answers and has no end when name resolution hangs.

    Args:
        repository: Such as ``"distilbert/distilbert-base-uncased"``.
        revision: Commit, tag or branch; None is the default branch.

    Raises:
        DataError: The hub does not answer in time, refuses (a gated model), or has no such model or revision.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        if revision and isinstance(try_to_load_from_cache(repository, "config.json", revision=revision), str):
            return revision
        raise DataError(f"{repository} is not in the cache, and HF_HUB_OFFLINE forbids asking the hub.")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(repository, "config.json", revision=revision, endpoint=endpoint)
    seconds = 10.0
    found = call_hub(lambda: get_hf_file_metadata(url, timeout=seconds), seconds, f"{repository}/config.json")
    return found.commit_hash or revision or ""


def newest_revision(repository: str) -> str:
    """Return the commit of a model's default branch, or where the hub cannot be asked the newest one in its cache.

    Raises:
        DataError: The hub does not give it, and the cache has none.
    """
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        if commit := ask_for_model(repository, None):
            return commit
        reason = DataError(f"The Hugging Face hub names no commit of {repository}.")
    except DataError as error:
        reason = error
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        raise reason from None
    kept = [
        r
        for found in repositories
        if (found.repo_type, found.repo_id) == ("model", repository)
        for r in found.revisions
    ]
    if not kept:
        raise reason
    return max(kept, key=lambda found: (found.last_modified, found.commit_hash)).commit_hash


def _from_cache(repository: str, revision: str, filename: str, sha256: str | None, cache_dir: Path) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for folder in (cache_dir, None):
        found = try_to_load_from_cache(repository, filename, cache_dir=folder, revision=revision, repo_type="dataset")
        if not isinstance(found, str):
            continue
        path = Path(found)
        with reading(path):
            if sha256 is None or sha256_of(path) == sha256:
                return path
        if folder is not None:
            logger.warning("%s is damaged (wrong SHA-256): it is deleted and downloaded again", path)
            _forget(path)
    return None


def _forget(path: Path) -> None:
    """Delete a cached file: the link in snapshots/ and the blob behind it."""
    for item in {path.resolve(), path}:
        item.unlink(missing_ok=True)


def call_hub(call: Callable[[], T], seconds: float, what: str) -> T:
    """Run a hub call in a thread with a deadline, because name resolution obeys no timeout of its own.

    Raises:
        DataError: The hub does not answer within ``seconds``, refuses, or does not have ``what`` is asked for.
        StorageError: What came cannot be stored.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True, name="hub")
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if not failures:
        raise DataError(f"The Hugging Face hub did not give {what} within {seconds:g} s.", fix=OFFLINE_FIX)
    raise _explain(failures[0], what) from failures[0]


def _explain(error: BaseException, what: str) -> Exception:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | RemoteEntryNotFoundError):
        return DataError(
            f"The Hugging Face hub has no {what}: {reason}",
            fix="leave data.repository and data.revision alone",
        )
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in full):
        return StorageError(f"{what} cannot be stored: {reason}", fix="set paths.cache_dir to another folder")
    kind = "refused" if isinstance(error, HfHubHTTPError) else "could not be reached for"
    return DataError(f"The Hugging Face hub {kind} {what}: {type(error).__name__}: {reason}", fix=OFFLINE_FIX)
