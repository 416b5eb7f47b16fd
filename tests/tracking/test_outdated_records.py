"""Runs and models of version 0.1 are not read: commands say so, and how to run again."""

from __future__ import annotations

import json

import pytest

from agnews_exp.core.errors import StorageError
from agnews_exp.models.persistence import MANIFEST, read_manifest
from agnews_exp.tracking.record import RESULT, RunFolder


def test_an_outdated_record_is_left_out_and_names_the_command_that_made_it(store_run, tmp_path, caplog):
    run = store_run(tmp_path, 1, "logreg", 0.9, 0.8)
    content = json.loads((run.path / RESULT).read_text())
    assert RunFolder(run.path).result() is not None
    del content["record"]
    (run.path / RESULT).write_text(json.dumps(content))
    assert RunFolder(run.path).result() is None
    assert "another version of agnews-exp (0.1)" in caplog.text
    with pytest.raises(StorageError, match="another version") as error:
        RunFolder(run.path).needed_result()
    assert error.value.fix == "run it again: run.py model=logreg"


def test_a_model_of_version_0_1_is_refused(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "family": "classical", "class_names": [], "sha256": {}}))
    with pytest.raises(StorageError, match=r"saved by agnews-exp 0\.1"):
        read_manifest(tmp_path)
