"""A word means one run or is refused with a list; the newest is the one that ended last."""

from __future__ import annotations

import pytest

from agnews_exp.core.errors import ConfigError, StorageError
from agnews_exp.tracking import record
from agnews_exp.tracking.runs import Run, find, find_any, find_runs, runs

A, B = "runs/20260101-000000-000000-aaaaaa", "runs/20260102-000000-000000-bbbbbb"


@pytest.fixture
def project(records):
    """Two runs of one name, an older run with one of its own, and a sweep with a job of its own and a reused one."""
    records.finished(B, "name=other", fingerprint="b" * 16)
    records.finished(A, "seed=1", fingerprint="a" * 16)
    records.sweep("grid-1", {0: {"status": "finished", "run": "0"}, 12: {"status": "finished", "run": f"../../{A}"}})
    records.finished("sweeps/grid-1/0", "seed=2", fingerprint="c" * 16, score=0.7)
    return records


def test_a_word_finds_its_run(project):
    words = {
        A: ["multinomial_nb-word_tfidf-aaaa", "multinomial_nb-word_tfidf-a", "aaaaaa", "aaaa", "a" * 8, "grid-1/12", A,
            A.removeprefix("runs/")],
        B: ["other", "other-bbbb", "20260102"],
        "sweeps/grid-1/0": ["latest", "grid-1/0", "grid/0", "sweeps/grid-1/0"],
    }  # fmt: skip
    for place, several in words.items():
        for word in several:
            assert find(project.plain(), word).folder == project.outputs / place, word


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


def test_a_run_that_has_not_finished_is_found_too_where_it_need_not_have(project):
    begun = project.begun("runs/20260104-000000-000000-dddddd", "name=going")
    assert find_any(project.plain()).path == begun.path, "the one that was heard of last"
    for word in ("20260104", "dddddd", str(begun.path)):
        assert find_any(project.plain(), word).path == begun.path, word
    assert find_any(project.plain(), "grid-1/0").path == project.outputs / "sweeps/grid-1/0"
    assert find_any(project.plain(), "other").path == project.outputs / B
    with pytest.raises(ConfigError, match="nobody"):
        find_any(project.plain(), "nobody")


def test_repeats_of_one_and_the_same_run_are_no_ambiguity(project):
    again = project.finished("runs/20260103-000000-000000-cccccc", "name=other", fingerprint="b" * 16)
    assert find(project.plain(), "other").folder == again.path


def test_a_name_that_was_given_for_a_stored_run_finds_it(project):
    record.RunFolder(project.outputs / A).add_name("mine")
    record.RunFolder(project.outputs / A).add_name("multinomial_nb-word_tfidf")  # asked for again without a name
    for word in ("mine", "min", "mine-aaaa", "multinomial_nb-word_tfidf-aaaa"):
        found = find(project.plain(), word)
        assert found.folder == project.outputs / A
        assert found.given_name == "mine"


def test_the_beginning_of_the_name_that_a_sweeps_job_was_given_finds_it(project):
    project.finished("sweeps/grid-1/1", "name=rich-grams", fingerprint="d" * 16)
    assert find(project.plain(), "rich").folder == project.outputs / "sweeps/grid-1/1"


def test_a_job_that_never_began_is_not_the_beginning_of_another(project):
    project.finished("sweeps/grid-1/23", fingerprint="d" * 16)
    with pytest.raises(ConfigError, match="No finished run is called 'grid-1/2'"):
        find(project.plain(), "grid-1/2")


def test_a_command_that_uses_a_run_says_which(project, capsys):
    find_runs(project.plain(), ["20260101"])
    said = capsys.readouterr().err
    assert said.startswith("run    multinomial_nb-word_tfidf-aaaa  20")
    assert "val/macro_f1 0.8000" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_renamed_project_finds_its_runs_by_their_mlflow_ids(project):
    record.write_json(
        project.outputs / A / "tracking.json", {"run_id": "0" * 32, "stores": {"1-1": {"run_id": "1" * 32}}}
    )
    old = project.root
    project.root = old.with_name("renamed")
    old.rename(project.root)
    for word in ("0" * 32, "1" * 32, "grid-1/12", "latest"):
        assert find(project.plain(), word).folder.is_relative_to(project.root)


def test_the_first_command_on_an_empty_project_says_how_to_begin(records):
    with pytest.raises(ConfigError, match="no finished run in") as refused:
        find(records.plain(), "latest")
    assert "experiment=quickstart" in str(refused.value)


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
