from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import adjust


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("benjamini_hochberg", "fdr_bh")])
def test_adjusted_p_values_equal_statsmodels(ours, theirs):
    rng = np.random.default_rng(0)
    for size in (2, 3, 10, 57):
        p = rng.beta(0.5, 2, size=size).round(3)  # with ties
        assert adjust(p, ours) == pytest.approx(multipletests(p, method=theirs)[1])


def test_the_worked_example_of_holm():
    # Holm (1979) steps down: .01 * 4, .02 * 3, .03 * 2 (raised to .06), .04 (raised to .06).
    assert adjust([0.04, 0.01, 0.03, 0.02], "holm") == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_a_family_of_one_is_not_adjusted():
    assert adjust([0.03], "holm").tolist() == adjust([0.03], "benjamini_hochberg").tolist() == [0.03]
    assert adjust([], "holm").tolist() == []


def test_what_is_no_p_value_is_refused():
    with pytest.raises(DataError, match="between 0 and 1"):
        adjust([0.5, 1.5])
    with pytest.raises(DataError, match="between 0 and 1"):
        adjust([0.5, np.nan])
    with pytest.raises(ConfigError, match="Unknown adjustment: 'bonferroni'"):
        adjust([0.5, 0.5], "bonferroni")
