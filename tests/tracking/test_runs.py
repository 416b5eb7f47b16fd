"""A word means one run or is refused with a list; the newest is the one that ended last."""

from __future__ import annotations

import pytest

from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.tracking import record
from agnews_exp.tracking.runs import Run, find, find_runs, runs

A, B = "runs/20260101-000000-000000-aaaaaa", "runs/20260102-000000-000000-bbbbbb"


@pytest.fixture
def project(records):
    """Two runs of one name, an older run with one of its own, and a sweep with a job of its own and a reused one."""
    records.finished(B, "name=other", fingerprint="b" * 16)
    records.finished(A, "seed=1", fingerprint="a" * 16)
    records.sweep("grid-1", {0: {"status": "finished", "run": "0"}, 12: {"status": "finished", "run": f"../../{A}"}})
    records.finished("sweeps/grid-1/0", "seed=2", fingerprint="c" * 16, score=0.7)
    return records


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("other", B), ("other-bbbb", B), ("multinomial_nb-word_tfidf-aaaa", A), ("multinomial_nb-word_tfidf-a", A),
        ("aaaaaa", A), ("20260102", B), ("a" * 8, A), ("latest", "sweeps/grid-1/0"), ("grid-1/0", "sweeps/grid-1/0"),
        ("grid/0", "sweeps/grid-1/0"), ("sweeps/grid-1/0", "sweeps/grid-1/0"), ("grid-1/12", A), (A, A),
        (A.removeprefix("runs/"), A),
    ],
)  # fmt: skip
def test_a_word_finds_its_run(project, word, place):
    assert find(project.plain(), word).folder == project.outputs / place


def test_a_name_of_two_runs_is_refused_with_both_their_dates_and_their_scores(project):
    with pytest.raises(ConfigError) as refused:
        find(project.plain(), "multinomial_nb-word_tfidf")
    lines = str(refused.value).splitlines()
    assert "fits 2 runs" in lines[0]
    assert "multinomial_nb-word_tfidf-aaaa" in lines[1]
    assert "val/macro_f1 0.8000" in lines[1]
    assert "grid-1/0" in lines[2]
    assert "val/macro_f1 0.7000" in lines[2]
    assert f"{Run(project.outputs / A).when.astimezone():%Y-%m-%d %H:%M}" in lines[1]


def test_repeats_of_one_and_the_same_run_are_no_ambiguity(project):
    again = project.finished("runs/20260103-000000-000000-cccccc", "name=other", fingerprint="b" * 16)
    assert find(project.plain(), "other").folder == again.path


def test_a_name_that_was_given_for_a_stored_run_finds_it(project):
    record.add_name(project.outputs, "a" * 16, "mine")
    assert find(project.plain(), "mine").folder == project.outputs / A


def test_runs_stand_in_the_order_in_which_they_ended_whatever_their_folders_are_called(project):
    places = [run.folder.relative_to(project.outputs).as_posix() for run in runs(project.plain())]
    assert places == [B, A, "sweeps/grid-1/0"]


@pytest.mark.parametrize("word", ["multinomial_nb-word_tfidg", "nothing-like-it"])
def test_an_unknown_word_names_the_nearest(project, word):
    with pytest.raises(ConfigError, match="No finished run") as refused:
        find(project.plain(), word)
    assert ("Did you mean" in str(refused.value)) == word.startswith("multinomial")


def test_a_folder_whose_run_has_not_finished_or_is_damaged_is_told_apart(project):
    project.begun("runs/x")
    with pytest.raises(ConfigError, match="its status is running"):
        find(project.plain(), "x")
    (project.outputs / A / "result.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        find(project.plain(), A)


def test_several_words_give_each_run_once_in_their_order(project):
    found = find_runs(project.plain(), ["other", "aaaaaa", "other-bbbb"])
    assert [folder.path for folder in found] == [project.outputs / B, project.outputs / A]
