"""Checksums of files and folders: what has changed is noticed, and what nobody noted is no damage."""

from __future__ import annotations

import json

import pytest

from agnews_exp.core.errors import StorageError
from agnews_exp.core.files import STATUS, content_checksum, is_intact, sha256_of


def test_a_file_with_one_bit_flipped_is_not_intact(tmp_path):
    file = tmp_path / "result.json"
    file.write_text('{"accuracy": 0.91}')
    assert is_intact(file)  # nothing is noted about it
    (tmp_path / STATUS).write_text(json.dumps({"sha256": {"result.json": sha256_of(file)}}))
    assert is_intact(file)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert not is_intact(file)
    for damaged in ("", "[]", '{"sha256": []}', '{"sha256": {"other": "x"}}'):
        (tmp_path / STATUS).write_text(damaged)
        assert is_intact(file), damaged


def test_a_folder_is_its_files_names_and_contents_without_caches_and_hidden_files(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights").write_text("one")
    (folder / "config").write_text("two")
    before = content_checksum(folder)
    for number, ignored in enumerate((".lock", "deep/.cache", "__pycache__/x.pyc")):
        (folder / ignored).parent.mkdir(exist_ok=True)
        (folder / ignored).write_text(str(number))
    assert content_checksum(folder) == before
    (folder / "deep" / "weights").rename(folder / "deep" / "weight")
    renamed = content_checksum(folder)
    (folder / "deep" / "weight").write_text("One")
    assert len({before, renamed, content_checksum(folder)}) == 3


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="gone"):
        content_checksum(tmp_path / "gone")
