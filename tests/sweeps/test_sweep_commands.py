"""`agnews sweeps list|best` on stored sweeps: what they print, and what they say when something is missing."""

from __future__ import annotations

import argparse

import pytest

from agnews_exp.core.errors import ConfigError
from agnews_exp.sweeps.commands import add_parsers
from agnews_exp.sweeps.replay import repeat_command
from agnews_exp.sweeps.state import Job, JobState, SweepFolder, find_sweep, judge
from agnews_exp.tracking.record import RunFolder, write_json


def command(output_dir, *words: str) -> None:
    """Run a sub-command of `agnews`."""
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers(required=True))
    options = parser.parse_args([*words, f"--output-dir={output_dir}"])
    options.handler(options)


def stored(output_dir, name: str, states: list[JobState], **info: object) -> SweepFolder:
    """A sweep as an earlier call left it."""
    folder = SweepFolder(output_dir / "sweeps" / name)
    (folder.path / "jobs").mkdir(parents=True)
    common = {"status": "finished", "total": len(states), "primary": "val/macro_f1", "maximise": True}
    folder.update(**common | {"swept": ["model.C"], "created": "2026-01-02T03:04:05+00:00"} | info)
    for state in states:
        folder.store(state)
    return folder


@pytest.fixture
def output_dir(tmp_path, monkeypatch):
    """Two sweeps: a search with a pruned and a failed trial, and one with two goals."""
    monkeypatch.delenv("COLUMNS", raising=False)
    words = [(f"model.C={value}", "evaluation.score_test=False") for value in ("0.123456789", "1", "2", "3")]
    states = [
        JobState(0, words[0], status="finished", objective=0.9),
        JobState(1, words[1], status="finished", objective=0.8),
        JobState(2, words[2], status="pruned", objective=0.95),
        JobState(3, words[3], status="failed", reason="it broke"),
    ]
    stored(tmp_path, "search-1", states, kind="search")
    stored(tmp_path, "search-2", states[:2], maximise=None)
    front = [{"trial": n, "values": {"val/macro_f1": 0.9 - n / 10, "latency": 2.0 - n}} for n in (0, 1)]
    objectives = ["val/macro_f1", "latency"]
    write_json(tmp_path / "sweeps" / "search-2" / "best.json", {"objectives": objectives, "best": front})
    return tmp_path


def test_the_list_counts_pruned_trials_as_done_and_never_as_the_best(output_dir, monkeypatch, capsys):
    command(output_dir, "sweeps", "list")
    head, one, two = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["sweep", "state", "done", "failed", "best"]
    assert one.split() == [
        *("search-1", "finished", "3", "of", "4", "(1", "pruned)", "1", "0.9000", "val/macro_f1", "2026-01-02", "C"),
    ]  # fmt: skip
    assert "several goals" in two
    (output_dir / "sweeps" / "search-1").rename(output_dir / "sweeps" / f"search-{'of-a-long-name-' * 6}")
    monkeypatch.setenv("COLUMNS", "80")
    command(output_dir, "sweeps", "list")
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert any("0.9000  val/macro_f1" in line for line in lines), "the name gives way, and no number"


def test_the_best_job_is_printed_with_a_command_that_scores_the_test_set(output_dir, capsys):
    command(output_dir, "sweeps", "best", "search-1")
    shown, run, after = capsys.readouterr().out.splitlines()
    assert shown == "#0  model.C=0.1235  val/macro_f1 0.9000"
    assert run.startswith("python run.py --config-path=")
    assert run.endswith("conf model.C=0.123456789 tags.best_of=search-1")
    assert "agnews sweeps best search-1 --run" in after


def test_of_several_goals_the_pareto_set_is_shown_and_one_must_be_chosen(output_dir, capsys):
    command(output_dir, "sweeps", "best", "search-2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["0", "0.9000", "2.0000", "model.C=0.1235"]
    assert lines[2].split() == ["1", "0.8000", "1.0000", "model.C=1"]
    with pytest.raises(ConfigError, match="--job N --run"):
        command(output_dir, "sweeps", "best", "search-2", "--run")
    command(output_dir, "sweeps", "best", "search-2", "--job=1")
    assert "model.C=1 " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"no finished job 3\.\n  finished: 0, 1"):
        command(output_dir, "sweeps", "best", "search-2", "--job=3")


def test_a_sweep_is_found_by_the_beginning_of_its_name_if_that_is_unique(output_dir):
    sweeps = output_dir / "sweeps"
    stored(output_dir, "search-12", [])
    assert find_sweep(sweeps, "search-2").name == "search-2"
    assert find_sweep(sweeps, "search-1").name == "search-1"
    with pytest.raises(ConfigError, match="the beginning of 3 sweeps: search-1, search-12, search-2"):
        find_sweep(sweeps, "search")
    with pytest.raises(ConfigError, match="Did you mean 'search-1'"):
        find_sweep(sweeps, "serch-1")


def test_without_any_sweep_the_message_says_how_to_start_one(tmp_path, capsys):
    command(tmp_path, "sweeps", "list")
    assert "python run.py -m " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"python run\.py -m "):
        command(tmp_path, "sweeps", "show", "any")


def test_a_job_of_an_experiment_is_repeated_as_a_single_run_from_all_copied_folders(tmp_path):
    words = ("experiment=tiny_search", "model.dim=16")
    assert repeat_command(words) == "python run.py experiment=tiny_search model.dim=16 hydra.mode=RUN"
    configs = [tmp_path / "conf", tmp_path / "conf_1"]
    expected = f"python run.py --config-path={configs[0]} --config-dir={configs[1]} seed=1"
    assert repeat_command(["seed=1"], configs) == expected


def test_a_job_is_judged_by_the_goal_of_its_search(tmp_path):
    run = RunFolder(tmp_path / "0")
    run.path.mkdir()
    run.start({"a": 1}, {})
    run.finish({"objective": 0.5, "metrics": {"val/log_loss": 1.25}, "timings": {"fit": 3.0}})
    before = JobState(0, (), status="running")
    for objective, value in ((None, 0.5), ("val/log_loss", 1.25), ("time/fit", 3.0), ("absent", None)):
        assert judge(Job(0, ()), before, tmp_path, code=0, timed_out=None, objective=objective).objective == value
