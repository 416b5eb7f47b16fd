"""scripts/faults.py: the judge knows bad ends when it sees them, and a small campaign has none."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from fault_kinds import verdicts as labs  # noqa: E402
from fault_kinds.lab import COMMANDS  # noqa: E402
from fault_kinds.storage import flip, truncate  # noqa: E402

from agnews_exp.tracking import record  # noqa: E402

CLEAN = labs.Done(0, "all well")


def make_record(outputs, name, score=0.5, fingerprint="abc"):
    """Write a finished record with a single score."""
    folder = record.RunFolder(outputs / "runs" / name)
    folder.path.mkdir(parents=True)
    (folder.path / record.PREDICTIONS).write_bytes(b"predictions")
    data = {"evaluation_checksum": "x"}
    folder.finish({"name": name, "fingerprint": fingerprint, "metrics": {"val/macro_f1": score}, "data": data})
    return folder


@pytest.fixture
def expected(tmp_path):
    """Answers of an undisturbed run."""
    make_record(tmp_path / "truth", "a")
    return {fingerprint: answer for _, fingerprint, answer in labs.read_answers(tmp_path / "truth")}


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        (CLEAN, labs.Outcome.RIGHT),
        (labs.Done(2, "error: the disk is full"), labs.Outcome.CLEAR),
        (labs.Done(None, "working"), labs.Outcome.HANG),
        (labs.Done(1, "Traceback (most recent call last)\n  x\nerror: This is a bug"), labs.Outcome.TRACEBACK),
        (labs.Done(-11, "Segmentation fault"), labs.Outcome.TRACEBACK),
    ],
)
def test_ends_of_commands_are_told_apart(tmp_path, expected, done, outcome):
    make_record(tmp_path / "outputs", "a")
    assert labs.judge(tmp_path / "outputs", done, expected, 1).outcome is outcome


def test_another_score_other_predictions_and_another_configuration_are_wrong_numbers(tmp_path, expected):
    make_record(tmp_path / "score", "a", score=0.6)
    make_record(tmp_path / "configuration", "a", fingerprint="other")
    changed = make_record(tmp_path / "predictions", "a")
    (changed.path / record.PREDICTIONS).write_bytes(b"other")
    for name in ("score", "configuration", "predictions"):
        assert labs.judge(tmp_path / name, CLEAN, expected, 1).outcome is labs.Outcome.WRONG


def test_a_record_that_is_gone_or_never_came_is_lost_work(tmp_path, expected):
    outputs = tmp_path / "outputs"
    folder = make_record(outputs, "a")
    before = [name for name, _, _ in labs.read_answers(outputs)]
    assert labs.judge(outputs, CLEAN, expected, 2).outcome is labs.Outcome.LOST
    assert labs.judge(outputs, labs.Done(3, "error: no"), expected, 1, may_fail=False).outcome is labs.Outcome.LOST
    shutil.rmtree(folder.path)
    assert labs.judge(outputs, labs.Done(3, "error: no"), expected, 1, before).outcome is labs.Outcome.LOST


def test_damages_change_one_bit_or_cut_the_end(tmp_path):
    path, content = tmp_path / "file", bytes(range(100))
    path.write_bytes(content)
    flip(path, random.Random(1))
    assert sum((a ^ b).bit_count() for a, b in zip(path.read_bytes(), content, strict=True)) == 1
    path.write_bytes(content)
    truncate(path, random.Random(1))
    assert len(path.read_bytes()) < 100
    assert content.startswith(path.read_bytes())


def test_a_changed_digit_in_a_finished_record_is_noticed(tmp_path):
    folder = make_record(tmp_path, "a", score=0.75)
    path = folder.path / record.RESULT
    path.write_text(path.read_text().replace("0.75", "0.95"))
    assert json.loads(path.read_text())["metrics"] == {"val/macro_f1": 0.95}
    assert folder.result() is None
    record.remember(tmp_path, "abc", folder.path)
    assert record.recall(tmp_path, "abc") is None


def campaign(*words):
    """Run the script; return what it printed."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "faults.py"), "--times", "1", "--notes", "--only", *words],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_damaged_files_are_never_read_as_other_numbers():
    said = campaign(
        "damaged-result-read", "damaged-predictions-read", "damaged-model-read", "damaged-checkpoint-read",
        "damaged-record",
    )  # fmt: skip
    assert said.count("clear error: ") >= 20  # half of 40 reads, at the very least, are of files that matter
    assert "skipped: " not in said


@pytest.mark.slow
def test_a_killed_run_too_little_memory_and_a_dead_server_end_well():
    said = campaign("kill-run", "little-memory", "server-gone")
    assert "kill-run: right result" in said
    assert "little-memory: clear error: " in said
    assert "server-gone: right result" in said


def test_every_command_of_the_campaign_is_one_that_is_understood():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from agnews_exp.study.settings import ask

    for kind, (words, _) in COMMANDS.items():
        if words[:2] == ("agnews", "study"):
            study = ask(words[2], words[3:])
            assert [study.settings.options[stage].count("hydra.sweeper.grids") for stage in ("classical", "more")] == [
                1,
                1,
            ]
        else:
            assert OverridesParser.create().parse_overrides([word for word in words if word != "-m"]), kind
