"""A record is complete or says that it is not."""

from __future__ import annotations

import json
import random

import pytest
from omegaconf import OmegaConf

from agnews_exp.core.errors import StorageError
from agnews_exp.core.files import atomic_path
from agnews_exp.tracking import record


def started(path):
    path.mkdir()
    folder = record.RunFolder(path)
    folder.start({"name": "a"}, {"git": {}})
    return folder


def test_atomic_path_leaves_the_old_file_when_the_writer_fails(tmp_path):
    target = tmp_path / "a.json"
    record.write_json(target, {"old": 1})

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert json.loads(target.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_result_counts_only_after_finish(tmp_path):
    folder = started(tmp_path / "run")
    assert (folder.status, folder.result()) == ("running", None)
    (folder.path / "result.json").mkdir()  # it cannot be written
    with pytest.raises(OSError, match=r"result\.json"):
        folder.finish({"objective": 0.5})
    assert folder.status == "running", "the status comes last"
    (folder.path / "result.json").rmdir()
    folder.finish({"objective": 0.5})
    assert folder.status == "finished"
    assert folder.result() == {"objective": 0.5, "record": 2}


def test_abandoned_run_keeps_reason_and_drops_what_is_half_done(tmp_path):
    folder = started(tmp_path / "run")
    (folder.path / "model").mkdir()
    (folder.path / "model" / "model.skops").write_text("half")
    for half_done in ("predictions.parquet", "result.json"):
        (folder.path / half_done).write_text("half")
    folder.abandon("failed", "boom", traceback="where")
    status = json.loads((folder.path / "status.json").read_text())
    assert (status["status"], status["reason"], status["traceback"]) == ("failed", "boom", "where")
    assert sorted(p.name for p in folder.path.iterdir()) == ["config.yaml", "environment.json", "status.json"]


def test_recall_finds_a_finished_run_and_forgets_a_deleted_one(tmp_path):
    folder = started(tmp_path / "run")
    record.remember(tmp_path, "f00", folder.path)
    assert record.recall(tmp_path, "f00") is None
    folder.finish({"objective": 1.0})
    found = record.recall(tmp_path, "f00")
    assert found is not None
    assert found.path == folder.path
    assert record.recall(tmp_path, "other") is None
    (folder.path / "status.json").unlink()
    assert record.recall(tmp_path, "f00") is None


@pytest.mark.parametrize("content", ["", "{", "[1]", "nul"])
def test_damaged_json_reads_as_missing(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    assert record.read_json(path) is None


def test_finished_runs_are_listed_from_runs_and_sweeps(tmp_path):
    for parts in (("runs", "b"), ("sweeps", "s", "0")):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True)
        started(path).finish({})
    started(tmp_path / "runs" / "a")
    assert [f.path.name for f in record.finished_runs(tmp_path)] == ["b", "0"]


PARTS = ("${", "${a}", "${oc.env:HOME}", "\\", "\\\\", "$", "{", "}", "a", " ", ":", "#", "'", '"', "\n", "é", "1e3")
NASTY = [
    "true",
    "null",
    "~",
    "1e-3",
    "0x1",
    "1:30",
    "2020-01-01",
    "*a",
    "&a",
    "!!python/object",
    "- a",
    "[a",
    "???",
    "",
]


def test_whatever_is_written_as_configuration_is_read_as_it_was(tmp_path):
    drawn = random.Random(0)
    values = [*NASTY, *("".join(drawn.choices(PARTS, k=drawn.randint(1, 6))) for _ in range(600))]
    written = {"texts": values, "deep": {"numbers": [1, 1.0, 1e-5, None, True], "texts": [{"one": v} for v in values]}}
    folder = record.RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.start(written, {})
    assert folder.config() == written
    hydra_reads = OmegaConf.load(folder.path / record.CONFIG)
    assert OmegaConf.to_container(hydra_reads, resolve=True) == written, "also where it is composed again"


def test_a_configuration_that_refers_to_something_is_not_one_that_a_run_wrote(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: ${oc.env:HOME}\n")
    with pytest.raises(StorageError, match="interpolation"):
        record.read_config(path)
