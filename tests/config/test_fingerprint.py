"""A fingerprint changes with the science and with nothing else."""

from __future__ import annotations

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import fingerprint
from agnews_exp.config.validation import to_plain


def of(*overrides: str, data: str = "abc") -> str:
    return fingerprint(to_plain(compose_config(["data=sample", *overrides])), data)


@pytest.mark.parametrize(
    "override",
    ["seed=1", "split_seed=1", "data_fraction=0.5", "model.C=2", "features.blocks.word.min_df=4", "model=logreg",
     "subset=random", "data.validation_size=0.2", "features=word_tfidf"],
)  # fmt: skip
def test_scientific_change_changes_it(override):
    assert of(override) != of()


@pytest.mark.parametrize(
    "override",
    ["paths.output_dir=/elsewhere", "tracking=none", "trainer.n_jobs=1", "name=other", "tags={a: b}", "force=true",
     "tracking.experiment=other", "evaluation.latency_repeats=9", "paths.mlruns_dir=/m"],
)  # fmt: skip
def test_anything_else_does_not(override):
    assert of(override) == of()


def test_other_rows_change_it():
    assert of(data="other") != of()


def test_other_source_of_the_same_rows_does_not_change_it(tmp_path):
    here = fingerprint(to_plain(compose_config(["data=ag_news", f"data.dir={tmp_path}"])), "abc")
    hub = fingerprint(to_plain(compose_config(["data=ag_news", "data.dir=null"])), "abc")
    assert here == hub
