"""What may be asked of `agnews study`, and which commands come of it."""

from __future__ import annotations

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from agnews_exp.config.compose import compose_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.study.plan import Planner
from agnews_exp.study.session import StudySession
from agnews_exp.study.settings import Machine, ask, launcher_words, profiles
from agnews_exp.study.state import StudyFile
from agnews_exp.sweeps.state import override_key
from agnews_exp.sweeps.sweepers import expand

MACHINE = Machine(cores=2, gpus=(), memory=16.0)


def planner(tmp_path, profile, *words, transformer="tiny"):
    asked = ask(profile, words)
    return Planner(asked, StudyFile(tmp_path, asked.name), MACHINE, transformer)


def data_fractions(command):
    return [word.partition("=")[2] for word in command.words if override_key(word) == "data_fraction"]


@pytest.mark.parametrize(
    ("profile", "word", "said"),
    [
        ("fats", None, "Did you mean 'fast'"),
        ("fast", "study.leave_out=[serches]", "Did you mean 'searches'"),
        ("fast", "study.optoins.trials=3", "Did you mean 'options'"),
        ("fast", "study.options.trails=3", "Did you mean 'trials'"),
        ("fast", "study.jobs=0", "study.jobs=0"),
        ("fast", "study.transformer=minilmm", "Did you mean 'minilm'"),
        ("fast", "model=logreg", "choose this themselves"),
        ("fast", "seed=7", "choose this themselves"),
        ("fast", "paths.output_dir=/x", "AGNEWS_ROOT"),
        ("fast", "data_fraction=0.1,0.5", "one number"),
        ("fast", "data_fraction=0", "one number"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(profile, word, said):
    with pytest.raises(ConfigError) as error:
        ask(profile, [] if word is None else [word])
    assert said in str(error.value)


def test_the_name_tells_studies_apart_that_ask_for_other_science_only():
    assert ask("fast", []).name == "fast"
    assert (
        ask("fast", ["study.leave_out=[eda]", "study.jobs=1", "tracking=none", "hydra.launcher.timeout=9"]).name
        == "fast"
    )
    other = ask("fast", ["data=ag_news", "data_fraction=0.05"])
    assert other.name.startswith("fast-")
    assert other.name == ask("fast", ["data_fraction=0.05", "data=ag_news"]).name
    assert other.name != ask("fast", ["data=ag_news", "data_fraction=0.1"]).name
    assert ask("fast", ["data=ag_news", "study.name=mine"]).name == "mine"


def test_the_commands_words_win_over_the_profiles(tmp_path):
    (command,) = planner(tmp_path, "fast", "data=csv", "data.train_file=a.csv", "tags.owner=me").commands("classical")
    words = ["data_fraction=0.25", "data=csv", "data.train_file=a.csv"]
    assert [w for w in command.words if w.startswith("data")] == words
    assert {
        "tags.owner=me",
        "tags.study=" + ask("fast", ["data=csv", "data.train_file=a.csv", "tags.owner=me"]).name,
    } <= set(command.words)


def test_stages_take_their_shares_of_the_studys_rows(tmp_path):
    plan = planner(tmp_path, "full", "data_fraction=0.1", transformer="minilm")
    assert data_fractions(plan.commands("classical")[0]) == ["0.1"]
    classical, transformer = plan.commands("data_efficiency")
    assert data_fractions(classical) == ["0.001,0.005,0.01,0.025,0.05,0.075,0.1"]
    assert data_fractions(transformer) == ["0.0005,0.00125,0.0025,0.005"]
    assert data_fractions(plan.commands("transformer")[0]) == ["0.005"]


def test_a_sweeps_name_follows_its_words_but_not_how_it_is_worked_off(tmp_path):
    def name(*words):
        return planner(tmp_path, "fast", "study.name=mine", *words).commands("classical")[0].sweep

    assert name() == name("study.jobs=1") == name("hydra.launcher.timeout=60")
    assert name() != name("data_fraction=0.5")


@pytest.mark.parametrize(
    ("machine", "jobs", "classical", "transformer"),
    [
        (Machine(4, (), 64.0), None, ["n_jobs=4"], ["n_jobs=1"]),
        (Machine(16, (), 8.0), None, ["n_jobs=4"], ["n_jobs=1"]),
        (Machine(1, (), 0.5), None, ["n_jobs=1"], ["n_jobs=1"]),
        (Machine(8, ("0",), 64.0), None, ["n_jobs=8"], ["n_jobs=1"]),
        (Machine(8, ("0", "1"), 64.0), None, ["n_jobs=8"], ["n_jobs=2", "gpus_per_job=1"]),
        (Machine(8, (), 64.0), 3, ["n_jobs=3"], ["n_jobs=3"]),
    ],
)
def test_a_classical_job_gets_a_core_and_a_transformer_all_of_them(machine, jobs, classical, transformer):
    for words, is_transformer in ((classical, False), (transformer, True)):
        expected = [f"hydra.launcher.{word}" for word in words]
        assert launcher_words(machine, jobs, transformer=is_transformer) == expected


def test_the_launchers_words_reach_the_sweeps(tmp_path):
    classical, transformer = planner(tmp_path, "full", "study.jobs=null").commands("seeds")
    assert "hydra.launcher.n_jobs=2" in classical.words
    assert "hydra.launcher.n_jobs=1" in transformer.words


def test_what_is_not_known_yet_stands_as_a_placeholder_and_waits(tmp_path):
    found = planner(tmp_path, "fast").commands("statistics")[0]
    assert "<top_cv:5>" in found.text
    assert found.missing == "waits for the stage 'classical'"
    assert not found.left_out


def test_without_any_transformer_its_commands_are_left_out_and_the_others_are_not(tmp_path):
    plan = planner(tmp_path, "full", transformer=None)
    assert all(command.left_out for command in plan.commands("ablations"))
    assert [command.left_out for command in plan.commands("seeds")] == [False, True]


def test_an_experiment_that_does_not_exist_is_left_out(tmp_path):
    word = "study.stages.eda.steps=[{words: 'run -m experiment=nosuch'}]"
    (command,) = planner(tmp_path, "fast", word).commands("eda")
    assert command.left_out
    assert command.missing == "there is no experiment=nosuch"


def test_a_package_that_is_missing_leaves_out_what_needs_it(tmp_path):
    word = "study.stages.eda.steps=[{words: list model, package: nosuchpackage, extra: boost}, {words: list data}]"
    first, second = planner(tmp_path, "fast", word).commands("eda")
    assert first.left_out
    assert first.missing == "nosuchpackage is not installed (extra boost)"
    assert second.missing is None


def test_estimates_follow_the_pace_of_the_stages_that_have_ended(tmp_path, capsys):
    def left(rows, cores):
        capsys.readouterr()
        StudySession(ask("full", []), tmp_path, rows, Machine(cores, ())).show_plan()
        said = capsys.readouterr().out
        hours, minutes, guess = re.search(r"about (?:(\d+) h )?(\d+)(?: min)? \((.*?)[,)]", said).groups()
        return 60 * int(hours or 0) + int(minutes), guess

    first, guessed = left(10_000, 2)
    assert guessed == "first guess"
    assert left(50_000, 2)[0] > first > left(10_000, 4)[0]
    state = StudyFile(tmp_path, "full")
    state.open(ask("full", []), {})
    step = {"command": "agnews x", "status": "finished", "reason": None, "runs": [], "sweeps": [], "folders": []}
    state.set_step("classical", step | {"seconds": 10 * 1240})
    state.set_stage("classical", "finished")
    assert left(10_000, 2)[0] > 5 * first
    assert left(10_000, 2)[1] == "at this machine's pace"


@pytest.mark.parametrize("profile", profiles())
def test_every_run_of_a_profile_composes(profile, tmp_path):
    plan, parser = planner(tmp_path, profile), OverridesParser.create()
    checked = 0
    for stage in ask(profile, []).settings.stages:
        for command in plan.commands(stage):
            if command.words[0] != "run" or command.missing:
                continue
            words = [w for w in command.words[1:] if w != "-m"]
            first = expand(parser.parse_overrides([w for w in words if "range(" not in w]))[0]
            sweeping = ["hydra.mode=RUN"] if command.sweep else []
            kept = [w for w in first if override_key(w) != "data"]
            compose_config([*kept, "data=sample", *sweeping])
            checked += 1
    assert checked > 10
