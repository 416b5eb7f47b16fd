"""Which rows a share of the data has, as the configuration asks."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
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


@pytest.mark.parametrize("name", ["data_efficiency", "data_efficiency_transformer", "ablation_steps"])
def test_experiments_that_vary_the_share_draw_by_the_seed(name):
    assert compose_config([f"experiment={name}", "data=sample"]).subset_seed == "seed"
