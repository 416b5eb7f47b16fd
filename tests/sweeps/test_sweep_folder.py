"""A sweep's identity, name, lock and copy of the configuration; GPU slots and thread limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from agnews_exp.core.errors import ConfigError
from agnews_exp.core.paths import check_file_name
from agnews_exp.sweeps.launcher import GpuSlots, thread_environment, thread_limit
from agnews_exp.sweeps.state import (
    Job,
    JobState,
    SweepFolder,
    config_digest,
    folder_names,
    identity,
    judge,
    snapshot_config,
)
from agnews_exp.tracking import record


def test_identity_is_the_command_but_not_how_it_is_worked_off():
    words = ["model=a,b", "seed=1,2"]
    assert identity([*words, "hydra.launcher.n_jobs=4", "sweep.name=x", "hydra.sweeper.n_trials=9"]) == identity(words)
    assert identity([*words, "paths.output_dir=/elsewhere", "+paths.cache_dir=/there"]) == identity(words)
    assert identity([*words, "model.C=1"]) != identity(words)
    assert identity([*words, "hydra/sweeper=optuna"]) != identity(words)


def begun(folder: SweepFolder, words: list[str]) -> SweepFolder:
    folder.path.mkdir()
    folder.update(words=words, conf="c", command=f"python run.py -m {' '.join(words)}")
    return folder


def test_a_command_gets_the_folders_that_are_its_own_and_the_next_one_that_is_free(tmp_path):
    words = ["model=a,b"]
    (first,) = folder_names(tmp_path, "model", None, words, "c")
    begun(first, words)
    again, free = folder_names(tmp_path, "model", None, words, "c")
    assert again.path == first.path
    assert free.name == f"{first.name}-2"
    (other,) = folder_names(tmp_path, "model", None, words, "another configuration")
    assert other.name != first.name


def test_a_name_that_belongs_to_another_command_is_refused(tmp_path):
    (mine,) = folder_names(tmp_path, "", "mine", ["model=a,b"], "c")
    begun(mine, ["model=a,b"])
    assert folder_names(tmp_path, "", "mine", ["model=a,b"], "changed")[0].path == mine.path
    with pytest.raises(ConfigError, match=r"belongs to another command: python run\.py -m model=a,b"):
        folder_names(tmp_path, "", "mine", ["model=a"], "c")


def test_a_sweep_is_called_as_every_disk_can_call_a_folder(tmp_path):
    (mine,) = folder_names(tmp_path, "", "Grid", ["model=a,b"], "c")
    begun(mine, ["model=a,b"])
    for name in ("grid", "GRID", "con", "a."):
        with pytest.raises(ConfigError, match=r"sweep\.name="):
            folder_names(tmp_path, "", name, ["model=a,b"], "c")
    assert folder_names(tmp_path, "", "Grid", ["model=a,b"], "c")[0].path == mine.path
    for label in ("con", "nul.x", "COM1", "...", "", "a" * 47 + ".-b", "体育"):  # names that are made up
        (made,) = folder_names(tmp_path, label, None, ["model=a"], "c")
        check_file_name("sweep.name", made.name)


def test_the_lock_is_held_until_the_last_process_that_inherited_it_is_gone(tmp_path):
    folder = SweepFolder(tmp_path / "s")
    folder.lock.acquire()
    held = [folder.lock.descriptor]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held)
    folder.lock.release()
    assert folder.lock.active
    child.communicate(b"\n")
    assert not folder.lock.active


def test_a_sweep_that_a_living_process_works_on_is_refused(tmp_path):
    folder = SweepFolder(tmp_path / "s")
    folder.lock.acquire()
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        SweepFolder(tmp_path / "s").lock.acquire()
    folder.lock.release()
    again = SweepFolder(tmp_path / "s")
    again.lock.acquire()
    again.lock.release()


def test_a_lock_whose_owner_has_given_its_number_to_another_process_is_that_of_leftovers(tmp_path, monkeypatch):
    monkeypatch.setattr("agnews_exp.sweeps.state.LOCK_SECONDS", 0.2)
    holder, folder = SweepFolder(tmp_path / "s"), SweepFolder(tmp_path / "s")
    holder.lock.acquire()
    (tmp_path / "s" / ".lock").write_text(json.dumps({"pid": os.getpid(), "started": 1.0}))
    with pytest.raises(ConfigError, match="worked on by processes of an earlier call"):
        folder.lock.acquire()
    holder.lock.release()


def test_a_job_is_settled_only_with_its_record(tmp_path):
    folder = SweepFolder(tmp_path / "s")
    run = record.RunFolder(folder.path / "0")
    run.path.mkdir(parents=True)
    run.start({"a": 1}, {})
    finished, pruned = JobState(0, (), status="finished", run="0"), JobState(1, (), status="pruned", objective=0.1)
    assert not folder.is_settled(finished)
    run.finish({"objective": 0.5})
    assert folder.is_settled(finished)
    assert folder.is_settled(pruned)
    for status in ("waiting", "running", "failed", "killed"):
        assert not folder.is_settled(replace(finished, status=status))
    assert not folder.is_settled(replace(finished, run=None))
    (run.path / "result.json").write_text('{"objective": 0.6, "record": 2}')
    assert not folder.is_settled(finished)
    shutil.rmtree(run.path)
    assert not folder.is_settled(finished)
    assert not folder.is_settled(None)


def test_the_copy_of_the_configuration_is_made_once(tmp_path):
    source = tmp_path / "conf"
    (source / "model").mkdir(parents=True)
    (source / "model" / "a.yaml").write_text("C: 1\n")
    snapshot_config(source, tmp_path / "copy")
    before = config_digest([source])
    (source / "model" / "a.yaml").write_text("C: 2\n")
    snapshot_config(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "model" / "a.yaml").read_text() == "C: 1\n"
    assert config_digest([source]) != before == config_digest([tmp_path / "copy"])


def test_a_record_that_finished_counts_though_its_process_ended_badly(tmp_path):
    run = record.RunFolder(tmp_path / "3")
    run.path.mkdir()
    run.start({"a": 1}, {})
    before = JobState(3, (), status="running", attempts=1)
    run.finish({"objective": 0.5})
    state = judge(Job(3, ()), before, tmp_path, code=-9, timed_out=None)
    assert (state.status, state.objective, state.run) == ("finished", 0.5, "3")


def test_a_process_that_dies_without_a_word_is_a_failure_that_names_the_signal(tmp_path):
    run = record.RunFolder(tmp_path / "0")
    run.path.mkdir()
    run.start({"a": 1}, {})
    state = judge(Job(0, ()), JobState(0, (), status="running"), tmp_path, code=-9, timed_out=None)
    assert (state.status, state.reason) == ("failed", "killed by SIGKILL (out of memory?)")
    assert run.status == "failed"


def test_gpu_slots_spread_jobs_and_never_overfill_a_device():
    slots = GpuSlots(["0", "1"], gpus_per_job=1, jobs_per_gpu=2)
    assert slots.capacity == 4
    taken = [slots.take(n)["CUDA_VISIBLE_DEVICES"] for n in range(4)]
    assert sorted(taken) == ["0", "0", "1", "1"]
    assert taken[0] != taken[1]
    assert not slots.available
    slots.give_back(2)
    assert slots.available
    assert slots.take(9)["CUDA_VISIBLE_DEVICES"] == taken[2]


def test_a_job_of_two_gpus_gets_two_different_ones():
    slots = GpuSlots(["a", "b", "c"], gpus_per_job=2, jobs_per_gpu=1)
    assert slots.capacity == 1
    assert slots.take(0) == {"CUDA_VISIBLE_DEVICES": "a,b"}
    assert not slots.available


def test_more_gpus_than_there_are_is_an_error_and_none_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(ConfigError, match="gpus_per_job=2, but 1 GPUs"):
        GpuSlots(None, 2, 1)
    assert GpuSlots(None, 0, 1).take(0) == {}


def test_threads_are_shared_among_jobs_and_the_users_own_limit_wins(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_limit(10_000, None) == 1
    assert thread_limit(2, 3) == 3
    env = thread_environment(2)
    assert "OMP_NUM_THREADS" not in env
    assert env["OPENBLAS_NUM_THREADS"] == "2"
