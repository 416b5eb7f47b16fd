"""Checkpoints and cache entries made up by somebody else: refused or rebuilt; nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from contextlib import suppress

import numpy as np
import pytest

from agnews_exp.core.cache import ArrayCache
from agnews_exp.core.errors import StorageError


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("form", ["pickle", "torch file", "text", "empty"])
def test_a_checkpoint_that_needs_unpickling_is_refused(tmp_path, form):
    torch = pytest.importorskip("torch")
    from agnews_exp.runners.callbacks import SafeCheckpointIO

    path, mark = tmp_path / "last.ckpt", tmp_path / "ran"
    if form == "torch file":
        torch.save({"state_dict": Harmful(mark)}, path)
    else:
        path.write_bytes({"pickle": pickle.dumps(Harmful(mark)), "text": b"no checkpoint", "empty": b""}[form])
    with pytest.raises(StorageError, match=r"last\.ckpt is damaged"):
        SafeCheckpointIO().load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["best.safetensors", "best_validation.npy"])
def test_best_weights_that_are_a_pickle_do_not_run(tmp_path, name):
    torch = pytest.importorskip("torch")
    from agnews_exp.runners.callbacks import CheckpointFolder

    folder = CheckpointFolder(tmp_path, "f")
    folder.path.mkdir()
    folder.save_best({"w": torch.zeros(2)}, np.zeros((2, 2), dtype=np.float32))
    (folder.path / name).write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    with suppress(StorageError):
        folder.best()
    assert not (tmp_path / "ran").exists()


def entry_of(cache, change):
    """Store an entry, change its manifest's body and sign it again."""
    cache.save("kind", "key", {"a": np.arange(3)})
    place = cache.folder / "kind" / "key"
    body = json.loads((place / "manifest.json").read_text())["body"]
    change(place, body)
    crc = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    (place / "manifest.json").write_text(json.dumps({"crc32": crc, "body": body}))


def signed(place, body, name, content):
    path = place / f"{name}.npy"
    path.write_bytes(content)
    body["files"] = {name: [len(content), zlib.crc32(content)]}


def test_a_cache_entry_of_pickled_objects_is_rebuilt_and_not_unpickled(tmp_path):
    cache = ArrayCache(tmp_path / "cache")
    mark = tmp_path / "ran"

    def pickled(place, body):
        np.save(place / "objects.npy", np.array([Harmful(mark)], dtype=object), allow_pickle=True)
        signed(place, body, "a", (place / "objects.npy").read_bytes())

    entry_of(cache, pickled)
    assert cache.load("kind", "key") is None
    entry_of(cache, lambda place, body: signed(place, body, "a", pickle.dumps(Harmful(mark))))
    assert cache.load("kind", "key") is None
    assert not mark.exists()
    rebuilt = cache.get_or_build("kind", "key", lambda: {"a": np.arange(5)})
    assert len(rebuilt["a"]) == 5


@pytest.mark.parametrize("name", ["../../../outside", "{absolute}", "link"])
def test_a_cache_entry_cannot_name_files_outside_of_it(tmp_path, name):
    np.save(tmp_path / "outside.npy", np.arange(9))
    content = (tmp_path / "outside.npy").read_bytes()
    cache = ArrayCache(tmp_path / "cache")

    def outside(place, body):
        (place / "link.npy").symlink_to(tmp_path / "outside.npy")
        given = name.format(absolute=tmp_path / "outside")
        body["files"] = {given: [len(content), zlib.crc32(content)]}

    entry_of(cache, outside)
    assert cache.load("kind", "key") is None


@pytest.mark.parametrize("content", ["[" * 200_000, "[]", "null", '{"body": 3, "crc32": 0}', "\0", ""])
def test_a_cache_manifest_of_any_json_is_no_entry(tmp_path, content):
    cache = ArrayCache(tmp_path / "cache")
    cache.save("kind", "key", {"a": np.arange(3)})
    (cache.folder / "kind" / "key" / "manifest.json").write_text(content)
    assert cache.load("kind", "key") is None
