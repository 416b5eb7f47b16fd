"""Mistyped and foreign names: the override to type stands in the error, or nothing where nothing fits."""

from __future__ import annotations

import re
import shlex

import pytest

from agnews_exp.config.compose import compose_config, known_overrides, list_groups
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.core.suggestions import suggest

SUGGESTED = {
    "batch_size=16": "trainer.batch_size=16",
    "bs=8": "trainer.batch_size=8",
    "per_device_train_batch_size=4": "trainer.batch_size=4",
    "trainer.batchsize=4": "trainer.batch_size=4",
    "epochs=3": "trainer.max_epochs=3",
    "num_train_epochs=3": "trainer.max_epochs=3",
    "max_epochs=2": "trainer.max_epochs=2",
    "lr=1e-4": "model=distilbert model.learning_rate=1e-4",
    "model.learning_rte=1": "model=distilbert model.learning_rate=1",
    "max_seq_length=64": "model=distilbert model.max_length=64",
    "C=10": "model.C=10",
    "gradient_accumulation_steps=2": "trainer.accumulate_grad_batches=2",
    "max_grad_norm=1": "trainer.gradient_clip_val=1",
    "patience=3": "trainer.early_stopping_patience=3",
    "gpus=1": "trainer.devices=1",
    "random_state=1": "seed=1",
    "cv=5": "evaluation.folds=5",
    "evaluation.fold=3": "evaluation.folds=3",
    "scoring=val/accuracy": "evaluation.primary=val/accuracy",
    "n_trials=5": "hydra.sweeper.n_trials=5",
    "train_file=a.csv": "data=csv data.train_file=a.csv",
    "text_column=body": "data=csv data.text_columns=body",
    "target=topic": "data=csv data.label_column=topic",
    "sep=tab": "data=csv data.delimiter=tab",
    "ngram_range=[1,3]": "features.blocks.word.ngram_range=[1,3]",
    "features.ngram_range=[1,2]": "features.blocks.word.ngram_range=[1,2]",
    "fraction=0.5": "data_fraction=0.5",
    "project=mine": "tracking.experiment=mine",
    "modle=logreg": "model=logreg",
    "model=naive_bayes": "model=multinomial_nb",
    "model=svm": "model=linear_svc",
    "model=xgb": "model=xgboost",
    "model=bert": "model=bert_base",
    "model=random_forest": "model=random_forest_100",
    "model=logistic_regression": "model=logreg",
    "features=tfidf": "features=word_tfidf",
    "+experiment=quickstart": "experiment=quickstart",
    "seed=0,1,2": "-m seed=0,1,2",
    "data.train_file=a=b.csv": "'data.train_file=\"a=b.csv\"'",
    "data.train_file=data (1).csv": "'data.train_file=\"data (1).csv\"'",
    "name=exp#1": "'name=\"exp#1\"'",
    "name=2024": "'name=\"2024\"'",
    "name=true": "'name=\"true\"'",
    "tags.note='it's'": "'tags.note=\"it'\"'\"'s\"'",
    "model==logreg": "model=logreg",
    "model:logreg": "model=logreg",
    "logreg": "model=logreg",
    "+seed=3": "python run.py seed=3",
    "seed=range(3)": "-m 'seed=range(3)'",
    "model=[logreg,ridge]": "python run.py -m model=logreg,ridge",
    "model.class_weight=choice(null,balanced)": "model.class_weight=null,balanced",
}

TOGETHER = {"tags.note='it's'": ("+tags.a=1",)}


def explained(*typed: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        check_config(compose_config(list(typed)))
    return error.value


THROUGH = ("batch_size=16", "lr=1e-4", "text_column=body", "evaluation.fold=3")
"""Unknown keys that go the whole way through composing; the others ask for suggestions, which is all that differs."""


def test_the_first_fix_is_the_override_that_was_meant():
    known = known_overrides(compose_config([]))
    for typed, meant in SUGGESTED.items():
        key, sign, value = typed.partition("=")
        whole = typed in THROUGH or not re.fullmatch(r"[A-Za-z_.]+", key) or key in known.choices or key in known.keys
        if whole or not sign or key.startswith("tags"):
            fix = explained(*TOGETHER.get(typed, ()), typed).fix
        else:
            fix = suggest(key, value, known)[0]
        assert fix is not None, typed
        assert fix.endswith(meant), (typed, fix)


def test_the_fixes_compose_when_they_are_pasted():
    words = [word for fix in SUGGESTED.values() if not fix.startswith("-m") for word in shlex.split(fix)]
    groups = list_groups()
    words = [word for word in words if word not in ("python", "run.py", "-m")]
    chosen = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    for group, _, choice in (word.partition("=") for word in chosen):
        assert choice in groups[group], choice
    words = [word for word in words if word.partition("=")[0] not in groups]
    values = [word for word in words if "(" not in word or "data (1)" in word]
    assert len(values) > 25
    linear = [word for word in values if word.startswith(("model.C", "model.class_weight", "features."))]
    compose_config(["data=csv", "hydra/sweeper=optuna", "model=distilbert", *(w for w in values if w not in linear)])
    # Of two values a sweep is made.
    compose_config([word.replace("null,", "") for word in linear])


def test_one_choice_of_a_group_is_taken_and_a_list_is_a_sweep(project):
    for words in (("model=[logreg,ridge]",), ("-m", "model=['logreg', ridge]", "seed=1,2")):
        done = project.run("data=sample", *words)
        assert done.returncode == 2
        assert "a run has one model; several are a sweep" in done.stderr
        assert "python run.py -m data=sample model=logreg,ridge" in done.stderr
    assert not (project.root / "outputs" / "sweeps").exists()


def test_nothing_is_suggested_where_nothing_fits():
    known = known_overrides(compose_config([]))
    for typed in ("foo", "zzzzqq", "model.nothing_like_it", "x"):
        assert suggest(typed, "1", known) == []
    error = explained("zzzzqq=4")
    assert error.fix is None
    assert "Did you mean" not in str(error)


def test_the_whole_command_is_printed_with_its_folders(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError) as error:
        compose_config(["model=logreg", "seed=0,1,2"], extra=[tmp_path])
    assert error.value.fix == f"python run.py -m --config-dir={tmp_path} model=logreg seed=0,1,2"
    said = str(explained("name=a,b"))
    assert "one text with a comma: 'name=\"a,b\"'; a list: 'name=[a,b]'" in said
    assert "one text" not in str(explained("seed=1,2"))


def test_a_model_that_does_not_exist_gets_the_command_that_lists_them():
    with pytest.raises(ConfigError) as error:
        compose_config(["model=gpt4"])
    assert error.value.fix == "agnews list model"
