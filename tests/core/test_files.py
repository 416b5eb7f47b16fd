"""Checksums of files and folders: what has changed is noticed, and what nobody noted is no damage."""

from __future__ import annotations

import json

import pytest

from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.core.files import STATUS, content_checksum, is_intact, sha256_of
from agnews_exp.core.paths import check_file_name


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


def test_a_name_that_some_system_cannot_give_a_folder_is_refused_by_its_key():
    good = ["grid", "grid.2", "a b", "com10", "console", "nul_", "体育", "c++", "-x", "x" * 200]
    bad = [
        "",
        "CON",
        "con.txt",
        "Prn",
        "aux.",
        "NUL",
        "com1",
        "LPT9.log",
        "com\u00b9",
        "a.",
        "a ",
        " a",
        ".a",
        "..",
        "a/b",
    ]
    bad += [".a", "..", "a/b", "a\\b", "a:b", "a*", "a?", 'a"', "<a>", "a|b", "a\nb", "a\x1bb", "x" * 201, "体" * 67]
    for name in good:
        check_file_name("sweep.name", name)
    for name in bad:
        with pytest.raises(ConfigError, match=r"sweep\.name=.* cannot be the name of a folder"):
            check_file_name("sweep.name", name)


def test_names_that_are_one_on_disks_without_upper_and_lower_case_are_refused_together():
    pairs = [("Grid", "grid"), ("STRASSE", "straße"), ("café", "cafe\u0301"), ("ÉTÉ", "e\u0301te\u0301")]
    for name, other in pairs:
        for one, two in ((name, other), (other, name)):
            with pytest.raises(ConfigError, match="upper from lower case") as refused:
                check_file_name("sweep.name", one, ["something", two])
            assert f"sweep.name={two}" in str(refused.value)
            check_file_name("sweep.name", one, [two, one])  # both are there already: nothing new is made
    check_file_name("sweep.name", "grid-2", ["grid", "GRID-3"])
