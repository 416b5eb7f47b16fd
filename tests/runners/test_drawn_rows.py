"""Which rows a share of the data has, as the configuration asks."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits


def splits(*words):
    return load_splits(check_config(compose_config(["data=sample", *words])), Stages())


@pytest.mark.parametrize("way", ["stratified", "random", "balanced"])
def test_every_seed_draws_rows_of_its_own_where_it_is_asked_for(way):
    words = (f"subset={way}", "data_fraction=0.25")
    first, second = (splits(*words, f"seed={seed}").train.row_ids for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    one, other = (splits(*words, f"seed={seed}", "subset_seed=seed") for seed in (1, 2))
    assert len(one.train) == len(other.train) == len(first)
    assert set(one.train.row_ids) != set(other.train.row_ids)
    assert one.evaluation_checksum() == other.evaluation_checksum()
    fixed = splits(*words, "seed=5", "subset_seed=1").train.row_ids
    np.testing.assert_array_equal(fixed, one.train.row_ids)
    half = splits(f"subset={way}", "data_fraction=0.5", "seed=1", "subset_seed=seed").train.row_ids
    assert set(one.train.row_ids) <= set(half)


def test_a_number_of_rows_is_taken_exactly_and_a_share_of_them_held_out():
    words = ("subset=random", "subset_seed=seed", "seed=3")
    fewer, more = (splits(*words, f"data_fraction={n}") for n in (50, 300))
    assert (len(fewer.train), len(more.train)) == (50, 300)
    assert set(fewer.train.row_ids) < set(more.train.row_ids)
    assert fewer.validation.texts == more.validation.texts
    held = splits(*words, "data_fraction=50", "held_out=0.2")
    assert (len(held.train), len(held.validation)) == (40, 10)
    assert {*held.train.row_ids, *held.validation.row_ids} == set(fewer.train.row_ids)
    assert held.test.texts == fewer.test.texts
    with pytest.raises(ConfigError, match=r"data_fraction=99999: there are [\d,]+ training rows"):
        splits("data_fraction=99999")


@pytest.mark.parametrize("name", ["data_efficiency", "data_efficiency_transformer", "ablation_steps", "few_labels"])
def test_experiments_that_vary_the_share_draw_by_the_seed(name):
    assert compose_config([f"experiment={name}", "data=sample"]).subset_seed == "seed"
