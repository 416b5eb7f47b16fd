"""What a study knows of its stages: what is done, and which runs are the best ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agnews_exp.study.plan import NotYet, Planner
from agnews_exp.study.settings import Machine, TransformerSettings, ask, choose_transformer
from agnews_exp.study.state import StudyFile


@pytest.fixture
def asked():
    return ask("fast", [])


@pytest.fixture
def state(tmp_path, asked):
    state = StudyFile(tmp_path / "outputs", asked.name)
    state.open(asked, {})
    return state


@pytest.fixture
def evidence(state, asked):
    return Planner(replace(asked, fraction=1.0), state, Machine(2, ()), None)


def write_run(state, name, val, *, test=0.5, cv=None, folds=0, **more):
    """Write a finished run's record as far as choosing looks at it."""
    folder = state.output_dir / "runs" / name
    (folder / "model").mkdir(parents=True)
    metrics = {"val/macro_f1": val, "test/macro_f1": test} | ({"cv/macro_f1": cv} if cv is not None else {})
    result = {
        "name": name, "fingerprint": f"of-{name}", "family": "classical", "data_fraction": 1.0, "metrics": metrics,
        "record": 2, "data": {"evaluation_checksum": "rows"}, "folds": {"cv/macro_f1": [cv] * folds} if folds else {},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result | more))
    (folder / "status.json").write_text('{"status": "finished"}')
    return folder


def finish(state, stage, *runs, status="finished", folders=()):
    step = {"command": f"agnews {stage}", "status": status, "reason": None, "seconds": 2.0}
    state.set_step(stage, step | {"runs": [r.name for r in runs], "sweeps": [], "folders": list(folders)})
    state.set_stage(stage, status)


def settle_rest(state, *done):
    for stage in ("classical", "more", "searches", "ensembles"):
        if stage not in done:
            state.set_stage(stage, "left_out", "asked for")


def test_the_best_run_is_the_best_on_validation_whatever_the_test_set_says(state, evidence):
    runs = [write_run(state, "good", 0.9, test=0.1), write_run(state, "lucky", 0.8, test=0.99)]
    finish(state, "classical", *runs)
    settle_rest(state, "classical")
    assert evidence.top_classical(1)[0].word == "runs/good"
    assert [run.path.name for run in evidence.top_classical(5)] == ["good", "lucky"]


def test_runs_that_tie_are_ordered_by_fingerprint_not_by_when_they_ran(state, evidence):
    finish(state, "classical", write_run(state, "a", 0.9, fingerprint="2"), write_run(state, "b", 0.9, fingerprint="1"))
    settle_rest(state, "classical")
    assert evidence.top_classical(1)[0].path.name == "b"


@pytest.mark.parametrize(
    "other", [{"data_fraction": 0.5}, {"family": "transformer"}, {"metrics": {"val/macro_f1": 0.99}}]
)
def test_what_does_not_compete_is_not_chosen(state, evidence, other):
    finish(state, "classical", write_run(state, "plain", 0.8), write_run(state, "other", 0.99, **other))
    settle_rest(state, "classical")
    assert evidence.top_classical(1)[0].path.name == "plain"


def test_a_choice_waits_for_every_stage_that_competes(state, evidence):
    finish(state, "classical", write_run(state, "plain", 0.8))
    with pytest.raises(NotYet) as lack:
        evidence.top_classical(1)[0]
    assert lack.value.reason == "waits for the stage 'more'"
    assert not lack.value.final
    settle_rest(state, "classical")
    assert evidence.top_classical(1)[0].path.name == "plain"


def test_nothing_is_chosen_for_good_where_all_that_competes_is_left_out(state, evidence):
    settle_rest(state)
    with pytest.raises(NotYet) as lack:
        evidence.top_classical(1)[0]
    assert lack.value.final


def test_runs_with_the_same_folds_are_ranked_by_cross_validation(state, evidence):
    runs = [write_run(state, f"ten{n}", 0.5, cv=0.1 * n, folds=10) for n in range(1, 4)]
    finish(state, "classical", *runs, write_run(state, "five", 0.5, cv=0.99, folds=5), write_run(state, "none", 0.99))
    settle_rest(state, "classical")
    assert [run.path.name for run in evidence.top_cross_validated(2)] == ["ten3", "ten2"]


def test_a_finished_command_is_done_only_while_all_that_it_made_is_there(state):
    run = write_run(state, "one", 0.9)
    (state.output_dir / "eda" / "fast").mkdir(parents=True)
    finish(state, "classical", run, folders=["eda/fast"])
    assert state.is_done("classical", "agnews classical")
    assert not state.is_done("classical", "agnews classical --other")
    (state.output_dir / "eda" / "fast").rmdir()
    assert not state.is_done("classical", "agnews classical")
    (state.output_dir / "eda" / "fast").mkdir()
    (run / "status.json").unlink()
    assert not state.is_done("classical", "agnews classical")


def test_a_word_that_names_a_run_is_timeless_in_the_names_of_sweeps(state, evidence):
    write_run(state, "20260101-101010-111111-0000a1", 0.9, fingerprint="abcdef0123456789")
    assert evidence.timeless("model.teacher=runs/20260101-101010-111111-0000a1") == "model.teacher=abcdef0123456789"
    assert evidence.timeless("model.teacher=runs/nosuch") == "model.teacher=runs/nosuch"
    assert evidence.timeless("model=logreg") == "model=logreg"


def test_the_next_call_takes_up_what_the_file_says(state, asked):
    finish(state, "classical", write_run(state, "one", 0.9))
    state.set_stage("more", "running")
    again = StudyFile(state.output_dir, asked.name)
    again.open(asked, {})
    assert again.status("classical") == "finished"
    assert (again.status("more"), again.reason("more")) == ("pending", "interrupted")
    stored = json.loads((state.folder / "study.json").read_text())
    assert [s["name"] for s in stored["stages"]] == list(asked.settings.stages)
    (classical,) = (s for s in stored["stages"] if s["name"] == "classical")
    assert (classical["runs"], classical["commands"], classical["seconds"]) == (["one"], ["agnews classical"], 2.0)


def settings(**candidates):
    return ask("fast", []).settings.model_copy(update={"transformers": candidates, "transformer": "auto"})


def candidate(**more):
    return TransformerSettings(words="model=tiny", **more)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ({"gpu": True}, "no GPU"),
        ({"package": "nosuchpackage", "extra": "minilm"}, "nosuchpackage is not installed (extra minilm)"),
    ],
)
def test_the_transformer_is_the_first_that_can_be_had_and_the_others_say_why(first, reason):
    several = settings(large=candidate(**first), small=candidate(), never=candidate())
    assert choose_transformer(several, Machine(2, ())) == ("small", {"large": reason})
    assert choose_transformer(settings(large=candidate(**first)), Machine(2, ())) == (None, {"large": reason})


def test_weights_that_are_neither_here_nor_on_the_hub_refuse_a_transformer(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    large = TransformerSettings(words="model=distilbert", gpu=True, hub=True)
    name, refused = choose_transformer(settings(large=large), Machine(2, ("0",)))
    assert name is None
    assert "distilbert-base-uncased is not in the cache" in refused["large"]
    local = TransformerSettings(words=f"model=distilbert model.pretrained_path={tmp_path}", gpu=True, hub=True)
    name, refused = choose_transformer(settings(large=local), Machine(2, ("0",)))
    assert name is None
    assert "lacks config.json and model.safetensors" in refused["large"]
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).touch()
    assert choose_transformer(settings(large=local), Machine(2, ("0",))) == ("large", {})
