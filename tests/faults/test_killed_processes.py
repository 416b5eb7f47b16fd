"""Processes that somebody kills: the reason names memory, and so does what to do about it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from agnews_exp.core.process import explain_exit
from agnews_exp.runners.distributed import _failure
from agnews_exp.sweeps.session import _remedy
from agnews_exp.sweeps.state import Job, JobState, judge

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from fault_kinds import memory

OVERRIDES = ("model=nb",)


def ended(folder, code, timed_out=None):
    return judge(Job(0, OVERRIDES), JobState(0, OVERRIDES, "running"), folder, code=code, timed_out=timed_out)


@pytest.mark.parametrize(
    ("code", "timed_out", "killed"),
    [(-signal.SIGKILL, None, True), (-signal.SIGKILL, 15.0, False), (-signal.SIGSEGV, None, False), (1, None, False)],
)
def test_only_a_kill_that_is_no_timeout_is_taken_for_a_lack_of_memory(tmp_path, code, timed_out, killed):
    state = ended(tmp_path, code, timed_out)
    assert state.status == "failed"
    assert state.was_killed is killed
    assert ("out of memory" in state.reason) is killed
    assert ("hydra.launcher.n_jobs=1" in _remedy([state])) is killed


def test_a_job_that_finished_after_a_kill_is_no_longer_a_killed_one(tmp_path):
    path = tmp_path / "state.json"
    ended(tmp_path, -signal.SIGKILL).write(path)
    state = JobState.read(path)
    assert state.was_killed
    assert not JobState(0, OVERRIDES, "finished", exit_code=0).was_killed


def test_a_stored_state_that_is_no_state_is_none(tmp_path):
    path = tmp_path / "state.json"
    for content in ("{}", "[]", '{"num": 1}', '{"overrides": []}', '{"num": 1, "overrides": null}'):
        path.write_text(content)
        assert JobState.read(path) is None, content


class Ended:
    """A process that has ended with a code."""

    def __init__(self, code):
        self.exit_code = code


def test_a_killed_process_of_a_distributed_training_names_memory(tmp_path):
    (tmp_path / "rank-1.log").write_text("the last line\n")
    message = str(_failure(tmp_path, [Ended(-signal.SIGKILL)], wait=0))
    assert explain_exit(-signal.SIGKILL) in message
    assert "the last line" in message


def test_a_control_group_is_made_with_its_limit_or_refused_with_a_reason(tmp_path):
    assert "cgroup v2" in memory.why_no_group(tmp_path)
    (tmp_path / "cgroup.subtree_control").write_text("cpu io\n")
    assert "memory controller" in memory.why_no_group(tmp_path)
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    assert memory.why_no_group(tmp_path) is None
    with memory.limited_group(300, tmp_path) as group:
        assert (group / "memory.max").read_text() == str(300 << 20)
        assert group.parent == tmp_path
