"""A fingerprint changes with the science and with nothing else."""

from __future__ import annotations

import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.fingerprint import fingerprint, group_fingerprint
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


def groups(*overrides: str) -> set[str]:
    """The group fingerprints of two seeds."""
    plains = [to_plain(compose_config(["data=sample", f"seed={seed}", *overrides])) for seed in (1, 42)]
    return {group_fingerprint(plain, "abc") for plain in plains}


def test_rows_drawn_by_the_seed_are_another_experiment_with_one_group_of_seeds():
    drawn, usual = groups("data_fraction=0.5", "subset_seed=seed"), groups("data_fraction=0.5")
    assert (len(drawn), len(usual)) == (1, 1)
    assert drawn != usual
    assert groups("data_fraction=0.5", "subset_seed=7") not in (drawn, usual)


def test_who_draws_does_not_count_when_all_rows_are_taken():
    assert of("subset_seed=seed") == of("subset_seed=7") == of()
    assert of("subset_seed=seed", "data_fraction=0.5") != of("data_fraction=0.5")
    assert of("subset_seed=42", "data_fraction=0.5") == of("data_fraction=0.5")
