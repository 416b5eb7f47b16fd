"""Mistyped and foreign names: the override to type stands in the error, or nothing where nothing fits."""

from __future__ import annotations

import shlex

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.core.errors import ConfigError

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
    "model.class_weight=choice(null,balanced)": "model.class_weight=null,balanced",
}


@pytest.mark.parametrize("typed", SUGGESTED)
def test_the_first_fix_is_the_override_that_was_meant(typed):
    with pytest.raises(ConfigError) as error:
        compose_config([typed])
    assert error.value.fix is not None
    assert error.value.fix.endswith(SUGGESTED[typed])


@pytest.mark.parametrize("typed", [k for k, v in SUGGESTED.items() if not v.startswith("-m") and "null," not in v])
def test_the_fix_composes_when_it_is_pasted(typed):
    words = shlex.split(SUGGESTED[typed])
    source = ["data=csv"] if words[0].startswith("data.") else []
    sweeper = ["hydra/sweeper=optuna"] if words[0].startswith("hydra.sweeper.") else []
    compose_config([*source, *sweeper, *words])


@pytest.mark.parametrize("typed", ["foo=1", "zzzzqq=4", "model.nothing_like_it=1", "x=3"])
def test_nothing_is_suggested_where_nothing_fits(typed):
    with pytest.raises(ConfigError) as error:
        compose_config([typed])
    assert error.value.fix is None
    assert "Did you mean" not in str(error.value)


def test_a_model_that_does_not_exist_gets_the_command_that_lists_them():
    with pytest.raises(ConfigError) as error:
        compose_config(["model=gpt4"])
    assert error.value.fix == "agnews list model"
